//! The life of a *managed* sandbox, which containerd makes and ends by its Sandbox API (`sandboxer = "shim"`): it is there before its
//! first container and after its last.
//!
//! ```text
//! Creating ─▶ Created ── start ─▶ Ready ── stop ─▶ Stopping ─▶ Stopped
//!     └─ failed: as if never begun
//! ```
//!
//! It may be stopped in any phase, and `shutdown` ends the server in any.

use std::{
    io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{
        Notify,
        oneshot::{self, error::RecvError},
    },
    task::spawn_blocking,
    time::timeout,
};

use super::Sandbox;
use crate::{
    engine::signal::Signal,
    id::Id,
    network::{Entrance, Network, NetworkError},
};

/// From the answer to a `ShutdownSandbox` to the end of the server. containerd takes a connection that closes together with the
/// answer for a failure, and keeps the pod. It has our `delete` end us next, which does not wait for this.
const ANSWER_TO_END: Duration = Duration::from_secs(1);

/// The life itself.
#[derive(Default)]
pub(super) struct Life {
    now: Mutex<Option<LifeStatus>>,
    changed: Notify,
}

/// Where a sandbox is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeStatus {
    /// Its id, which its containers have as group.
    pub id: Id,
    /// When it was created.
    pub created: SystemTime,
    /// How far it has come.
    pub phase: Phase,
}

/// How far a sandbox has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Is about to enter its network.
    Creating,
    /// Has a network.
    Created,
    /// Takes containers.
    Ready,
    /// Takes none any more; those there are are being ended.
    Stopping,
    /// Its containers have been ended.
    Stopped {
        /// When.
        at: SystemTime,
    },
}

/// Why a call of the Sandbox API failed.
#[derive(Debug, thiserror::Error)]
pub enum LifeError {
    /// There is no such sandbox behind this socket.
    #[error("sandbox {id}: not found")]
    NotFound {
        /// The id that was asked for.
        id: Id,
    },
    /// It has been created already, or is being.
    #[error("sandbox {id}: already exists")]
    AlreadyExists {
        /// Its id.
        id: Id,
    },
    /// It was started before, or is over.
    #[error("sandbox {id}: only a created sandbox can be started")]
    NotCreated {
        /// Its id.
        id: Id,
    },
    /// Its containers do not end. It takes no others; stopping it may be tried again.
    #[error("sandbox {id}: its containers have not ended within {} s of SIGKILL", time.as_secs())]
    NotEnding {
        /// Its id.
        id: Id,
        /// How long they had.
        time: Duration,
    },
    /// Its network cannot be used.
    #[error("sandbox {id}: {source}")]
    Network {
        /// Its id.
        id: Id,
        /// Why.
        source: NetworkError,
    },
}

impl Life {
    /// Whether the sandbox stays although it has no container.
    pub(super) fn holds(&self) -> bool {
        self.with(|now| now.is_some())
    }

    /// Whether this is the sandbox's own id.
    pub(super) fn is_of(&self, id: &str) -> bool {
        self.with(|now| now.as_ref().is_some_and(|status| status.id.as_str() == id))
    }

    /// Whether containers may be made and started.
    pub(super) fn takes_containers(&self) -> bool {
        self.with(|now| now.as_ref().is_some_and(|status| status.phase == Phase::Ready))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Option<LifeStatus>) -> T) -> T {
        look(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin(&self, id: &Id) -> Result<(), LifeError> {
        self.with(|now| match now {
            Some(_) => Err(LifeError::AlreadyExists { id: id.clone() }),
            None => {
                *now = Some(LifeStatus { id: id.clone(), created: SystemTime::now(), phase: Phase::Creating });
                Ok(())
            }
        })
    }

    /// What was begun has a network now, or has come to nothing.
    fn settle(&self, has_network: bool) {
        self.with(|now| match now {
            Some(status) if has_network && status.phase == Phase::Creating => status.phase = Phase::Created,
            Some(_) if has_network => {}
            _ => *now = None,
        });
        // Who waits for what has come to nothing is told.
        self.changed.notify_waiters();
    }

    fn start(&self, id: &Id) -> Result<LifeStatus, LifeError> {
        self.with(|now| {
            let status = of(now, id)?;
            if status.phase != Phase::Created {
                return Err(LifeError::NotCreated { id: id.clone() });
            }
            status.phase = Phase::Ready;
            Ok(status.clone())
        })
    }

    /// Takes no containers any more.
    fn stopping(&self) {
        self.with(|now| match now {
            Some(status) if !matches!(status.phase, Phase::Stopped { .. }) => status.phase = Phase::Stopping,
            _ => {}
        });
    }

    /// Its containers have ended. What has been stopped before stays so.
    fn stop(&self) {
        self.with(|now| match now {
            Some(status) if !matches!(status.phase, Phase::Stopped { .. }) => {
                status.phase = Phase::Stopped { at: SystemTime::now() };
            }
            _ => {}
        });
        self.changed.notify_waiters();
    }

    async fn until_stopped(&self, id: &Id) -> Result<SystemTime, LifeError> {
        loop {
            // Hears of a change from here on, also before it is first polled.
            let changed = self.changed.notified();
            if let Phase::Stopped { at } = self.status(id)?.phase {
                return Ok(at);
            }
            changed.await;
        }
    }

    fn status(&self, id: &Id) -> Result<LifeStatus, LifeError> {
        self.with(|now| of(now, id).cloned())
    }
}

fn of<'a>(now: &'a mut Option<LifeStatus>, id: &Id) -> Result<&'a mut LifeStatus, LifeError> {
    now.as_mut().filter(|status| status.id == *id).ok_or_else(|| LifeError::NotFound { id: id.clone() })
}

