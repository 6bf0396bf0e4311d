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

pub mod error;
mod fifo;
mod file;
mod logger;
pub mod owner;
pub mod paths;
pub mod pty;
pub mod streams;
pub mod terminal;

use std::sync::{Arc, Weak};

use tokio::time::{Duration, Instant};

use self::{
    error::StdioError,
    owner::Owner,
    paths::{StdioPaths, StreamTarget, place},
    streams::{Input, Output},
    terminal::Terminal,
};
use crate::engine::signal::Signal;

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

impl Stdio {
    /// Opens what containerd asked for, stdin excepted, on the Tokio runtime whose reactor is to watch it. Waits up to a second for
    /// readers of FIFOs.
    pub async fn open(paths: &StdioPaths, owner: Owner<'_>) -> Result<Self, StdioError> {
        let stdin = match place("stdin", &paths.stdin)? {
            StreamTarget::Nothing => fifo::Input::default(),
            StreamTarget::Fifo(path) => fifo::Input::find(&path)?,
            StreamTarget::File(path) => {
                let what = format!("stdin file://{}", path.display());
                return Err(StdioError::Unsupported { what, why: "input comes from FIFOs only" });
            }
            StreamTarget::Logger(uri) => {
                let what = format!("stdin {uri}");
                return Err(StdioError::Unsupported { what, why: "a logger takes output only" });
            }
        };
        let (stdout, stderr) = outputs(paths, owner).await?;
        if !paths.terminal {
            return Ok(Self { stdin: Input::Fifo(stdin), stdout, stderr, terminal: None });
        }
        let (terminal, slave) =
            Terminal::open(stdin, stdout, owner.tasks).map_err(StdioError::Terminal)?;
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
    pub(crate) fn begin(
        &self,
        interrupt: impl Fn(Signal) + Send + 'static,
    ) -> Result<(), StdioError> {
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
    if let StreamTarget::Logger(uri) = &stdout {
        let (stdout, stderr) = logger::start(uri, owner).await?;
        return Ok((Output::Fifo(stdout), Output::Fifo(stderr)));
    }
    let deadline = Instant::now() + READER_PATIENCE;
    let same = stdout == stderr;
    let stdout = Output::open("stdout", stdout, deadline).await?;
    let stderr =
        if same { stdout.clone() } else { Output::open("stderr", stderr, deadline).await? };
    Ok((stdout, stderr))
}
