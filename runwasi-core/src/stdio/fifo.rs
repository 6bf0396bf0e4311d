//! Streams over containerd's FIFOs, as non-blocking pipes.
//!
//! Every FIFO is opened so that the open never waits. Its reader or writer may be absent, slow,
//! gone or back again:
//!
//! * The reading end of an output FIFO is held here, too. There is always a reader, so a client
//!   that detaches causes no `EPIPE`, and a later `attach` finds the output that is still in the
//!   pipe. A full pipe makes the guest wait, not its thread.
//! * The content of a FIFO is lost with its last fd. Clients may open their end late: after the
//!   shim has written and left, or in a thread that is cancelled when they learn of the exit. So
//!   the guest does not run until a reader is there ([`Output::open`]), and its end is not reported
//!   until the reader has read ([`Output::drained`]), both for a bounded time. What is unread then,
//!   without a reader, is kept until the process is deleted: containerd may be restarting.
//! * The stdin FIFO is opened for reading and, until `CloseIO`, for writing. Its end is seen only
//!   when containerd closes it and every other writer is gone. `containerd-shim-runc-v2` does the
//!   same. An end that was read stays, although a client may open the FIFO once more.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::io::Errno;
use tokio::{
    net::unix::pipe,
    runtime::Handle,
    time::{Duration, Instant, sleep},
};

use super::{
    error::StdioError,
    logger_end::Streams,
    readiness::{self, Direction},
};
use crate::{id::Id, lock::Mutex, sys};

/// Pause between two looks at a FIFO or pipe for its reader.
pub(super) const READER_POLL: Duration = Duration::from_millis(1);
/// Looks at the pipe without a pause: a reader that already waits needs less time than a timer.
const DRAIN_SPINS: u32 = 50;

/// A stream that the guest reads. Without a FIFO it is empty.
#[derive(Clone, Debug, Default)]
pub struct Input(Option<Arc<InputPipe>>);

#[derive(Debug)]
struct InputPipe {
    path: PathBuf,
    /// The runtime that watches the FIFO.
    reactor: Handle,
    /// Set by [`Input::open`].
    receiver: OnceLock<pipe::Receiver>,
    /// Keeps the stream from ending before `CloseIO`. Locked only to set and to drop it.
    writer: Mutex<Writer>,
    /// True once the end was read.
    ended: AtomicBool,
}

#[derive(Debug)]
enum Writer {
    NotYet,
    Open(#[expect(dead_code, reason = "held, never written to")] pipe::Sender),
    Closed,
}

impl Input {
    /// True without a FIFO.
    pub(super) fn is_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Checks that the FIFO exists, without opening it. `reactor` will watch it.
    pub(super) fn find(path: &Path, reactor: &Handle) -> Result<Self, StdioError> {
        let open = |source| StdioError::Open { stream: "stdin", path: path.to_owned(), source };
        if !std::fs::metadata(path).map_err(open)?.file_type().is_fifo() {
            return Err(open(io::Error::new(io::ErrorKind::InvalidInput, "is not a FIFO")));
        }
        let receiver = OnceLock::new();
        let writer = Mutex::new(Writer::NotYet);
        let ended = AtomicBool::new(false);
        let path = path.to_owned();
        let reactor = reactor.clone();
        Ok(Self(Some(Arc::new(InputPipe { path, reactor, receiver, writer, ended }))))
    }

    /// Opens the FIFO.
    pub(super) fn open(&self) -> Result<(), StdioError> {
        let Some(pipe) = &self.0 else { return Ok(()) };
        let open = |source| StdioError::Open { stream: "stdin", path: pipe.path.clone(), source };
        let _entered = pipe.reactor.enter();
        // The receiver first: the kernel refuses a non-blocking writer of a FIFO without a reader.
        let receiver = pipe::OpenOptions::new().open_receiver(&pipe.path).map_err(open)?;
        // In any case: the kernel tells the end only of a FIFO that has had a writer.
        let sender = pipe::OpenOptions::new().open_sender(&pipe.path).map_err(open)?;
        let mut writer = pipe.writer.lock();
        // Not kept after `CloseIO`, which may come before the start of the process.
        if matches!(*writer, Writer::NotYet) {
            *writer = Writer::Open(sender);
        }
        // A second call keeps the first receiver.
        let _ = pipe.receiver.set(receiver);
        Ok(())
    }

