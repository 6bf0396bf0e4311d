//! A process of a container: the cheap handle that RPC handlers hold. Commands go in, status comes out.
//!
//! [`state`] decides, [`driver`] acts.

pub(crate) mod driver;
pub(crate) mod execs;
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
    scheduler::group::Group,
    stdio::{error::StdioError, paths::StdioPaths, pty::Size, terminal::Terminal},
};

/// A process: its state, and a way to ask for things. All clones speak of the same process.
#[derive(Clone)]
pub struct Process {
    /// To the driver. Bounded: a client that floods one process waits, others do not.
    commands: mpsc::Sender<Command>,
    /// From the driver; the one truth that `State` and `Wait` both read.
    status: watch::Receiver<Status>,
    group: Group,
    /// For as long as it has its streams, and if it has one.
    terminal: Weak<Terminal>,
    info: Arc<Info>,
}

/// What is fixed for the life of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// The container it belongs to.
    pub container: Id,
    /// `None` for the container's init.
    pub exec: Option<Id>,
    /// The pid containerd is told. Never 0.
    pub pid: u32,
    /// Where containerd wants the standard streams, as given.
    pub stdio: StdioPaths,
}

/// Where a process is, and how it ended.
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
    /// Asks the driver and waits for its answer. Dropping the future does not take the request back.
    pub async fn request(&self, request: Request) -> Result<(), ProcessError> {
        let (reply, answer) = oneshot::channel();
        // Both errors mean the same: the driver has ended, after a delete or with its server.
        self.commands.send(Command { request, reply }).await.map_err(|_| ProcessError::Deleted)?;
        answer.await.map_err(|_| ProcessError::Deleted)?
    }

    /// The same without waiting for the answer: one that is slow to give it keeps nobody from the next.
    pub(crate) async fn tell(&self, request: Request) {
        let (reply, _) = oneshot::channel();
        // What has ended needs no command any more.
        let _ = self.commands.send(Command { request, reply }).await;
    }

    /// The status now.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Whether it has started and not ended.
    pub fn is_running(&self) -> bool {
        matches!(self.status().state, State::Starting | State::Running | State::Paused)
    }

    /// Waits for the end.
    pub async fn wait(&self) -> Result<Exit, ProcessError> {
        let mut status = self.status.clone();
        let stopped = status
            .wait_for(|status| status.exit.is_some())
            .await
            .map_err(|_| ProcessError::Deleted)?;
        stopped.exit.ok_or(ProcessError::Deleted)
    }

    /// Gives its terminal another size. Without a terminal there is nothing to resize; clients do not ask whether there is one.
    pub(crate) fn resize(&self, size: Size) -> Result<(), ProcessError> {
        match (self.terminal.upgrade(), self.status().state) {
            (Some(terminal), _) => terminal.resize(size).map_err(ProcessError::Terminal),
            (None, state @ State::Stopped) if self.info.stdio.terminal => {
                Err(Denial::WrongState { verb: "resize", state }.into())
            }
            (None, _) => Ok(()),
        }
    }

    /// Its futures.
    pub(crate) fn group(&self) -> &Group {
        &self.group
    }

    /// What is fixed about it.
    pub fn info(&self) -> &Info {
        &self.info
    }
}
