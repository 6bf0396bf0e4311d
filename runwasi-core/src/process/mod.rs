//! Process of a container: a cheap handle for RPC handlers.
//!
//! Commands go to the `driver`, which acts on them as the table in [`state`] decides. The status
//! comes back.

pub(crate) mod driver;
pub(crate) mod execs;
mod outcome;
pub mod state;

use std::{
    io,
    sync::{Arc, Weak},
};

use tokio::sync::{mpsc, oneshot, watch};

use self::state::{Denial, Request, State};
use crate::{
    engine::{error::EngineError, exit::Exit},
    id::Id,
    metrics::lives::Kind,
    scheduler::group::Group,
    stdio::{error::StdioError, paths::StdioPaths, pty::Size, terminal::Terminal},
};

/// Handle of a process, for its status and for requests. All clones refer to the same process.
#[derive(Clone)]
pub struct Process {
    /// To the driver. Bounded: a client that floods one process waits, others do not.
    commands: mpsc::Sender<Command>,
    /// From the driver: the single source of the answers to `State` and `Wait`.
    status: watch::Receiver<Status>,
    group: Group,
    /// The terminal, if there is one and the process has not ended.
    // Weak: the driver drops the streams at the end, and a handle must not keep them open.
    terminal: Weak<Terminal>,
    info: Arc<Info>,
}

/// Facts that do not change during the life of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The container it belongs to.
    pub container: Id,
    /// Id of an exec process; absent for the container's init.
    pub exec: Option<Id>,
    /// The pid that containerd is told. Never 0.
    pub pid: u32,
    /// Paths of the standard streams, as containerd gave them.
    pub stdio: StdioPaths,
}

impl Info {
    /// Its kind, for the metrics.
    pub(crate) fn kind(&self) -> Kind {
        if self.exec.is_some() { Kind::Exec } else { Kind::Container }
    }
}

/// State of a process and its exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// Set exactly when the state is `Stopped`.
    pub exit: Option<Exit>,
}

/// Why a request to a process failed.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The state table denies it.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// The guest could not be started.
    #[error(transparent)]
    Start(#[from] EngineError),
    /// Its stdin could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// Its terminal refuses.
    #[error("terminal: {0}")]
    Terminal(#[source] io::Error),
    /// It was killed before it had started.
    #[error("killed while starting")]
    KilledWhileStarting,
    /// It has been deleted.
    #[error("process is deleted")]
    Deleted,
}

/// A request on its way to the driver.
pub(crate) struct Command {
    pub(crate) request: Request,
    pub(crate) reply: oneshot::Sender<Result<(), ProcessError>>,
}

impl Process {
    /// Sends a request and waits for the answer. Dropping the future does not withdraw a request
    /// that was sent.
    pub async fn request(&self, request: Request) -> Result<(), ProcessError> {
        let (reply, answer) = oneshot::channel();
        // Both errors have one meaning: the driver has ended, after a delete or with its server.
        self.commands.send(Command { request, reply }).await.map_err(|_| ProcessError::Deleted)?;
        answer.await.map_err(|_| ProcessError::Deleted)?
    }

    /// Sends a request without waiting for the answer, so a slow process does not delay the next.
    pub(crate) async fn tell(&self, request: Request) {
        let (reply, _) = oneshot::channel();
        // An error: the process has ended and needs no command.
        let _ = self.commands.send(Command { request, reply }).await;
    }

    /// The status now.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// True from the start to the end, also while paused.
    pub fn is_running(&self) -> bool {
        matches!(self.status().state, State::Starting | State::Running | State::Paused)
    }

    /// Waits for the end of the process.
    pub async fn wait(&self) -> Result<Exit, ProcessError> {
        // A clone: any number of callers wait at the same time.
        let mut status = self.status.clone();
        // Looks at the current value first, so an exit is found after the driver's end, too.
        let stopped = status
            .wait_for(|status| status.exit.is_some())
            .await
            .map_err(|_| ProcessError::Deleted)?;
        stopped.exit.ok_or(ProcessError::Deleted)
    }

    /// Sets the size of the terminal. Without a terminal it succeeds and does nothing.
    pub(crate) fn resize(&self, size: Size) -> Result<(), ProcessError> {
        // Absent is no error: clients send a size without asking for a terminal first, and that of
        // a process that has ended meanwhile is gone.
        let terminal = self.terminal.upgrade();
        terminal.map_or(Ok(()), |terminal| terminal.resize(size).map_err(ProcessError::Terminal))
    }

    /// Its group of futures.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// Its fixed facts.
    pub fn info(&self) -> &Info {
        &self.info
    }
}