    fn receiver(&self) -> io::Result<Option<&pipe::Receiver>> {
        let Some(pipe) = &self.0 else { return Ok(None) };
        pipe.receiver
            .get()
            .map(Some)
            // Not before the start. With a number, since guests get one.
            .ok_or_else(|| Errno::IO.into())
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(receiver) = self.receiver()? else { return Ok(0) };
        if self.has_ended() {
            return Ok(0);
        }
        let mut call = || -> io::Result<usize> { Ok(rustix::io::read(receiver, &mut *buffer)?) };
        let read = once(|call| receiver.try_io(call), &mut call);
        if let (Some(pipe), Ok(0)) = (&self.0, &read)
            && !buffer.is_empty()
        {
            pipe.ended.store(true, Ordering::Relaxed);
        }
        read
    }

    /// True once the end was read.
    fn has_ended(&self) -> bool {
        // Relaxed: the flag guards no other data.
        self.0.as_ref().is_some_and(|pipe| pipe.ended.load(Ordering::Relaxed))
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self.receiver()? {
            Some(receiver) if !self.has_ended() => {
                let event = || receiver.ready(Direction::Read.interest());
                readiness::wait(event, || receiver.try_io(|| Direction::Read.look(receiver))).await
            }
            _ => Ok(()),
        }
    }

    /// The same after a read that has met `WouldBlock`. The next read may meet it again.
    pub(super) async fn readable_again(&self) -> io::Result<()> {
        let Some(receiver) = self.receiver()? else { return Ok(()) };
        let event = || receiver.ready(Direction::Read.interest());
        readiness::wait_again(event, || receiver.try_io(|| Direction::Read.look(receiver))).await
    }

    /// `CloseIO`: the stream ends once every other writer is gone, too.
    pub(super) fn close(&self) {
        if let Some(pipe) = &self.0 {
            *pipe.writer.lock() = Writer::Closed;
        }
    }
}

/// A stream that the guest writes. Without a FIFO everything is discarded.
#[derive(Clone, Debug, Default)]
pub struct Output(Option<Arc<OutputPipe>>);

#[derive(Debug)]
struct OutputPipe {
    sender: pipe::Sender,
    /// The logger that reads the pipe. Absent for a FIFO.
    logs: Option<Logs>,
    /// The reading end held here. `drained` and `has_no_taker` close it to look for another reader.
    /// Locked for that only.
    reader: Mutex<Option<File>>,
    /// True if the reader is gone for good, which only a logger can be.
    gone: AtomicBool,
    /// True once something has been written, for a reader to read.
    written: AtomicBool,
}

/// The logger of a container.
#[derive(Debug)]
struct Logs {
    container: Id,
    /// Dropped after the pipe is of no more use: the logger is to end.
    _streams: Streams,
}

impl Output {
    /// Opens the FIFO, which `reactor` watches, and waits until the deadline for a reader.
    pub(super) async fn open(
        stream: &'static str,
        path: &Path,
        deadline: Instant,
        reactor: &Handle,
    ) -> Result<Self, StdioError> {
        let failed = |source| StdioError::Open { stream, path: path.to_owned(), source };
        let early = wait_for_reader(path, deadline, reactor).await.map_err(failed)?;
        // Only now: the reading end held here would pass for the reader waited for above.
        let reader =
            File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let sender = match early {
            Some(sender) => sender,
            // Not refused any more: the reading end held here is open.
            None => open_sender(path, reactor).map_err(failed)?,
        };
        Ok(Self::of(sender, Some(reader), None))
    }

    /// Takes over a pipe that the logger of this container reads.
    pub(super) fn pipe(sender: pipe::Sender, container: Id, streams: Streams) -> Self {
        Self::of(sender, None, Some(Logs { container, _streams: streams }))
    }

    fn of(sender: pipe::Sender, reader: Option<File>, logs: Option<Logs>) -> Self {
        let reader = Mutex::new(reader);
        let gone = AtomicBool::new(false);
        let written = AtomicBool::new(false);
        Self(Some(Arc::new(OutputPipe { sender, logs, reader, gone, written })))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_ref().map_or(Ok(bytes.len()), |pipe| pipe.try_write(bytes))
    }

