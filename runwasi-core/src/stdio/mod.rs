//! Standard streams of a process, as containerd requests them.
//!
//! | containerd gives             | the guest has       | its reader                             |
//! |------------------------------|---------------------|----------------------------------------|
//! | nothing, `/dev/null`         | an empty stream     | no reader                              |
//! | a path                       | a pipe: `fifo`      | any process that opens the FIFO        |
//! | `file:///var/log/x`          | the file: [`file`]  | any reader of the file                 |
//! | `binary:///bin/logger?k=v`   | a pipe: `logger`    | the logger, one for both streams       |
//! | `binary-v2:///bin/logger`    | the same            | one that tells its readiness by a byte |
//! | a terminal and any of these  | a pty: [`terminal`] | the copy of its master in one of these |
//!
//! The schemes are those of `containerd-shim-runc-v2` (`pkg/process/io.go` there).

pub mod error;
mod fifo;
mod file;
mod logger;
mod logger_end;
pub mod owner;
pub mod paths;
pub mod pty;
mod readiness;
pub mod streams;
pub mod terminal;
mod unread;

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
};

use tokio::{
    runtime::Handle,
    time::{Duration, Instant},
};

pub(crate) use self::unread::Unread;
use self::{
    error::StdioError,
    owner::Owner,
    paths::{StdioPaths, StreamTarget, place},
    streams::{Input, Output},
    terminal::Terminal,
};
use crate::{engine::signal::Signal, id::Id};

/// How long a reader of the output may be late. Clients open their end before or while they request
/// the container.
const READER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a reader that is present may take to begin. After this time, unread output is not
/// waited for.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// The same after a kill: time to copy output that is already written, not time for a reader.
const HURRIED_PATIENCE: Duration = Duration::from_millis(100);

/// The three streams of a process. Clones share the streams, which are closed with the last clone.
#[derive(Clone, Debug, Default)]
pub struct Stdio {
    /// Standard input of the guest.
    pub stdin: Input,
    /// Standard output of the guest.
    pub stdout: Output,
    /// Standard error of the guest.
    pub stderr: Output,
    terminal: Option<Arc<Terminal>>,
}

impl Stdio {
    /// Opens the streams that containerd requests, except stdin. Waits up to a second for readers
    /// of FIFOs. A terminal is copied, and files are watched, by the Tokio runtime of the caller.
    pub async fn open(paths: &StdioPaths, owner: Owner<'_>) -> Result<Self, StdioError> {
        // A terminal's pipes are those of its copy, which is no guest.
        let reactor = if paths.terminal { Handle::current() } else { owner.guests.clone() };
        let stdin = match place("stdin", &paths.stdin)? {
            StreamTarget::Nothing => fifo::Input::default(),
            StreamTarget::Fifo(path) => fifo::Input::find(&path, &reactor)?,
            StreamTarget::File(path) => {
                let what = format!("stdin file://{}", path.display());
                return Err(StdioError::Unsupported { what, why: "input comes from FIFOs only" });
            }
            StreamTarget::Logger(uri) => {
                let what = format!("stdin {uri}");
                return Err(StdioError::Unsupported { what, why: "a logger takes output only" });
            }
        };
        let (stdout, stderr) = outputs(paths, owner, &reactor).await?;
        if !paths.terminal {
            return Ok(Self { stdin: Input::Fifo(stdin), stdout, stderr, terminal: None });
        }
        let (terminal, slave) =
            Terminal::open(stdin, stdout, owner).map_err(StdioError::Terminal)?;
        Ok(Self {
            stdin: Input::Terminal(slave.clone()),
            stdout: Output::Terminal(slave.clone()),
            stderr: Output::Terminal(slave),
            terminal: Some(Arc::new(terminal)),
        })
    }

    /// Opens stdin, at the start of the process.
    ///
    /// `interrupt` is called with the signals that are typed at the terminal.
    pub(crate) fn begin(
        &self,
        interrupt: impl Fn(Signal) + Send + 'static,
    ) -> Result<(), StdioError> {
        // Not earlier: from here on a client can write, and a client that has written everything
        // closes stdin. `ctr` never does, if it is done before its `Create` or `Exec` is answered.
        match (&self.terminal, &self.stdin) {
            (Some(terminal), _) => terminal.begin(interrupt),
            (None, Input::Fifo(stdin)) => stdin.open(),
            (None, Input::Terminal(_)) => Ok(()),
        }
    }

