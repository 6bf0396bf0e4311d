//! Calls of the Sandbox API on a managed sandbox.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::oneshot::{self, error::RecvError},
    time::timeout,
};

use super::{
    Sandbox,
    lifecycle::{Lifecycle, LifecycleError, LifecycleStatus},
};
use crate::{
    blocking::blocking,
    engine::signal::Signal,
    id::Id,
    network::{Namespaces, Network, NetworkError},
};

/// Time from the answer to a `ShutdownSandbox` to the end of the server.
// containerd takes a connection that closes together with the answer for a failure, and keeps the
// pod. It runs our `delete` next, which ends the server without waiting for this time.
const ANSWER_TO_END: Duration = Duration::from_secs(1);

impl Sandbox {
    /// Creates the sandbox in the network namespace at the path `network`, by default in the
    /// host's. A creation that has begun runs to completion even if the future is dropped.
    pub async fn create_sandbox(
        &self,
        id: &Id,
        network: Option<PathBuf>,
    ) -> Result<(), LifecycleError> {
        self.lifecycle(id)?.begin(id)?;
        // From here on the sandbox is in use: ends the idle time in `idle_for`.
        self.shared.used.notify_waiters();
        let sandbox = self.clone();
        let entered = self.run_to_completion(async move {
            let entered = enter(sandbox.network().clone(), network).await;
            sandbox.follow_signals();
            if let Some(lifecycle) = &sandbox.shared.lifecycle {
                lifecycle.settle(entered.is_ok());
            }
            // After a failure the sandbox is unused again: the idle time starts anew.
            sandbox.shared.used.notify_waiters();
            entered
        });
        // The outer error: the task is gone without an answer.
        let entered = entered.await.unwrap_or_else(|error| Err(lost(error)));
        entered.map_err(|source| LifecycleError::Network { id: id.clone(), source })
    }

    /// Starts the sandbox, which takes containers from now on.
    pub fn start_sandbox(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.lifecycle(id)?.start(id)
    }

    /// Status of the sandbox.
    pub fn sandbox_status(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.lifecycle(id)?.status(id)
    }

    /// Ends the containers: by SIGTERM within `time` unless it is zero, then by SIGKILL. They stay
    /// until they are deleted. A container that is being created meanwhile cannot be started. A
    /// stop that has begun runs to completion even if the future is dropped.
    pub async fn stop_sandbox(&self, id: &Id, time: Duration) -> Result<(), LifecycleError> {
        let lifecycle = self.lifecycle(id)?;
        lifecycle.status(id)?;
        // Before the signals: no container starts after them.
        lifecycle.stopping();
        let sandbox = self.clone();
        let ended = self.run_to_completion(async move {
            let ended = tokio::select! {
                ended = sandbox.end_within(time) => ended,
                // The server is stopping and ends the containers itself.
                () = sandbox.tasks().stopped() => false,
            };
            if ended {
                sandbox.mark_stopped();
            }
            ended
        });
        match ended.await {
            Ok(true) => Ok(()),
            // The containers still run, or the server stops, or the task is gone.
            _ => Err(LifecycleError::NotEnding { id: id.clone(), time: self.tasks().grace() }),
        }
    }

    /// Runs `work` in a task of its own, so that a caller that goes away does not interrupt it.
    async fn run_to_completion<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, RecvError> {
        let (answer, done) = oneshot::channel();
        // An error of the send: the caller has gone.
        self.tasks().spawn(async move { drop(answer.send(work.await)) });
        done.await
    }

    async fn end_within(&self, time: Duration) -> bool {
        let terminated = !time.is_zero() && timeout(time, self.end_all(Signal::TERM)).await.is_ok();
        // Bounded: a guest in a long host call cannot be dropped before it yields.
        terminated || timeout(self.tasks().grace(), self.end_all(Signal::KILL)).await.is_ok()
    }

    /// Waits until the sandbox is stopped and returns the time of the stop.
    pub async fn wait_sandbox(&self, id: &Id) -> Result<SystemTime, LifecycleError> {
        self.lifecycle(id)?.until_stopped(id).await
    }

    /// Ends the sandbox with everything that is left in it, and the server a moment later. Works
    /// also after a failed creation.
    pub fn shutdown_sandbox(&self, id: &Id) -> Result<(), LifecycleError> {
        let lifecycle = self.lifecycle(id)?;
        // Without a creation, or after a failed one, there is no id to compare with.
        if lifecycle.holds() {
            lifecycle.status(id)?;
        }
        lifecycle.stopping();
        let tasks = self.tasks().clone();
        // Before the stop: containerd deletes nothing in this sandbox any more.
        self.note_end_request();
        self.tasks().spawn(async move {
            // An error: the time has passed without another call that stops the server.
            let _ = timeout(ANSWER_TO_END, tasks.stopped()).await;
            tasks.stop();
        });
        Ok(())
    }

    /// Marks the sandbox as stopping: the server is about to end the containers.
    pub(crate) fn mark_stopping(&self) {
        if let Some(lifecycle) = &self.shared.lifecycle {
            lifecycle.stopping();
        }
    }

    /// Marks the sandbox as stopped and wakes its waiters: the containers have ended.
    pub(crate) fn mark_stopped(&self) {
        if let Some(lifecycle) = &self.shared.lifecycle {
            lifecycle.stop();
        }
    }

    fn lifecycle(&self, id: &Id) -> Result<&Lifecycle, LifecycleError> {
        self.shared.lifecycle.as_deref().ok_or_else(|| LifecycleError::NotFound { id: id.clone() })
    }
}

async fn enter(network: Network, path: Option<PathBuf>) -> Result<(), NetworkError> {
    let work = move || {
        let namespaces = path
            .map_or_else(|| Ok(Namespaces::default()), |path| Namespaces::at("netns_path", &path));
        network.move_to(namespaces?)
    };
    // On the blocking pool: it waits for the start of a thread.
    blocking(work, lost).await
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError::Enter { what: "enter the sandbox's network", source: io::Error::other(error) }
}
