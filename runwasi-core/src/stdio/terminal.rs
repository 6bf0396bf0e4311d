//! A terminal: a pty whose slave is the guest's three streams and whose master is copied from and to what containerd gave.
//!
//! ```text
//!  client ──▶ stdin FIFO ──▶ copy in ──▶ ┌────────┐ line discipline: echo, ^H, CR and NL ┌───────┐
//!                               │^C, ^\  │ master │◀────────────────────────────────────▶│ slave │◀──▶ guest
//!  client ◀── stdout FIFO ◀── copy out ◀─└────────┘                                      └───────┘
//!                               └▶ signals
//! ```
//!
//! The line discipline is the kernel's. Only its signals are ours to give: the kernel sends them to the terminal's foreground
//! processes, and a guest is no process. ^Z does nothing, as to the init of a container: nobody there could let it go on.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    error::StdioError,
    fifo,
    pty::{Size, Slave},
    streams::Output,
};
use crate::{engine::signal::Signal, shutdown::Tasks, sys};

/// What is copied at once; the kernel takes and gives no more than 4 KiB of a terminal at a time.
const CHUNK: usize = 4 << 10;

/// The terminal of a process: the master's side.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<AsyncFd<File>>,
    slave: Arc<Slave>,
    input: fifo::Input,
    output: Output,
    tasks: Tasks,
    /// Taken by the first `begin`: the copying that it starts ends with the terminal, and says when it has copied all.
    unbegun: Mutex<Option<DropGuard>>,
    stop: CancellationToken,
    copied: CancellationToken,
}

impl Terminal {
    /// Makes a terminal of the system's usual settings. What is typed will come from `input`, what is printed goes to `output`.
    pub(super) fn open(
        input: fifo::Input,
        output: Output,
        tasks: &Tasks,
    ) -> io::Result<(Self, Arc<Slave>)> {
        let (master, slave) = sys::terminal::open()?;
        let slave = Arc::new(Slave(RwLock::new(Some(Arc::new(sys::watch(slave)?)))));
        let master = Arc::new(sys::watch(master)?);
        let (stop, copied) = (CancellationToken::new(), CancellationToken::new());
        let unbegun = Mutex::new(Some(copied.clone().drop_guard()));
        let terminal = Self {
            master,
            slave: slave.clone(),
            input,
            output,
            tasks: tasks.clone(),
            unbegun,
            stop,
            copied,
        };
        Ok((terminal, slave))
    }

    /// Opens stdin and begins to copy; a second call changes nothing.
    pub(super) fn begin(
        &self,
        interrupt: impl Fn(Signal) + Send + 'static,
    ) -> Result<(), StdioError> {
        self.input.open()?;
        let unbegun = self.unbegun.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(copied) = unbegun else { return Ok(()) };
        let (master, output, stop) = (self.master.clone(), self.output.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(copy_out(&master, &output)).await;
            drop(copied);
        });
        if self.input.is_nothing() {
            return Ok(());
        }
        let (master, input, stop) = (self.master.clone(), self.input.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let copying = stop.run_until_cancelled(copy_in(&input, &master, interrupt));
            if let Some(Err(error)) = copying.await {
                tracing::debug!(%error, "nothing more is typed at a terminal");
            }
        });
        Ok(())
    }

    pub(super) fn close_input(&self) {
        self.input.close();
    }

    /// Where what is printed goes.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Waits, after the guest's end, until everything printed has been copied; at most until the deadline.
    pub(super) async fn drained(&self, deadline: Instant) {
        self.slave.close();
        self.unbegun.lock().unwrap_or_else(PoisonError::into_inner).take();
        if timeout_at(deadline, self.copied.cancelled()).await.is_err() {
            tracing::debug!("a terminal's output is not read to its end");
        }
    }

    /// Gives it another size. Guests are not told: WASI has neither the size nor SIGWINCH.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        sys::terminal::set_size(self.master.get_ref(), size.columns, size.rows)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.slave.close();
        self.stop.cancel();
    }
}

/// Copies what is printed, to its end: the kernel answers `EIO` once the slave is closed and everything has been read.
async fn copy_out(master: &AsyncFd<File>, output: &Output) {
    let mut buffer = vec![0; CHUNK];
    let mut lost = false;
    while let Ok(read @ 1..) =
        master.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await
    {
        if let Err(error) = output.write_all(&buffer[..read]).await
            && !std::mem::replace(&mut lost, true)
        {
            // A full disk, say. A guest that waits for its terminal for ever would be worse.
            tracing::warn!(%error, "what is printed on a terminal is lost");
        }
    }
}

