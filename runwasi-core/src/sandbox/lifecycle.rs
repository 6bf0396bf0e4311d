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
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::sync::Notify;

use crate::{id::Id, network::NetworkError};

/// The life itself.
#[derive(Default)]
pub(super) struct Lifecycle {
    now: Mutex<Option<LifecycleStatus>>,
    changed: Notify,
}

/// Where a sandbox is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleStatus {
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
pub enum LifecycleError {
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

impl Lifecycle {
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

    fn with<T>(&self, look: impl FnOnce(&mut Option<LifecycleStatus>) -> T) -> T {
        look(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn begin(&self, id: &Id) -> Result<(), LifecycleError> {
        self.with(|now| match now {
            Some(_) => Err(LifecycleError::AlreadyExists { id: id.clone() }),
            None => {
                *now = Some(LifecycleStatus {
                    id: id.clone(),
                    created: SystemTime::now(),
                    phase: Phase::Creating,
                });
                Ok(())
            }
        })
    }

    /// What was begun has a network now, or has come to nothing.
    pub(super) fn settle(&self, has_network: bool) {
        self.with(|now| match now {
            Some(status) if has_network && status.phase == Phase::Creating => {
                status.phase = Phase::Created
            }
            Some(_) if has_network => {}
            _ => *now = None,
        });
        // Who waits for what has come to nothing is told.
        self.changed.notify_waiters();
    }

    pub(super) fn start(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.with(|now| {
            let status = of(now, id)?;
            if status.phase != Phase::Created {
                return Err(LifecycleError::NotCreated { id: id.clone() });
            }
            status.phase = Phase::Ready;
            Ok(status.clone())
        })
    }

    /// Takes no containers any more.
    pub(super) fn stopping(&self) {
        self.with(|now| match now {
            Some(status) if !matches!(status.phase, Phase::Stopped { .. }) => {
                status.phase = Phase::Stopping
            }
            _ => {}
        });
    }

    /// Its containers have ended. What has been stopped before stays so.
    pub(super) fn stop(&self) {
        self.with(|now| match now {
            Some(status) if !matches!(status.phase, Phase::Stopped { .. }) => {
                status.phase = Phase::Stopped { at: SystemTime::now() };
            }
            _ => {}
        });
        self.changed.notify_waiters();
    }

    pub(super) async fn until_stopped(&self, id: &Id) -> Result<SystemTime, LifecycleError> {
        loop {
            // Hears of a change from here on, also before it is first polled.
            let changed = self.changed.notified();
            if let Phase::Stopped { at } = self.status(id)?.phase {
                return Ok(at);
            }
            changed.await;
        }
    }

    pub(super) fn status(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.with(|now| of(now, id).cloned())
    }
}

fn of<'a>(
    now: &'a mut Option<LifecycleStatus>,
    id: &Id,
) -> Result<&'a mut LifecycleStatus, LifecycleError> {
    now.as_mut()
        .filter(|status| status.id == *id)
        .ok_or_else(|| LifecycleError::NotFound { id: id.clone() })
}
