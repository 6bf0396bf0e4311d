//! Signals to the OS process of a sandbox.
//!
//! Each is delivered to the init of every container, as the container's own `Kill` would do. The
//! end of the process, by SIGKILL, kills all containers and ends the sandbox: it takes no further
//! ones.

use std::sync::{Arc, Weak};

use super::{Sandbox, Shared};
use crate::{
    engine::signal::Signal, process::state::Request, sandbox_process::Signals, shutdown::Tasks,
};

impl Sandbox {
    /// Delivers the signals to the sandbox's process from now on. No effect without a process, and
    /// in a second call.
    pub(super) fn follow_signals(&self) {
        let Some(signals) = self.network().take_signals() else { return };
        // Weak: the task lives as long as the process, which ends with the sandbox.
        let shared = Arc::downgrade(&self.shared);
        self.tasks().spawn(follow(signals, shared, self.tasks().clone()));
    }

    /// Resolves when no container is left.
    pub(super) async fn emptied(&self) {
        loop {
            // Before the check, see `idle_for`.
            let changed = self.shared.used.notified();
            if self.shared.containers.lock().is_empty() {
                return;
            }
            changed.await;
        }
    }

    async fn deliver(&self, signal: Signal) {
        for process in self.inits() {
            process.tell(Request::Kill(signal)).await;
        }
        for container in self.natives() {
            container.tell(signal).await;
        }
    }

    /// Ends the sandbox after the end of its process.
    async fn process_ended(&self) {
        tracing::warn!(pid = self.pid(), "process of a sandbox was killed: its containers end");
        self.mark_stopping();
        self.end_all(Signal::KILL).await;
        self.conclude_stop().await;
    }
}

async fn follow(mut signals: Signals, shared: Weak<Shared>, tasks: Tasks) {
    let leaving = async {
        tasks.stopped().await;
        // The process is obeyed during the drain, too.
        if let Some(sandbox) = sandbox(&shared) {
            sandbox.emptied().await;
        }
    };
    tokio::pin!(leaving);
    loop {
        let received = tokio::select! {
            received = signals.recv() => received,
            () = &mut leaving => return,
        };
        let Some(sandbox) = sandbox(&shared) else { return };
        match received.map(Signal::new) {
            Some(Some(signal)) => {
                tracing::info!(
                    pid = sandbox.pid(),
                    signal = signal.number(),
                    "signal to a sandbox"
                );
                sandbox.deliver(signal).await;
            }
            // The kernel has no other numbers.
            Some(None) => {}
            None => return sandbox.process_ended().await,
        }
    }
}

fn sandbox(shared: &Weak<Shared>) -> Option<Sandbox> {
    shared.upgrade().map(|shared| Sandbox { shared })
}
