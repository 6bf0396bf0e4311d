//! Stop of a sandbox: ends its guests, then answers containerd until the tasks are deleted.
//!
//! ```text
//! SIGTERM ──▶ guests end ──▶ exits are published ──▶ containerd deletes the tasks
//!                                                      └─▶ and asks for the end of the server
//! ```
//!
//! A connection that closes before the `Delete` of a task is a crash for containerd
//! (`cleanupAfterDeadShim` in [shim.go]): it calls the shim's `delete`, and publishes the exit and
//! the deletion of the task with the status of that answer. The server's own exit event has been
//! published before, so clients see two exits, and Docker keeps the last one. Therefore
//!
//! - the server answers until the tasks are deleted whose clients have asked about their end. All
//!   of Kubernetes, Docker and an attached `ctr` or `nerdctl` do: they wait for it, or ask for the
//!   state before the `Delete`,
//! - the exits of all other tasks (`ctr run --detach`) are left in their bundles, where `delete`
//!   finds them: the second event then repeats the first.
//!
//! [shim.go]: https://github.com/containerd/containerd/blob/v2.1.0/core/runtime/v2/shim.go

use std::{path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Sandbox, Slot};
use crate::{
    blocking::blocking,
    container::{Container, left_exit},
    engine::{exit::Exit, signal::Signal},
    process::{Process, state::Request},
};

/// Time for clients to learn of the exits by their events and to ask about them.
const FIRST_CALL: Duration = Duration::from_secs(1);

/// Time for containerd to ask for the end of the server after the last `Delete`.
// It asks at once, unless the Sandbox API manages the sandbox. A connection that closes before
// containerd has noted the `Delete` would look like a crash.
const LAST_CALL: Duration = Duration::from_millis(500);

impl Sandbox {
    /// Signals the init of every container and waits for their ends. The caller bounds the wait.
    pub async fn end_all(&self, signal: Signal) {
        let inits: Vec<Process> = self.inits();
        let natives = self.natives();
        // All signals before the first wait, and without their answers: containers end at the same
        // time, and a slow one does not delay the others.
        for process in &inits {
            process.tell(Request::Kill(signal)).await;
        }
        for container in &natives {
            container.tell(signal).await;
        }
        for process in &inits {
            // An error: the process has been deleted meanwhile.
            let _ = process.wait().await;
        }
        for container in &natives {
            container.wait().await;
        }
    }

    /// Forgets every container without a delete. The drivers end with their last handles.
    // The server is leaving, and no client can ask for these containers any more.
    pub fn clear(&self) {
        for container in self.natives() {
            // Its delegate stays for `delete`, which finds it by the record in the bundle.
            container.delegate.leave();
        }
        let containers = self.shared.change(std::mem::take);
        // Outside the lock, which `change` has released.
        drop(containers);
    }

    pub(super) fn inits(&self) -> Vec<Process> {
        self.shared
            .containers
            .lock()
            .values()
            .filter_map(Slot::ready)
            .map(|container| container.init.clone())
            .collect()
    }

    /// Notes that containerd has asked for the end of the sandbox. It makes no further calls, so
    /// the stop does not wait for any.
    pub(crate) fn note_end_request(&self) {
        self.shared.end_requested.cancel();
    }

    /// Notes that a client asks about the end of a container, which it is going to delete.
    // Only during a stop: a client that has listed the tasks some day will not delete them.
    pub(super) fn note_question(&self, container: &Container) {
        if self.tasks().is_stopped() {
            container.note_question();
        }
    }

    /// Waits until containerd has deleted the containers and has asked for the end, at most until
    /// the deadline; for containers without a client, [`FIRST_CALL`]. Leaves the exits of those
    /// that were not deleted in their bundles.
    pub(crate) async fn await_deletes(&self, deadline: Instant) {
        let requested = &self.shared.end_requested;
        if self.count() == 0 || requested.is_cancelled() {
            return;
        }
        tokio::select! {
            () = self.deleted() => {}
            () = self.questions_answered() => {}
            () = requested.cancelled() => {}
            () = sleep_until(deadline) => {}
        }
        self.leave_exits().await;
    }

    /// Resolves when all containers are deleted and containerd has noted that.
    async fn deleted(&self) {
        self.emptied().await;
        // An error: containerd does not ask, see `LAST_CALL`.
        let _ = timeout(LAST_CALL, self.shared.end_requested.cancelled()).await;
    }

    /// Resolves when no container is left whose end a client has asked about, after
    /// [`FIRST_CALL`]. Never resolves without any container.
    async fn questions_answered(&self) {
        sleep(FIRST_CALL).await;
        loop {
            // Before the check, see `idle_for`.
            let changed = self.shared.used.notified();
            if self.count() > 0 && !self.is_asked_about() {
                return;
            }
            changed.await;
        }
    }

    fn is_asked_about(&self) -> bool {
        let containers = self.shared.containers.lock();
        containers.values().any(|slot| match slot {
            Slot::Ready(container) => container.is_asked_about(),
            Slot::Native(container) => container.is_asked_about(),
            Slot::Creating => false,
        })
    }

    /// Leaves the exit of each container in its bundle.
    async fn leave_exits(&self) {
        let exits = self.exits();
        if exits.is_empty() {
            return;
        }
        tracing::info!(containers = exits.len(), "the tasks of a stopped sandbox are not deleted");
        let write = move || {
            for (bundle, exit) in exits {
                if let Err(error) = left_exit::write(&bundle, exit) {
                    // `delete` then reports the container as killed.
                    tracing::warn!(%error, bundle = %bundle.display(), "cannot leave an exit");
                }
            }
            Ok(())
        };
        // An error: this process is ending.
        let _: Result<(), ()> = blocking(write, drop).await;
    }

    fn exits(&self) -> Vec<(PathBuf, Exit)> {
        let containers = self.shared.containers.lock();
        let exit = |slot: &Slot| match slot {
            Slot::Ready(container) => {
                Some((container.bundle.clone(), container.init.status().exit?))
            }
            Slot::Native(container) => Some((container.bundle.clone(), container.exit()?)),
            Slot::Creating => None,
        };
        containers.values().filter_map(exit).collect()
    }
}
