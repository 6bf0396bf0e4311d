//! A terminal: a pty. Its slave is the three streams of the guest. Its master is copied from and to
//! the streams that containerd gives.
//!
//! ```text
//!  signals ◀───── ^C, ^\ ──────┐
//!  client ──▶ stdin FIFO ──▶ copy in ──▶ ┌────────┐                 ┌───────┐
//!                                        │ master │◀───────────────▶│ slave │◀──▶ guest
//!  client ◀── stdout FIFO ◀── copy out ◀─└────────┘ line discipline └───────┘
//! ```
//!
//! The line discipline (echo, ^H, CR and NL) is the kernel's. Only its signals are sent from here:
//! the kernel sends them to the terminal's foreground processes, and a guest is no process. ^Z does
//! nothing, as to the init of a container: no process in there could continue it.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::Arc,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    error::StdioError,
    fifo,
    owner::Owner,
    pty::{Size, Slave},
    streams::Output,
};
use crate::{
    engine::signal::Signal,
    id::Id,
    lock::Mutex,
    shutdown::Tasks,
    sys::{self, terminal::TypedSignals},
};

/// Bytes copied at once: the kernel moves at most 4 KiB of a terminal at a time.
const CHUNK: usize = 4 << 10;

/// The terminal of a process: the side of the master.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<AsyncFd<File>>,
    slave: Arc<Slave>,
    input: fifo::Input,
    output: Output,
    /// The container, for the log.
    container: Id,
    tasks: Tasks,
    /// Guard of `copied`, for the first `begin` to take. Dropped, it marks the output as copied.
    unbegun: Mutex<Option<DropGuard>>,
    /// Ends the copying.
    stop: CancellationToken,
    /// Set when all output is copied, or is not copied any more.
    copied: CancellationToken,
}

impl Terminal {
    /// Makes a terminal with the system's usual settings. Typed text comes from `input`; printed
    /// output goes to `output`.
    pub(super) fn open(
        input: fifo::Input,
        output: Output,
        owner: Owner<'_>,
    ) -> io::Result<(Self, Arc<Slave>)> {
        let (master, slave) = sys::terminal::open()?;
        let slave = Arc::new(Slave(Mutex::new(Some(Arc::new(sys::watch(slave)?)))));
        let master = Arc::new(sys::watch(master)?);
        let stop = CancellationToken::new();
        let copied = CancellationToken::new();
        let unbegun = Mutex::new(Some(copied.clone().drop_guard()));
        let terminal = Self {
            master,
            slave: slave.clone(),
            input,
            output,
            container: owner.container.clone(),
            tasks: owner.tasks.clone(),
            unbegun,
            stop,
            copied,
        };
        Ok((terminal, slave))
    }

    /// Opens stdin and begins to copy. A second call changes nothing.
    pub(super) fn begin(
        &self,
        interrupt: impl Fn(Signal) + Send + 'static,
    ) -> Result<(), StdioError> {
        self.input.open()?;
        let unbegun = self.unbegun.lock().take();
        let Some(copied) = unbegun else { return Ok(()) };
        let master = self.master.clone();
        let output = self.output.clone();
        let container = self.container.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            stop.run_until_cancelled(copy_out(&master, &output, &container)).await;
            // Wakes `drained`, which waits for the end of the copying.
            drop(copied);
        });
        if self.input.is_nothing() {
            return Ok(());
        }
        let master = self.master.clone();
        let input = self.input.clone();
        let stop = self.stop.clone();
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

    /// The destination of printed output.
    pub(super) fn output(&self) -> &Output {
        &self.output
    }

    /// Waits, after the guest's end, until everything printed has been copied; at most until the
    /// deadline, and not for a reader that has left.
    pub(super) async fn drained(&self, deadline: Instant) {
        // The master reads to its end only once the slave is closed. A copying that has never begun
        // counts as done.
        self.slave.close();
        self.unbegun.lock().take();
        let copied = async {
            tokio::select! {
                () = self.copied.cancelled() => {}
                () = self.left() => {}
            }
        };
        if timeout_at(deadline, copied).await.is_err() {
            tracing::debug!("a terminal's output is not read to its end");
        }
    }

    /// Waits until the output takes nothing more. What it has taken is kept for `attach`.
    async fn left(&self) {
        // There is no event to wait for: this process has the FIFO open, too.
        while !self.output.has_no_taker() {
            sleep(fifo::READER_POLL).await;
        }
    }

    /// Sets another size. Guests do not learn of it: WASI has neither the size nor SIGWINCH.
    pub fn resize(&self, size: Size) -> io::Result<()> {
        sys::terminal::set_size(self.master.get_ref(), size.columns, size.rows)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The copying tasks hold the master, too. One that waits for its client would never end.
        self.slave.close();
        self.stop.cancel();
    }
}