/// Copies what is typed, and tells of the signals among it.
async fn copy_in(
    input: &fifo::Input,
    master: &AsyncFd<File>,
    interrupt: impl Fn(Signal),
) -> io::Result<()> {
    let keys = sys::terminal::keys(master.get_ref())?;
    let mut buffer = vec![0; CHUNK];
    loop {
        input.readable().await?;
        let typed = match input.try_read(&mut buffer) {
            // The end of a line that is begun, and then of the input.
            Ok(0) => return write_all(master, &[keys.end, keys.end]).await,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        // Echoed first, if the terminal takes it: a guest that does not read must not keep ^C from being heard.
        let taken = match master.try_io(Interest::WRITABLE, |mut file| file.write(typed)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            taken => taken?,
        };
        typed.iter().filter_map(|key| keys.signal(*key)).for_each(&interrupt);
        write_all(master, &typed[taken..]).await?;
    }
}

async fn write_all(master: &AsyncFd<File>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = master.async_io(Interest::WRITABLE, |mut file| file.write(bytes)).await?;
        bytes = &bytes[written..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::{net::unix::pipe, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A terminal and the ends a client has.
    struct Bed {
        terminal: Terminal,
        slave: Arc<Slave>,
        typing: pipe::Sender,
        seen: pipe::Receiver,
        signals: mpsc::Receiver<Signal>,
        _directory: tempfile::TempDir,
    }

    impl Bed {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let [stdin, stdout] = ["in", "out"].map(|name| directory.path().join(name));
            for path in [&stdin, &stdout] {
                mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
            }
            let seen = pipe::OpenOptions::new().open_receiver(&stdout).unwrap();
            let output =
                Output::Fifo(fifo::Output::open("stdout", &stdout, Instant::now()).await.unwrap());
            let input = fifo::Input::find(&stdin).unwrap();
            let (terminal, slave) = Terminal::open(input, output, &Tasks::new(SOON)).unwrap();
            let (sender, signals) = mpsc::channel();
            terminal.begin(move |signal| sender.send(signal).unwrap()).unwrap();
            let typing = pipe::OpenOptions::new().open_sender(&stdin).unwrap();
            Self { terminal, slave, typing, seen, signals, _directory: directory }
        }

        async fn sees(&self, text: &str) {
            let mut seen = Vec::new();
            while seen.len() < text.len() {
                timeout(SOON, self.seen.readable()).await.unwrap().unwrap();
                let mut buffer = [0; 256];
                match self.seen.try_read(&mut buffer) {
                    Ok(read) => seen.extend_from_slice(&buffer[..read]),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
            assert_eq!(String::from_utf8(seen).unwrap(), text);
        }

        async fn types(&self, text: &str) {
            self.typing.writable().await.unwrap();
            assert_eq!(self.typing.try_write(text.as_bytes()).unwrap(), text.len());
        }

        async fn reads(&self) -> String {
            let mut buffer = [0; 64];
            loop {
                timeout(SOON, self.slave.readable()).await.unwrap().unwrap();
                match self.slave.try_read(&mut buffer) {
                    Ok(read) => return String::from_utf8(buffer[..read].to_vec()).unwrap(),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_typed_is_echoed_edited_and_read_by_the_line() {
        let bed = Bed::new().await;
        bed.types("helo\x7flo\r").await;
        bed.sees("helo\x08 \x08lo\r\n").await;
        assert_eq!(bed.reads().await, "hello\n");
    }

    #[tokio::test]
    async fn ctrl_c_and_ctrl_backslash_are_signals_and_the_rest_is_none() {
        let bed = Bed::new().await;
        bed.types("a\x03\x1c\x1a\r").await;
        // What was typed before a signal is thrown away.
        assert_eq!(bed.reads().await, "\n");
        let signals: Vec<u32> = bed.signals.try_iter().map(Signal::number).collect();
        assert_eq!(signals, [2, 3]);
    }

    #[tokio::test]
    async fn closed_stdin_is_the_end_after_what_was_begun() {
        let mut bed = Bed::new().await;
        bed.types("begun").await;
        bed.sees("begun").await;
        bed.terminal.close_input();
        // The client leaves.
        let (nowhere, _reader) = pipe::pipe().unwrap();
        drop(std::mem::replace(&mut bed.typing, nowhere));
        assert_eq!(bed.reads().await, "begun");
        assert_eq!(bed.reads().await, "");
    }

    #[tokio::test]
    async fn everything_printed_is_copied_before_the_end() {
        let bed = Bed::new().await;
        let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
        Output::Terminal(bed.slave.clone()).write_all(lines.as_bytes()).await.unwrap();
        timeout(SOON, bed.terminal.drained(Instant::now() + SOON)).await.unwrap();
        bed.sees(&lines.replace('\n', "\r\n")).await;
        bed.slave.try_write(b"late").unwrap_err();
    }

    #[tokio::test]
    async fn terminal_that_nobody_reads_ends_by_the_deadline() {
        let bed = Bed::new().await;
        let printing = async {
            loop {
                bed.slave.writable().await.unwrap();
                let _ = bed.slave.try_write(&[b'x'; 1000]);
            }
        };
        assert!(
            timeout(Duration::from_millis(200), printing).await.is_err(),
            "a terminal takes everything"
        );
        timeout(SOON, bed.terminal.drained(Instant::now() + Duration::from_millis(100)))
            .await
            .unwrap();
        let copied = bed.terminal.copied.clone();
        drop(bed);
        timeout(SOON, copied.cancelled()).await.unwrap();
    }

    #[tokio::test]
    async fn size_is_the_terminals() {
        let bed = Bed::new().await;
        bed.terminal.resize(Size { columns: 101, rows: 33 }).unwrap();
        let slave = bed.slave.open().unwrap();
        assert_eq!(sys::terminal::size(slave.get_ref()).unwrap(), (101, 33));
    }
}
