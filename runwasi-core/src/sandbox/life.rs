//! The life of a sandbox that containerd manages by its Sandbox API (`sandboxer = "shim"`): it is there before its first container
//! and after its last, and needs no container that stands for it. Used by `service::sandbox`, which only translates.
//!
//! ```text
//! create ─▶ Created ── start ─▶ Ready ── stop ─▶ Stopped ── shutdown ─▶ the server ends
//!              └────────────── stop ─────────────┘     (also from any other phase)
//! ```

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{sync::Notify, task::spawn_blocking, time::timeout};

use super::Sandbox;
use crate::{
    bundle::config,
    id::Id,
    network::{Entrance, NetworkError},
    process::signal::Signal,
};

/// From the answer to a `ShutdownSandbox` to the end of the server. containerd closes the connection itself then; one that closes together
/// with the answer it takes for a failure, and does not remove the pod.
const ANSWER_TO_END: Duration = Duration::from_millis(100);

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
    /// Has a network.
    Created,
    /// Takes containers.
    Ready,
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
    /// It has been created already.
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

    fn with<T>(&self, look: impl FnOnce(&mut Option<LifeStatus>) -> T) -> T {
        look(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn create(&self, id: &Id) -> Result<(), LifeError> {
        self.with(|now| match now {
            Some(_) => Err(LifeError::AlreadyExists { id: id.clone() }),
            None => {
                *now = Some(LifeStatus { id: id.clone(), created: SystemTime::now(), phase: Phase::Created });
                Ok(())
            }
        })
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

    fn stop(&self, id: &Id) -> Result<(), LifeError> {
        self.with(|now| {
            let status = of(now, id)?;
            if !matches!(status.phase, Phase::Stopped { .. }) {
                status.phase = Phase::Stopped { at: SystemTime::now() };
            }
            Ok(())
        })?;
        self.changed.notify_waiters();
        Ok(())
    }

    async fn stopped(&self, id: &Id) -> Result<SystemTime, LifeError> {
        loop {
            // Hears of every change from here on, also before it is first polled.
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

    fn forget(&self) {
        self.with(Option::take);
    }
}

fn of<'a>(now: &'a mut Option<LifeStatus>, id: &Id) -> Result<&'a mut LifeStatus, LifeError> {
    now.as_mut().filter(|status| status.id == *id).ok_or_else(|| LifeError::NotFound { id: id.clone() })
}

impl Sandbox {
    /// Creates the sandbox, in the network namespace at that path, or in the host's.
    pub async fn create_sandbox(&self, id: &Id, network: Option<PathBuf>) -> Result<(), LifeError> {
        let life = self.life(id)?;
        life.create(id)?;
        self.shared.used.notify_waiters();
        let (network, own) = (network.map_or(config::Network::Host, config::Network::Path), self.network().clone());
        let enter = move || own.park(Entrance::open(&network)?);
        let entered = spawn_blocking(enter).await.unwrap_or_else(|error| {
            Err(NetworkError::Enter { what: "enter the sandbox's network", source: error.into() })
        });
        entered.map_err(|source| {
            life.forget();
            self.shared.used.notify_waiters();
            LifeError::Network { id: id.clone(), source }
        })
    }

    /// Starts it: from now on it takes containers.
    pub fn start_sandbox(&self, id: &Id) -> Result<LifeStatus, LifeError> {
        self.life(id)?.start(id)
    }

    /// Where it is in its life.
    pub fn sandbox_status(&self, id: &Id) -> Result<LifeStatus, LifeError> {
        self.life(id)?.status(id)
    }

    /// Ends its containers: by SIGTERM if they have time, then by SIGKILL. They stay until they are deleted.
    pub async fn stop_sandbox(&self, id: &Id, time: Duration) -> Result<(), LifeError> {
        let life = self.life(id)?;
        life.status(id)?;
        if time.is_zero() || timeout(time, self.end_all(Signal::TERM)).await.is_err() {
            // Bounded: a reader who does not read keeps no sandbox.
            let _ = timeout(self.tasks().grace(), self.end_all(Signal::KILL)).await;
        }
        life.stop(id)
    }

    /// Waits until it is stopped; the answer is when that was.
    pub async fn wait_sandbox(&self, id: &Id) -> Result<SystemTime, LifeError> {
        self.life(id)?.stopped(id).await
    }

    /// Ends it, with what is left in it; the server ends with it, a moment later.
    pub fn shutdown_sandbox(&self, id: &Id) -> Result<(), LifeError> {
        self.life(id)?.stop(id)?;
        let tasks = self.tasks().clone();
        self.tasks().spawn(async move {
            // An error: nobody has ended it meanwhile.
            let _ = timeout(ANSWER_TO_END, tasks.stopped()).await;
            tasks.stop();
        });
        Ok(())
    }

    fn life(&self, id: &Id) -> Result<&Life, LifeError> {
        self.shared.life.as_deref().ok_or_else(|| LifeError::NotFound { id: id.clone() })
    }
}