    /// Waits until a reader that is present has read everything. Returns the number of bytes that
    /// it has not read by the deadline.
    pub(super) async fn drained(&self, deadline: Instant) -> u64 {
        match &self.0 {
            Some(pipe) => pipe.drained(deadline).await,
            None => 0,
        }
    }

    /// True if it is full and no other process reads it. For the end of a guest: the reading end
    /// that is held here is closed when the pipe is full.
    pub(super) fn has_no_taker(&self) -> bool {
        self.0.as_ref().is_some_and(|pipe| pipe.has_no_taker())
    }

    /// True if it has output and no other process reads it. For the end of a guest, too. A logger's
    /// pipe has no name by which another reader could come.
    pub(super) fn is_left(&self) -> bool {
        self.0.as_ref().is_some_and(|pipe| pipe.logs.is_none() && pipe.is_left())
    }

    /// True if another process reads it, after [`Output::is_left`].
    pub(super) fn has_reader(&self) -> bool {
        self.0.as_ref().is_some_and(|pipe| !sys::has_no_reader(&pipe.sender))
    }

    /// Number of bytes that wait for a reader.
    pub(super) fn unread(&self) -> u64 {
        self.0.as_ref().map_or(0, |pipe| pipe.unread())
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match &self.0 {
            Some(pipe) => {
                let sender = &pipe.sender;
                let event = || sender.ready(Direction::Write.interest());
                readiness::wait(event, || sender.try_io(|| Direction::Write.look(sender))).await
            }
            None => Ok(()),
        }
    }

    /// The same after a write that has met `WouldBlock`. The next write may meet it again.
    pub(super) async fn writable_again(&self) -> io::Result<()> {
        let Some(OutputPipe { sender, .. }) = self.0.as_deref() else { return Ok(()) };
        let event = || sender.ready(Direction::Write.interest());
        readiness::wait_again(event, || sender.try_io(|| Direction::Write.look(sender))).await
    }
}

impl OutputPipe {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut call = || -> io::Result<usize> { Ok(rustix::io::write(&self.sender, bytes)?) };
        let result = once(|call| self.sender.try_io(call), &mut call);
        match &result {
            // The end of a reader is no reason to end its container. A FIFO has a reader here until
            // the end of the guest. Relaxed: the flags guard no other data.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                if let Some(Logs { container, .. }) = &self.logs
                    && !self.gone.swap(true, Ordering::Relaxed)
                {
                    // By name: this is the guest's call, in no span of the container.
                    tracing::warn!(%container, "a logger is gone: what its container prints is lost");
                }
                return Ok(bytes.len());
            }
            Err(_) => {}
            Ok(_) => self.written.store(true, Ordering::Relaxed),
        }
        result
    }

    fn has_no_taker(&self) -> bool {
        if !sys::is_full(&self.sender) {
            return false;
        }
        self.reader.lock().take();
        sys::has_no_reader(&self.sender)
    }

    fn is_left(&self) -> bool {
        if !self.written.load(Ordering::Relaxed) || self.unread() == 0 {
            return false;
        }
        self.reader.lock().take();
        sys::has_no_reader(&self.sender)
    }

    fn unread(&self) -> u64 {
        rustix::io::ioctl_fionread(&self.sender).unwrap_or(0)
    }

    async fn drained(&self, deadline: Instant) -> u64 {
        if self.gone.load(Ordering::Relaxed) || !self.written.load(Ordering::Relaxed) {
            return 0;
        }
        // Closed before the look at the pipe: with this end open there would always be a reader.
        self.reader.lock().take();
        let mut spin = 0;
        loop {
            let unread = self.unread();
            // Without a reader there is nothing to wait for: the output is kept for a later one.
            if unread == 0 || sys::has_no_reader(&self.sender) {
                return 0;
            }
            if spin < DRAIN_SPINS {
                spin += 1;
                tokio::task::yield_now().await;
            } else if Instant::now() < deadline {
                sleep(READER_POLL).await;
            } else {
                return unread;
            }
        }
    }
}

