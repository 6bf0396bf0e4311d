//! A process's standard streams, as containerd asks for them.
//!
//! | containerd gives               | the guest has                     | to be seen by                       |
//! |--------------------------------|-----------------------------------|-------------------------------------|
//! | nothing, `/dev/null`           | an empty stream                   | nobody                              |
//! | a path                         | a pipe: [`fifo`]                  | whoever opens the FIFO              |
//! | `file:///var/log/x`            | the file: [`file`]                | whoever reads the file              |
//! | `binary:///usr/bin/logger?k=v` | a pipe to a process: [`logger`]   | that process, one for both streams  |
//! | a terminal and any of these    | a pty: [`terminal`]               | its master's copy, in one of these  |
//!
//! The schemes are those of `containerd-shim-runc-v2` (`pkg/process/io.go` there).

mod fifo;
mod file;
mod logger;
mod terminal;

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use tokio::time::{Duration, Instant};
use url::Url;

use self::terminal::Slave;
pub use self::terminal::{Size, Terminal};
use crate::{engine::signal::Signal, id::Id, process::StdioPaths, shutdown::Tasks};

/// How long a reader of the output may be late. Clients open their end before or while they ask for the container.
const READER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a reader that is there may take to begin. Afterwards what it has not read is its own affair.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// The same after a kill: time for the copying of what is written already, not for a reader.
const HURRIED_PATIENCE: Duration = Duration::from_millis(100);

/// The three streams of a process. Clones speak of the same streams; they are closed with the last clone.
#[derive(Clone, Debug, Default)]
pub struct Stdio {
    /// What the guest reads.
    pub stdin: Input,
    /// What the guest prints.
    pub stdout: Output,
    /// What the guest complains about.
    pub stderr: Output,
    terminal: Option<Arc<Terminal>>,
}