impl Sandbox {
    /// Creates the sandbox, in the network namespace at that path, or in the host's. What has begun is brought to its end also when
    /// the future is dropped.
    pub async fn create_sandbox(&self, id: &Id, network: Option<PathBuf>) -> Result<(), LifeError> {
        self.life(id)?.begin(id)?;
        self.shared.used.notify_waiters();
        let sandbox = self.clone();
        let entered = self.brought_to_its_end(async move {
            let entered = enter(sandbox.network().clone(), network).await;
            if let Some(life) = &sandbox.shared.life {
                life.settle(entered.is_ok());
            }
            sandbox.shared.used.notify_waiters();
            entered
        });
        let entered = entered.await.unwrap_or_else(|error| Err(lost(error)));
        entered.map_err(|source| LifeError::Network { id: id.clone(), source })
    }

    /// Starts it: from now on it takes containers.
    pub fn start_sandbox(&self, id: &Id) -> Result<LifeStatus, LifeError> {
        self.life(id)?.start(id)
    }

    /// Where it is in its life.
    pub fn sandbox_status(&self, id: &Id) -> Result<LifeStatus, LifeError> {
        self.life(id)?.status(id)
    }

    /// Ends its containers: by SIGTERM if they have time, then by SIGKILL. They stay until they are deleted; one that is being created
    /// meanwhile is not started any more. What has begun is brought to its end also when the future is dropped.
    pub async fn stop_sandbox(&self, id: &Id, time: Duration) -> Result<(), LifeError> {
        let life = self.life(id)?;
        life.status(id)?;
        life.stopping();
        let sandbox = self.clone();
        let ended = self.brought_to_its_end(async move {
            let ended = tokio::select! {
                ended = sandbox.end_within(time) => ended,
                // The server ends them.
                () = sandbox.tasks().stopped() => false,
            };
            if ended {
                sandbox.is_over();
            }
            ended
        });
        match ended.await {
            Ok(true) => Ok(()),
            _ => Err(LifeError::NotEnding { id: id.clone(), time: self.tasks().grace() }),
        }
    }

    /// Does `work` in a task of its own: whoever goes meanwhile takes nothing back.
    async fn brought_to_its_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RecvError> {
        let (answer, done) = oneshot::channel();
        // An error: nobody listens any more.
        self.tasks().spawn(async move { drop(answer.send(work.await)) });
        done.await
    }

    async fn end_within(&self, time: Duration) -> bool {
        let willingly = !time.is_zero() && timeout(time, self.end_all(Signal::TERM)).await.is_ok();
        willingly || timeout(self.tasks().grace(), self.end_all(Signal::KILL)).await.is_ok()
    }

    /// Waits until it is stopped; the answer is when that was.
    pub async fn wait_sandbox(&self, id: &Id) -> Result<SystemTime, LifeError> {
        self.life(id)?.until_stopped(id).await
    }

    /// Ends it, with what is left in it; the server ends with it, a moment later. Also one that could not be created.
    pub fn shutdown_sandbox(&self, id: &Id) -> Result<(), LifeError> {
        let life = self.life(id)?;
        if life.holds() {
            life.status(id)?;
        }
        life.stopping();
        let tasks = self.tasks().clone();
        self.tasks().spawn(async move {
            // An error: nobody has ended it meanwhile.
            let _ = timeout(ANSWER_TO_END, tasks.stopped()).await;
            tasks.stop();
        });
        Ok(())
    }

    /// The server is about to end its containers.
    pub(crate) fn is_ending(&self) {
        if let Some(life) = &self.shared.life {
            life.stopping();
        }
    }

    /// Its containers have ended: who waits for the sandbox is told.
    pub(crate) fn is_over(&self) {
        if let Some(life) = &self.shared.life {
            life.stop();
        }
    }

    fn life(&self, id: &Id) -> Result<&Life, LifeError> {
        self.shared.life.as_deref().ok_or_else(|| LifeError::NotFound { id: id.clone() })
    }
}

async fn enter(network: Network, path: Option<PathBuf>) -> Result<(), NetworkError> {
    let Some(path) = path else { return Ok(()) };
    let entered = spawn_blocking(move || network.park(Entrance::at("netns_path", &path)?)).await;
    entered.unwrap_or_else(|error| Err(lost(error)))
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError::Enter { what: "enter the sandbox's network", source: io::Error::other(error) }
}