/// Makes a call once. `through` is Tokio's `try_io`, which forgets the readiness of a pipe if the
/// call meets `WouldBlock`, but makes no call before it has met an event.
fn once(
    through: impl FnOnce(&mut dyn FnMut() -> io::Result<usize>) -> io::Result<usize>,
    call: &mut dyn FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut made = false;
    let result = through(&mut || {
        made = true;
        call()
    });
    if made { result } else { call() }
}

fn open_sender(path: &Path, reactor: &Handle) -> io::Result<pipe::Sender> {
    let _entered = reactor.enter();
    pipe::OpenOptions::new().open_sender(path)
}

/// Opens the FIFO for writing only, which the kernel refuses (`ENXIO`) as long as it has no reader.
/// Returns no sender if no reader has come by the deadline.
async fn wait_for_reader(
    path: &Path,
    deadline: Instant,
    reactor: &Handle,
) -> io::Result<Option<pipe::Sender>> {
    loop {
        match open_sender(path, reactor) {
            Ok(sender) => return Ok(Some(sender)),
            Err(error) if error.raw_os_error() != Some(libc::ENXIO) => return Err(error),
            Err(_) if Instant::now() >= deadline => {
                tracing::debug!(path = %path.display(), "nobody reads");
                return Ok(None);
            }
            // There is no event to wait for: inotify reports an open only once it has succeeded.
            Err(_) => sleep(READER_POLL).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::time::timeout;

    use super::{
        super::{Drain, Owner, Stdio, Unread},
        *,
    };
    use crate::{shutdown::Tasks, stdio::paths::StdioPaths};

    const SOON: Duration = Duration::from_secs(5);

    fn fifo(directory: &tempfile::TempDir, name: &str) -> String {
        let path = directory.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn id() -> Id {
        Id::parse("id", "test").unwrap()
    }

    async fn open(stdin: String, stdout: String) -> Result<Stdio, StdioError> {
        let paths = StdioPaths { stdin, stdout, ..StdioPaths::default() };
        let id = id();
        let tasks = Tasks::new(SOON);
        let guests = &Handle::current();
        Stdio::open(&paths, Owner { container: &id, namespace: &id, tasks: &tasks, guests }).await
    }

    #[tokio::test]
    async fn a_fifo_without_a_reader_is_opened_and_written() {
        let directory = tempfile::tempdir().unwrap();
        let stdio = open(fifo(&directory, "in"), fifo(&directory, "out")).await.unwrap();
        timeout(SOON, stdio.stdout.write_all(b"kept for a later reader")).await.unwrap().unwrap();
    }

    /// The writer is done and gone before the reader opens its end.
    #[tokio::test]
    async fn a_reader_that_comes_late_misses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let writing = async {
            let stdio = open(String::new(), path.clone()).await.unwrap();
            stdio.stdout.write_all(b"all of it").await.unwrap();
        };
        let reading = async {
            sleep(Duration::from_millis(100)).await;
            let path = path.clone();
            tokio::task::spawn_blocking(move || std::fs::read(path)).await.unwrap().unwrap()
        };
        let ((), read) = timeout(SOON, async { tokio::join!(writing, reading) }).await.unwrap();
        assert_eq!(read, b"all of it");
    }

    /// As with `poll(2)`, also after a call that has met no `WouldBlock`.
    #[tokio::test]
    async fn pipe_is_not_ready_when_all_is_read_or_its_room_is_filled() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "in");
        let stdio = open(path.clone(), fifo(&directory, "out")).await.unwrap();
        stdio.begin(drop).unwrap();
        let typing = pipe::OpenOptions::new().open_sender(&path).unwrap();
        let idle = Duration::from_millis(50);
        for _ in 0..2 {
            typing.writable().await.unwrap();
            typing.try_write(b"abc").unwrap();
            timeout(SOON, stdio.stdin.readable()).await.unwrap().unwrap();
            assert_eq!(stdio.stdin.try_read(&mut [0; 8]).unwrap(), 3);
            assert!(timeout(idle, stdio.stdin.readable()).await.is_err(), "all is read");
        }
        timeout(SOON, stdio.stdout.writable()).await.unwrap().unwrap();
        let room = stdio.stdout.try_write(&vec![0; 1 << 20]).unwrap();
        assert!(timeout(idle, stdio.stdout.writable()).await.is_err(), "{room} bytes fill it");
    }

    /// A client with an open end that is slow to begin must have read before it learns of the exit.
    #[tokio::test]
    async fn a_slow_reader_is_waited_for_and_an_absent_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let mut reader =
            File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let stdio = open(String::new(), path.clone()).await.unwrap();
        stdio.stdout.write_all(b"unread").await.unwrap();
        assert!(
            timeout(Duration::from_millis(100), stdio.drained(&mut Drain::default(), &id()))
                .await
                .is_err(),
            "nobody has read yet"
        );
        let mut read = [0; 6];
        reader.read_exact(&mut read).unwrap();
        timeout(SOON, stdio.drained(&mut Drain::default(), &id())).await.unwrap();
        stdio.stdout.write_all(b"unread").await.unwrap();
        drop(reader);
        // Shorter than the patience with a reader that is present.
        timeout(SOON, stdio.drained(&mut Drain::default(), &id())).await.unwrap();
    }

    #[tokio::test]
    async fn unread_output_is_kept_for_a_reader_after_the_end_and_closed_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let stdio = open(String::new(), path.clone()).await.unwrap();
        assert!(stdio.unread().is_none(), "nothing was written");
        stdio.stdout.write_all(b"last words").await.unwrap();
        let mut unread = stdio.unread().unwrap();
        drop(stdio);
        assert!(
            timeout(Duration::from_millis(50), Unread::read(Some(&mut unread))).await.is_err(),
            "no reader"
        );
        let reader = tokio::task::spawn_blocking(move || std::fs::read(path));
        timeout(SOON, Unread::read(Some(&mut unread))).await.unwrap();
        // To its end: the writing end is closed, although the process is not deleted.
        assert_eq!(timeout(SOON, reader).await.unwrap().unwrap().unwrap(), b"last words");
    }

    #[tokio::test]
    async fn unread_output_waits_for_the_first_read_of_a_reader_that_comes() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let stdio = open(String::new(), path.clone()).await.unwrap();
        stdio.stdout.write_all(b"last words").await.unwrap();
        let unread = stdio.unread().unwrap();
        drop(stdio);
        let mut reader = File::open(&path).unwrap();
        {
            let mut begun = std::pin::pin!(unread.begun());
            let early = timeout(Duration::from_millis(50), &mut begun).await;
            assert!(early.is_err(), "a reader that is there has not read yet");
            reader.read_exact(&mut [0; 4]).unwrap();
            timeout(Duration::from_millis(100), begun).await.unwrap();
        }
        // A reader that does not read is waited for a short time only.
        timeout(SOON, unread.begun()).await.unwrap();
    }

    #[tokio::test]
    async fn output_that_was_read_already_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let stdio = open(String::new(), path.clone()).await.unwrap();
        stdio.stdout.write_all(b"last words").await.unwrap();
        let unread = stdio.unread().unwrap();
        drop(stdio);
        File::open(&path).unwrap().read_exact(&mut [0; 10]).unwrap();
        tokio::select! {
            biased;
            () = unread.begun() => {}
            () = std::future::ready(()) => panic!("it waits"),
        }
    }

    #[tokio::test]
    async fn output_of_a_reader_that_is_there_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let mut reader =
            File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
        let stdio = open(String::new(), path).await.unwrap();
        stdio.stdout.write_all(b"unread").await.unwrap();
        assert!(stdio.unread().is_none());
        drop(stdio);
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"unread");
    }

    #[tokio::test]
    async fn a_write_to_a_full_pipe_waits_for_a_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "out");
        let stdio = open(String::new(), path.clone()).await.unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let write = stdio.stdout.write_all(&bytes);
        tokio::pin!(write);
        assert!(
            timeout(Duration::from_millis(50), &mut write).await.is_err(),
            "a pipe took 300 kB"
        );
        let expected = bytes.clone();
        let reader = tokio::task::spawn_blocking(move || {
            let mut read = vec![0; expected.len()];
            std::fs::File::open(path).unwrap().read_exact(&mut read).unwrap();
            read == expected
        });
        timeout(SOON, write).await.unwrap().unwrap();
        assert!(reader.await.unwrap());
    }

    /// The wake-up of a guest takes no turn of the control thread.
    #[test]
    fn guest_that_waits_for_its_pipes_is_woken_by_its_own_runtime() {
        let guests = crate::runtime::GuestRuntime::start(1).unwrap();
        let control = crate::runtime::control().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let [stdin, stdout] = ["in", "out"].map(|name| fifo(&directory, name));
        let paths =
            StdioPaths { stdin: stdin.clone(), stdout: stdout.clone(), ..StdioPaths::default() };
        let id = id();
        let tasks = Tasks::new(SOON);
        let runtime = guests.guests().runtime();
        let owner = Owner { container: &id, namespace: &id, tasks: &tasks, guests: runtime };
        let stdio = control
            .block_on(async {
                let stdio = Stdio::open(&paths, owner).await?;
                stdio.begin(drop).map(|()| stdio)
            })
            .unwrap();
        // From here on the control runtime is not polled.
        let full = stdio.stdout.try_write(&vec![0; 1 << 20]).unwrap();
        let (ended, ends) = std::sync::mpsc::channel();
        let ended_too = ended.clone();
        let Stdio { stdin: input, stdout: output, .. } = stdio.clone();
        runtime.spawn(async move { ended.send(output.write_all(b"more").await.is_ok()) });
        runtime.spawn(async move { ended_too.send(input.read(&mut [0; 8]).await.is_ok()) });
        let early = ends.recv_timeout(Duration::from_millis(50));
        assert!(early.is_err(), "a full pipe, and an empty one");
        std::fs::write(stdin, "typed").unwrap();
        File::open(stdout).unwrap().read_exact(&mut vec![0; full]).unwrap();
        for _ in 0..2 {
            assert_eq!(ends.recv_timeout(SOON), Ok(true));
        }
        guests.end();
    }

    #[tokio::test]
    async fn stdin_ends_when_it_is_closed_and_its_writers_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory, "in");
        let stdio = open(path.clone(), String::new()).await.unwrap();
        let early = pipe::OpenOptions::new().open_sender(&path).unwrap_err();
        assert_eq!(early.raw_os_error(), Some(libc::ENXIO), "nobody reads before the start");
        stdio.begin(drop).unwrap();
        let writer = pipe::OpenOptions::new().open_sender(&path).unwrap();
        writer.writable().await.unwrap();
        writer.try_write(b"abc").unwrap();
        drop(writer);
        let mut buffer = [0; 8];
        assert_eq!(timeout(SOON, stdio.stdin.read(&mut buffer)).await.unwrap().unwrap(), 3);
        assert!(timeout(Duration::from_millis(50), stdio.stdin.read(&mut buffer)).await.is_err());
        stdio.close_stdin();
        assert_eq!(timeout(SOON, stdio.stdin.read(&mut buffer)).await.unwrap().unwrap(), 0);
        // As with a shim that has closed the FIFO at its end: nothing comes after it.
        let again = pipe::OpenOptions::new().open_sender(&path).unwrap();
        again.writable().await.unwrap();
        again.try_write(b"def").unwrap();
        assert_eq!(timeout(SOON, stdio.stdin.read(&mut buffer)).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn stdin_without_a_client_ends_if_it_is_closed_before_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let stdio = open(fifo(&directory, "in"), String::new()).await.unwrap();
        let mut buffer = [0; 8];
        let early = stdio.stdin.try_read(&mut buffer).unwrap_err();
        assert_eq!(early.raw_os_error(), Some(libc::EIO));
        stdio.close_stdin();
        stdio.begin(drop).unwrap();
        assert_eq!(timeout(SOON, stdio.stdin.read(&mut buffer)).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn a_path_to_nothing_that_can_be_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().to_str().unwrap(), "/nonexistent/fifo"] {
            let error = open(String::new(), path.into()).await.unwrap_err().to_string();
            assert!(error.contains("stdout"), "{error}");
        }
        assert!(!directory.path().join("fifo").exists());
    }

    #[tokio::test]
    async fn a_path_to_a_file_or_a_device_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "before ").unwrap();
        let stdio = open(String::new(), file.to_str().unwrap().into()).await.unwrap();
        stdio.stdout.write_all(b"and after").await.unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "before and after");
        let full = open(String::new(), "/dev/full".into()).await.unwrap();
        let error = full.stdout.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
