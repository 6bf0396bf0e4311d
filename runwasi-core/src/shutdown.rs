//! Cancel token, task tracker and grace of a server: the only place that spawns on the control
//! runtime.
//!
//! ```text
//! stop() ──▶ token cancelled: accepting ends, drivers end their guests
//!        ──▶ grace runs: containerd deletes its tasks, replies are written, events delivered
//!        ──▶ grace over: tasks that still wait give up
//! ```

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::panics;

/// How long after [`Tasks::grace_over`] tasks may still take to notice it.
const NOTICE: Duration = Duration::from_secs(1);

/// The tasks of one server. Clones share the same tasks.
#[derive(Clone, Debug)]
pub struct Tasks {
    token: CancellationToken,
    grace_over: CancellationToken,
    tracker: TaskTracker,
    grace: Duration,
}

impl Tasks {
    /// No tasks yet; after [`Tasks::stop`] they have `grace` to finish.
    pub fn new(grace: Duration) -> Self {
        Self {
            token: CancellationToken::new(),
            grace_over: CancellationToken::new(),
            tracker: TaskTracker::new(),
            grace,
        }
    }

    /// Starts a task on the current runtime. [`Tasks::drained`] waits for it. Its panic ends the
    /// process ([`panics`]).
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(panics::fatal_future(future));
    }

    /// Tells every task to finish. Idempotent.
    pub fn stop(&self) {
        self.token.cancel();
        // The tracker's `wait` returns only when it is closed. Tasks can still be spawned.
        self.tracker.close();
    }

    /// True once `stop` was called.
    pub fn is_stopped(&self) -> bool {
        self.token.is_cancelled()
    }

    /// The time that tasks have after `stop`.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// Resolves once `stop` was called.
    pub async fn stopped(&self) {
        self.token.cancelled().await;
    }

    /// Resolves once the grace after `stop` is over.
    pub async fn grace_over(&self) {
        self.grace_over.cancelled().await;
    }

    /// Waits for all tasks after `stop`: at most the grace, and a little for tasks to notice its
    /// end.
    pub async fn drained(&self) {
        if timeout(self.grace, self.tracker.wait()).await.is_ok() {
            return;
        }
        // Tasks that wait for something outside, such as containerd, give up now.
        self.grace_over.cancel();
        if timeout(NOTICE, self.tracker.wait()).await.is_err() {
            tracing::error!(left = self.tracker.len(), "leaving with tasks unfinished");
        }
    }
}