/// Whose streams they are, and where what they need runs.
#[derive(Clone, Copy)]
pub struct Owner<'a> {
    /// The container; loggers are told it.
    pub container: &'a Id,
    /// Its containerd namespace; loggers are told it.
    pub namespace: &'a Id,
    /// Where a terminal is copied.
    pub tasks: &'a Tasks,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The path cannot be opened as what it should be.
    #[error("{stream} {}: {source}", path.display())]
    Open {
        /// stdin, stdout or stderr.
        stream: &'static str,
        /// The path containerd gave.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The stream is of a kind that is not supported.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not.
        why: &'static str,
    },
    /// The address of a stream is none.
    #[error("{stream} {address:?}: {reason}")]
    Address {
        /// stdin, stdout or stderr.
        stream: &'static str,
        /// What containerd gave.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The logger does not run.
    #[error("logger {}: {source}", program.display())]
    Logger {
        /// Its program.
        program: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The system gives no terminal.
    #[error("terminal: {0}")]
    Terminal(#[source] io::Error),
}

impl Stdio {
    /// Opens what containerd asked for, stdin excepted, on the Tokio runtime whose reactor is to watch it. Waits up to a second for
    /// readers of FIFOs.
    pub async fn open(paths: &StdioPaths, owner: Owner<'_>) -> Result<Self, StdioError> {
        let stdin = match place("stdin", &paths.stdin)? {
            Place::Nothing => fifo::Input::default(),
            Place::Fifo(path) => fifo::Input::find(&path)?,
            Place::File(path) => {
                let what = format!("stdin file://{}", path.display());
                return Err(StdioError::Unsupported { what, why: "input comes from FIFOs only" });
            }
            Place::Logger(uri) => {
                let what = format!("stdin {uri}");
                return Err(StdioError::Unsupported { what, why: "a logger takes output only" });
            }
        };
        let (stdout, stderr) = outputs(paths, owner).await?;
        if !paths.terminal {
            return Ok(Self { stdin: Input::Fifo(stdin), stdout, stderr, terminal: None });
        }
        let (terminal, slave) = Terminal::open(stdin, stdout, owner.tasks).map_err(StdioError::Terminal)?;
        Ok(Self {
            stdin: Input::Terminal(slave.clone()),
            stdout: Output::Terminal(slave.clone()),
            stderr: Output::Terminal(slave),
            terminal: Some(Arc::new(terminal)),
        })
    }

    /// Opens stdin, at the start of the process and not before: from then on a client gets rid of its bytes, and one that has no
    /// more to say closes stdin. `ctr` forgets to, if it is done before its `Create` or `Exec` has been answered.
    ///
    /// `interrupt` is called with the signals that somebody types at the terminal.
    pub(crate) fn begin(&self, interrupt: impl Fn(Signal) + Send + 'static) -> Result<(), StdioError> {
        match (&self.terminal, &self.stdin) {
            (Some(terminal), _) => terminal.begin(interrupt),
            (None, Input::Fifo(stdin)) => stdin.open(),
            (None, Input::Terminal(_)) => Ok(()),
        }
    }

    /// `CloseIO`: the end comes once every other writer of the FIFO is gone, too.
    pub(crate) fn close_stdin(&self) {
        match (&self.terminal, &self.stdin) {
            (Some(terminal), _) => terminal.close_input(),
            (None, Input::Fifo(stdin)) => stdin.close(),
            (None, Input::Terminal(_)) => {}
        }
    }

    /// The terminal, for as long as the process has its streams.
    pub(crate) fn terminal(&self) -> Weak<Terminal> {
        self.terminal.as_ref().map_or_else(Weak::new, Arc::downgrade)
    }

    /// Waits, after the guest's end, until whoever reads the output has begun to, and what was printed on a terminal has been
    /// copied. Returns at once where nobody reads or nothing was written; if it is `hurried`, readers are not waited for.
    pub(crate) async fn drained(&self, hurried: bool) {
        let deadline = Instant::now() + if hurried { HURRIED_PATIENCE } else { DRAIN_PATIENCE };
        if let Some(terminal) = &self.terminal {
            terminal.drained(deadline).await;
        }
        if !hurried {
            for output in [&self.stdout, &self.stderr] {
                output.drained(deadline).await;
            }
            if let Some(terminal) = &self.terminal {
                terminal.output().drained(deadline).await;
            }
        }
    }
}

/// Opens stdout and stderr. A logger given as stdout takes both, as does a file that is given twice.
async fn outputs(paths: &StdioPaths, owner: Owner<'_>) -> Result<(Output, Output), StdioError> {
    let (stdout, stderr) = (place("stdout", &paths.stdout)?, place("stderr", &paths.stderr)?);
    if let Place::Logger(uri) = &stdout {
        let (stdout, stderr) = logger::start(uri, owner).await?;
        return Ok((Output::Fifo(stdout), Output::Fifo(stderr)));
    }
    let deadline = Instant::now() + READER_PATIENCE;
    let same = stdout == stderr;
    let stdout = Output::open("stdout", stdout, deadline).await?;
    let stderr = if same { stdout.clone() } else { Output::open("stderr", stderr, deadline).await? };
    Ok((stdout, stderr))
}

/// Where a stream comes from or goes to.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Nothing,
    Fifo(PathBuf),
    File(PathBuf),
    Logger(Url),
}

fn place(stream: &'static str, address: &str) -> Result<Place, StdioError> {
    if address.is_empty() || address == "/dev/null" {
        return Ok(Place::Nothing);
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        return Ok(Place::Fifo(address.into()));
    };
    let wrong = |reason: &str| StdioError::Address { stream, address: address.to_owned(), reason: reason.to_owned() };
    let url = Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
    if !rest.starts_with('/') {
        return Err(wrong("names a host; an absolute path begins with a third slash"));
    }
    match scheme {
        "fifo" => Ok(Place::Fifo(path(&url).ok_or_else(|| wrong("is no path"))?)),
        "file" => Ok(Place::File(path(&url).ok_or_else(|| wrong("is no path"))?)),
        "binary" => Ok(Place::Logger(url)),
        scheme => {
            let what = format!("{stream} {scheme}://");
            Err(StdioError::Unsupported { what, why: "streams are FIFOs, file:// or binary://" })
        }
    }
}

/// The path of an address, decoded; only of `file` the library knows that it is one.
fn path(url: &Url) -> Option<PathBuf> {
    let file = format!("file://{}", url.path());
    Url::parse(&file).ok()?.to_file_path().ok()
}

/// A stream the guest reads. By default it is at its end from the start.
#[derive(Clone, Debug)]
pub enum Input {
    #[doc(hidden)]
    Fifo(fifo::Input),
    #[doc(hidden)]
    Terminal(Arc<Slave>),
}

impl Default for Input {
    fn default() -> Self {
        Self::Fifo(fifo::Input::default())
    }
}

impl Input {
    /// Reads at least one byte into `buffer`; 0 is the end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Reads what is there; 0 is the end, `WouldBlock` means: wait for [`Input::readable`].
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Fifo(fifo) => fifo.try_read(buffer),
            Self::Terminal(slave) => slave.try_read(buffer),
        }
    }

    /// Waits until `try_read` may succeed.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Fifo(fifo) => fifo.readable().await,
            Self::Terminal(slave) => slave.readable().await,
        }
    }

    /// As `readable`, for hand-written polls; only the last caller is woken.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Fifo(fifo) => fifo.poll_readable(cx),
            Self::Terminal(slave) => slave.poll_readable(cx),
        }
    }

    /// Whether it is a terminal (`isatty(3)`).
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