/// Copies printed output to its end.
async fn copy_out(master: &AsyncFd<File>, output: &Output, container: &Id) {
    let mut buffer = vec![0; CHUNK];
    let mut lost = false;
    // The kernel answers `EIO` once the slave is closed and everything has been read.
    while let Ok(read @ 1..) =
        master.async_io(Interest::READABLE, |mut file| file.read(&mut buffer)).await
    {
        if let Err(error) = output.write_all_aside(&buffer[..read]).await
            && !std::mem::replace(&mut lost, true)
        {
            // A full disk, for example. Copying goes on: otherwise the guest would wait for its
            // terminal for ever. Logged once.
            tracing::warn!(%container, %error, "what is printed on a terminal is lost");
        }
    }
}

/// Copies typed input, and calls `interrupt` for each signal in it.
async fn copy_in(
    input: &fifo::Input,
    master: &AsyncFd<File>,
    interrupt: impl Fn(Signal),
) -> io::Result<()> {
    let keys = sys::terminal::keys(master.get_ref())?;
    let mut signals = TypedSignals::new(keys);
    let mut buffer = vec![0; CHUNK];
    loop {
        input.readable().await?;
        let typed = match input.try_read(&mut buffer) {
            // The first key ends a line that is begun, the second one the input.
            Ok(0) => return write_all(master, &[keys.end, keys.end]).await,
            Ok(read) => &buffer[..read],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        // Echoed first, if the terminal takes it at once. Signals do not wait for the rest: a guest
        // that does not read must not block ^C.
        let taken = match master.try_io(Interest::WRITABLE, |mut file| file.write(typed)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            taken => taken?,
        };
        typed.iter().filter_map(|key| signals.of(*key)).for_each(&interrupt);
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
    use tokio::{net::unix::pipe, runtime::Handle, time::timeout};

    use super::{super::paths::StreamTarget, *};

    const SOON: Duration = Duration::from_secs(5);

    fn terminal(input: fifo::Input, output: Output) -> (Terminal, Arc<Slave>) {
        let id = Id::parse("id", "test").unwrap();
        let tasks = Tasks::new(SOON);
        let guests = &Handle::current();
        let owner = Owner { container: &id, namespace: &id, tasks: &tasks, guests };
        Terminal::open(input, output, owner).unwrap()
    }

    /// A terminal and the client's ends of its FIFOs.
    struct Fixture {
        terminal: Terminal,
        slave: Arc<Slave>,
        typing: pipe::Sender,
        seen: pipe::Receiver,
        signals: mpsc::Receiver<Signal>,
        directory: tempfile::TempDir,
    }

    impl Fixture {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let [stdin, stdout] = ["in", "out"].map(|name| directory.path().join(name));
            for path in [&stdin, &stdout] {
                mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
            }
            let seen = pipe::OpenOptions::new().open_receiver(&stdout).unwrap();
            let reactor = Handle::current();
            let output = fifo::Output::open("stdout", &stdout, Instant::now(), &reactor).await;
            let output = Output::Fifo(output.unwrap());
            let input = fifo::Input::find(&stdin, &reactor).unwrap();
            let (terminal, slave) = terminal(input, output);
            let (sender, signals) = mpsc::channel();
            terminal.begin(move |signal| sender.send(signal).unwrap()).unwrap();
            let typing = pipe::OpenOptions::new().open_sender(&stdin).unwrap();
            Self { terminal, slave, typing, seen, signals, directory }
        }

        fn reader_leaves(&mut self) {
            let (_writer, nothing) = pipe::pipe().unwrap();
            self.seen = nothing;
        }

        fn reader_comes(&self) -> pipe::Receiver {
            let path = self.directory.path().join("out");
            pipe::OpenOptions::new().open_receiver(path).unwrap()
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
    async fn typed_input_is_echoed_edited_and_read_by_the_line() {
        let fixture = Fixture::new().await;
        fixture.types("helo\x7flo\r").await;
        fixture.sees("helo\x08 \x08lo\r\n").await;
        assert_eq!(fixture.reads().await, "hello\n");
    }

    #[tokio::test]
    async fn only_ctrl_c_and_ctrl_backslash_are_signals() {
        let fixture = Fixture::new().await;
        fixture.types("a\x03\x1c\x1a\r").await;
        // The kernel discards input typed before a signal.
        assert_eq!(fixture.reads().await, "\n");
        let signals: Vec<u32> = fixture.signals.try_iter().map(Signal::number).collect();
        assert_eq!(signals, [2, 3]);
    }

    #[tokio::test]
    async fn key_after_ctrl_v_is_text() {
        let fixture = Fixture::new().await;
        // The pair may come in two pieces.
        fixture.types("a\x16").await;
        fixture.sees("a^\x08").await;
        fixture.types("\x03b\x16\x16\x03c\r").await;
        assert_eq!(fixture.reads().await, "c\n");
        let signals: Vec<u32> = fixture.signals.try_iter().map(Signal::number).collect();
        assert_eq!(signals, [2], "that of the second ^C, after a literal ^V");
    }

    #[tokio::test]
    async fn closed_stdin_ends_a_begun_line_and_then_the_input() {
        let mut fixture = Fixture::new().await;
        fixture.types("begun").await;
        fixture.sees("begun").await;
        fixture.terminal.close_input();
        // The client leaves.
        let (nowhere, _reader) = pipe::pipe().unwrap();
        drop(std::mem::replace(&mut fixture.typing, nowhere));
        assert_eq!(fixture.reads().await, "begun");
        assert_eq!(fixture.reads().await, "");
    }

    #[tokio::test]
    async fn everything_printed_is_copied_before_the_end() {
        let fixture = Fixture::new().await;
        let lines: String = (0..100).map(|n| format!("line {n}\n")).collect();
        Output::Terminal(fixture.slave.clone()).write_all(lines.as_bytes()).await.unwrap();
        timeout(SOON, fixture.terminal.drained(Instant::now() + SOON)).await.unwrap();
        fixture.sees(&lines.replace('\n', "\r\n")).await;
        let late = fixture.slave.try_write(b"late").unwrap_err();
        assert_eq!(late.raw_os_error(), Some(libc::EIO));
    }

    #[tokio::test]
    async fn everything_printed_is_in_a_file_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let place = StreamTarget::File(path.clone());
        let reactor = Handle::current();
        let output = Output::open("stdout", place, Instant::now(), &reactor).await.unwrap();
        let input = fifo::Input::default();
        let (terminal, slave) = terminal(input, output);
        terminal.begin(|_| ()).unwrap();
        let bytes = vec![b'x'; 100_000];
        timeout(SOON, Output::Terminal(slave).write_all(&bytes)).await.unwrap().unwrap();
        timeout(SOON, terminal.drained(Instant::now() + SOON)).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), bytes);
    }

    #[tokio::test]
    async fn terminal_without_a_reader_ends_by_the_deadline() {
        let fixture = Fixture::new().await;
        let printing = async {
            loop {
                fixture.slave.writable().await.unwrap();
                // `WouldBlock` is waited for above.
                let _ = fixture.slave.try_write(&[b'x'; 1000]);
            }
        };
        assert!(
            timeout(Duration::from_millis(200), printing).await.is_err(),
            "a terminal takes everything"
        );
        timeout(SOON, fixture.terminal.drained(Instant::now() + Duration::from_millis(100)))
            .await
            .unwrap();
        let copied = fixture.terminal.copied.clone();
        drop(fixture);
        timeout(SOON, copied.cancelled()).await.unwrap();
    }

    #[tokio::test]
    async fn terminal_whose_reader_has_left_ends_before_the_deadline() {
        let mut fixture = Fixture::new().await;
        fixture.reader_leaves();
        let printing = async {
            let output = Output::Terminal(fixture.slave.clone());
            while output.write_all(&[b'x'; 1000]).await.is_ok() {}
        };
        // FIFO and terminal are full then.
        let _ = timeout(Duration::from_secs(1), printing).await;
        let drained = fixture.terminal.drained(Instant::now() + Duration::from_secs(600));
        timeout(SOON, drained).await.unwrap();
        let reader = fixture.reader_comes();
        let mut first = [0; 4];
        timeout(SOON, reader.readable()).await.unwrap().unwrap();
        assert_eq!(reader.try_read(&mut first).unwrap(), 4);
        assert_eq!(&first, b"xxxx", "kept for another reader");
    }

    #[tokio::test]
    async fn output_of_a_terminal_without_a_reader_is_kept_for_a_later_one() {
        let mut fixture = Fixture::new().await;
        fixture.reader_leaves();
        Output::Terminal(fixture.slave.clone()).write_all(b"late\n").await.unwrap();
        let drained = fixture.terminal.drained(Instant::now() + Duration::from_secs(600));
        timeout(SOON, drained).await.unwrap();
        fixture.seen = fixture.reader_comes();
        fixture.sees("late\r\n").await;
    }

    #[tokio::test]
    async fn size_is_set_on_the_terminal() {
        let fixture = Fixture::new().await;
        fixture.terminal.resize(Size { columns: 101, rows: 33 }).unwrap();
        let slave = fixture.slave.open().unwrap();
        assert_eq!(sys::terminal::size(slave.get_ref()).unwrap(), (101, 33));
    }
}