    /// `CloseIO`: stdin ends once every other writer of the FIFO is gone, too.
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

    /// Addresses of the files whose writes by the guest may wait for more than a local disk.
    pub(crate) fn slow(&self) -> Vec<PathBuf> {
        let files = [&self.stdout, &self.stderr].into_iter().filter_map(Output::slow);
        let mut slow: Vec<_> =
            files.map(|path| PathBuf::from(format!("file://{}", path.display()))).collect();
        // Both may go to one file.
        slow.dedup();
        slow
    }

    /// Waits, after the guest's end, until the readers of the output have read it and the
    /// output of a terminal has been copied. Returns at once without a reader or without output.
    /// After [`Drain::hurry`], readers are not waited for. The log names the `container`.
    pub(crate) async fn drained(&self, drain: &mut Drain, container: &Id) {
        let deadline = drain.deadline();
        // The terminal first: only its copy brings the output to its readers.
        if let Some(terminal) = &self.terminal {
            terminal.drained(deadline).await;
        }
        if !drain.hurried {
            let terminal = self.terminal.as_ref().map(|terminal| terminal.output());
            for output in [&self.stdout, &self.stderr].into_iter().chain(terminal) {
                let unread = output.drained(deadline).await;
                if unread > 0 {
                    tracing::warn!(%container, unread, "a reader of the output does not read");
                }
            }
        }
    }

    /// The output that no process reads, at the end of the guest.
    pub(crate) fn unread(&self) -> Option<Unread> {
        let terminal = self.terminal.as_ref().map(|terminal| terminal.output());
        let all = [&self.stdout, &self.stderr].into_iter().chain(terminal);
        Unread::among(all.filter_map(Output::fifo))
    }
}

/// Deadline for the readers of the output, one for all calls of [`Stdio::drained`].
#[derive(Debug, Default)]
pub(crate) struct Drain {
    /// Set by the first call.
    deadline: Option<Instant>,
    hurried: bool,
}

impl Drain {
    /// Leaves time only to copy output that is already written. Further calls change nothing.
    pub(crate) fn hurry(&mut self) {
        if !self.hurried {
            *self = Self { deadline: None, hurried: true };
        }
    }

    fn deadline(&mut self) -> Instant {
        let patience = if self.hurried { HURRIED_PATIENCE } else { DRAIN_PATIENCE };
        *self.deadline.get_or_insert_with(|| Instant::now() + patience)
    }
}

/// Opens stdout and stderr. A logger given as stdout takes both, as does a file that is given
/// twice.
async fn outputs(
    paths: &StdioPaths,
    owner: Owner<'_>,
    reactor: &Handle,
) -> Result<(Output, Output), StdioError> {
    let stdout = place("stdout", &paths.stdout)?;
    // The output of a terminal is one stream: a path of stderr is ignored, as by runc's shim.
    let stderr = match paths.terminal {
        true => StreamTarget::Nothing,
        false => place("stderr", &paths.stderr)?,
    };
    if let StreamTarget::Logger(uri) = &stdout {
        let (stdout, stderr) = logger::start(uri, owner, reactor).await?;
        return Ok((Output::Fifo(stdout), Output::Fifo(stderr)));
    }
    let deadline = Instant::now() + READER_PATIENCE;
    // A FIFO that is given twice is opened once: its first opening holds a reading end, which would
    // pass for the reader that a second opening waits for.
    let same = stdout == stderr;
    let open = async |stream, place| Output::open(stream, place, deadline, reactor).await;
    let stdout = open("stdout", stdout).await?;
    let stderr = if same { stdout.clone() } else { open("stderr", stderr).await? };
    Ok((stdout, stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn second_wait_for_readers_keeps_the_deadline() {
        let mut drain = Drain::default();
        let stdio = Stdio::default();
        let id = Id::parse("id", "test").unwrap();
        stdio.drained(&mut drain, &id).await;
        let first = drain.deadline;
        stdio.drained(&mut drain, &id).await;
        assert!(first.is_some());
        assert_eq!(drain.deadline, first);
    }

    #[test]
    fn first_hurry_shortens_the_deadline_and_the_second_keeps_it() {
        let mut drain = Drain::default();
        let patient = drain.deadline();
        drain.hurry();
        let hurried = drain.deadline();
        assert!(hurried < patient);
        drain.hurry();
        assert_eq!(drain.deadline(), hurried);
    }
}