/// A stream the guest writes. By default everything vanishes.
#[derive(Clone, Debug)]
pub enum Output {
    #[doc(hidden)]
    Fifo(fifo::Output),
    #[doc(hidden)]
    File(file::Output),
    #[doc(hidden)]
    Terminal(Arc<Slave>),
}

impl Default for Output {
    fn default() -> Self {
        Self::Fifo(fifo::Output::default())
    }
}

impl Output {
    async fn open(stream: &'static str, place: Place, deadline: Instant) -> Result<Self, StdioError> {
        match place {
            Place::Nothing => Ok(Self::default()),
            Place::Fifo(path) => fifo::Output::open(stream, &path, deadline).await.map(Self::Fifo),
            Place::File(path) => file::Output::open(stream, path).await.map(Self::File),
            Place::Logger(uri) => {
                let what = format!("{stream} {uri} alone");
                Err(StdioError::Unsupported { what, why: "a logger is given as stdout and takes both" })
            }
        }
    }

    /// Writes all of `bytes`, waiting for the reader as often as needed. Nothing is buffered here: what is
    /// written has left the guest for good, and nothing has to be flushed at its end.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what is taken now; `WouldBlock` means: wait for [`Output::writable`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Fifo(fifo) => fifo.try_write(bytes),
            Self::File(file) => file.try_write(bytes),
            Self::Terminal(slave) => slave.try_write(bytes),
        }
    }

    /// Waits until `try_write` may succeed.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Fifo(fifo) => fifo.writable().await,
            Self::File(_) => Ok(()),
            Self::Terminal(slave) => slave.writable().await,
        }
    }

    /// As `writable`, for hand-written polls; only the last caller is woken.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Fifo(fifo) => fifo.poll_writable(cx),
            Self::File(_) => Poll::Ready(Ok(())),
            Self::Terminal(slave) => slave.poll_writable(cx),
        }
    }

    /// Whether it is a terminal (`isatty(3)`).
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    async fn drained(&self, deadline: Instant) {
        if let Self::Fifo(fifo) = self {
            fifo.drained(deadline).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_a_stream_goes() {
        let at = |address| place("stdout", address).unwrap();
        assert_eq!(at(""), Place::Nothing);
        assert_eq!(at("/dev/null"), Place::Nothing);
        assert_eq!(at("/run/fifo/a%20b"), Place::Fifo("/run/fifo/a%20b".into()));
        assert_eq!(at("file:///var/log/a%20b"), Place::File("/var/log/a b".into()));
        assert_eq!(at("fifo:///run/x"), Place::Fifo("/run/x".into()));
        assert!(matches!(at("binary:///bin/logger?a=b"), Place::Logger(_)));
    }

    #[test]
    fn an_address_that_means_nothing_is_refused_with_its_stream() {
        for address in ["file://host/var/log/x", "binary://logger", "https:///x", "npipe:///x", "file://"] {
            let error = place("stdout", address).unwrap_err().to_string();
            assert!(error.contains("stdout"), "{address}: {error}");
        }
    }
}
