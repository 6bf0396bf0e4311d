//! Life of a *managed* sandbox.
//!
//! containerd creates and ends it by its Sandbox API (`sandboxer = "shim"`), so it exists before
//! its first container and after its last.
//!
//! ```text
//! Creating ─▶ Created ── start ─▶ Ready ── stop ─▶ Stopping ─▶ Stopped
//!     └─ failed: as if never begun
//! ```
//!
//! It may be stopped in any phase, and `shutdown` ends the server in any phase.

use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use crate::{
    bundle::{allowed_roots::BundleError, config::ConfigError, pod::PodConfigError},
    container::pod_files::PodFilesError,
    id::Id,
    lock::Mutex,
    network::NetworkError,
};

/// Status of a managed sandbox, and its changes.
#[derive(Default)]
pub(super) struct Lifecycle {
    /// Empty before `CreateSandbox` and after a failed one.
    now: Mutex<Option<LifecycleStatus>>,
    changed: Notify,
}

/// Id, creation time and phase of a managed sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleStatus {
    /// Its id, which is the group of its containers.
    pub id: Id,
    /// Time of the creation.
    pub created: SystemTime,
    /// Its phase.
    pub phase: Phase,
}

/// Phase of a managed sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is about to enter its network.
    Creating,
    /// It has a network.
    Created,
    /// It takes containers.
    Ready,
    /// It takes no further containers, and the present ones are being ended.
    Stopping,
    /// Its containers have been ended.
    Stopped {
        /// Time of the stop.
        at: SystemTime,
    },
}

/// Why a call of the Sandbox API failed.
#[derive(Debug, thiserror::Error)]
pub enum LifecycleError {
    /// There is no such sandbox behind this socket.
    #[error("sandbox {id}: not found")]
    NotFound {
        /// The id in the request.
        id: Id,
    },
    /// It has been created already or is being created.
    #[error("sandbox {id}: already exists")]
    AlreadyExists {
        /// Its id.
        id: Id,
    },
    /// It is not in the phase `Created`: still being created, started before, or stopped.
    #[error("sandbox {id}: only a created sandbox can be started")]
    NotCreated {
        /// Its id.
        id: Id,
    },
    /// Its containers do not end. It takes no others, and the stop may be tried again.
    #[error("sandbox {id}: its containers have not ended within {} s of SIGKILL", time.as_secs())]
    NotEnding {
        /// Its id.
        id: Id,
        /// The time that they had.
        time: Duration,
    },
    /// It cannot be made as the request describes it.
    #[error("sandbox {id}: {source}")]
    Create {
        /// Its id.
        id: Id,
        /// Why.
        source: CreateSandboxError,
    },
}

/// Why a managed sandbox could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateSandboxError {
    /// Its network cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A field of the pod's configuration is wrong.
    #[error(transparent)]
    Pod(#[from] PodConfigError),
    /// A file of the pod cannot be made.
    #[error(transparent)]
    Files(#[from] PodFilesError),
    /// The bundle has a wrong `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bundle lies outside the allowed directories.
    #[error(transparent)]
    Place(#[from] BundleError),
}

impl Lifecycle {
    /// True if the sandbox stays although it has no container.
    pub(super) fn holds(&self) -> bool {
        self.with(|now| now.is_some())
    }

    /// True if `id` is the sandbox's own.
    pub(super) fn is_of(&self, id: &str) -> bool {
        self.with(|now| now.as_ref().is_some_and(|status| status.id.as_str() == id))
    }

    /// True if it has been stopped.
    pub(super) fn is_stopped(&self) -> bool {
        let is_stopped = |status: &LifecycleStatus| matches!(status.phase, Phase::Stopped { .. });
        self.with(|now| now.as_ref().is_some_and(is_stopped))
    }

    /// True if containers may be created and started.
    pub(super) fn takes_containers(&self) -> bool {
        self.with(|now| now.as_ref().is_some_and(|status| status.phase == Phase::Ready))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Option<LifecycleStatus>) -> T) -> T {
        look(&mut self.now.lock())
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

    /// Ends the creation: the sandbox has its network, or is as if never begun.
    pub(super) fn settle(&self, has_network: bool) {
        self.with(|now| match now {
            Some(status) if has_network && status.phase == Phase::Creating => {
                status.phase = Phase::Created
            }
            // Stopped while it was being created: the stop stands.
            Some(_) if has_network => {}
            _ => *now = None,
        });
        // Wakes callers that wait for a sandbox of a failed creation, which is not found any more,
        // and those that wait for a creation.
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

    /// Refuses containers from now on. No effect on a sandbox that is stopped.
    // No notification: waiters wait for `Stopped` only.
    pub(super) fn stopping(&self) {
        self.with(|now| match now {
            Some(status) if !matches!(status.phase, Phase::Stopped { .. }) => {
                status.phase = Phase::Stopping
            }
            _ => {}
        });
    }

    /// Marks the sandbox as stopped: its containers have ended.
    pub(super) fn stop(&self) {
        // The first stop stands, and with it its time: `WaitSandbox` has answered it.
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
            // Before the check: `Notified` gets every `notify_waiters` from its creation on, also
            // before its first poll. No change in between is lost.
            let changed = self.changed.notified();
            if let Phase::Stopped { at } = self.status(id)?.phase {
                return Ok(at);
            }
            changed.await;
        }
    }

    /// Resolves when the sandbox has been created and not started. Returns its id.
    pub(super) async fn until_created(&self) -> Id {
        loop {
            // Before the check, see `until_stopped`.
            let changed = self.changed.notified();
            let created = |status: &LifecycleStatus| status.phase == Phase::Created;
            let id = |status: &LifecycleStatus| status.id.clone();
            if let Some(id) = self.with(|now| now.as_ref().filter(|now| created(now)).map(id)) {
                return id;
            }
            changed.await;
        }
    }

    /// True if the sandbox has been created and not started.
    pub(super) fn is_only_created(&self) -> bool {
        self.with(|now| now.as_ref().is_some_and(|status| status.phase == Phase::Created))
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
