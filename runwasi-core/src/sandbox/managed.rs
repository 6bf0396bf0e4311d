//! The calls of the Sandbox API on a managed sandbox.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::oneshot::{self, error::RecvError},
    task::spawn_blocking,
    time::timeout,
};

use super::{
    Sandbox,
    lifecycle::{Lifecycle, LifecycleError, LifecycleStatus},
};
use crate::{
    engine::signal::Signal,
    id::Id,
    network::{Entrance, Network, NetworkError},
};

/// From the answer to a `ShutdownSandbox` to the end of the server. containerd takes a connection that closes together with the
/// answer for a failure, and keeps the pod. It has our `delete` end us next, which does not wait for this.
const ANSWER_TO_END: Duration = Duration::from_secs(1);

impl Sandbox {
    /// Creates the sandbox, in the network namespace at that path, or in the host's. What has begun is brought to its end also when
    /// the future is dropped.
    pub async fn create_sandbox(
        &self,
        id: &Id,
        network: Option<PathBuf>,
    ) -> Result<(), LifecycleError> {
        self.lifecycle(id)?.begin(id)?;
        self.shared.used.notify_waiters();
        let sandbox = self.clone();
        let entered = self.run_to_completion(async move {
            let entered = enter(sandbox.network().clone(), network).await;
            if let Some(lifecycle) = &sandbox.shared.lifecycle {
                lifecycle.settle(entered.is_ok());
            }
            sandbox.shared.used.notify_waiters();
            entered
        });
        let entered = entered.await.unwrap_or_else(|error| Err(lost(error)));
        entered.map_err(|source| LifecycleError::Network { id: id.clone(), source })
    }

    /// Starts it: from now on it takes containers.
    pub fn start_sandbox(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.lifecycle(id)?.start(id)
    }

    /// Where it is in its life.
    pub fn sandbox_status(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.lifecycle(id)?.status(id)
    }

    /// Ends its containers: by SIGTERM if they have time, then by SIGKILL. They stay until they are deleted; one that is being created
    /// meanwhile is not started any more. What has begun is brought to its end also when the future is dropped.
    pub async fn stop_sandbox(&self, id: &Id, time: Duration) -> Result<(), LifecycleError> {
        let lifecycle = self.lifecycle(id)?;
        lifecycle.status(id)?;
        lifecycle.stopping();
        let sandbox = self.clone();
        let ended = self.run_to_completion(async move {
            let ended = tokio::select! {
                ended = sandbox.end_within(time) => ended,
                // The server ends them.
                () = sandbox.tasks().stopped() => false,
            };
            if ended {
                sandbox.mark_stopped();
            }
            ended
        });
        match ended.await {
            Ok(true) => Ok(()),
            _ => Err(LifecycleError::NotEnding { id: id.clone(), time: self.tasks().grace() }),
        }
    }

    /// Does `work` in a task of its own: whoever goes meanwhile takes nothing back.
    async fn run_to_completion<T: Send + 'static>(
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
    pub async fn wait_sandbox(&self, id: &Id) -> Result<SystemTime, LifecycleError> {
        self.lifecycle(id)?.until_stopped(id).await
    }

    /// Ends it, with what is left in it; the server ends with it, a moment later. Also one that could not be created.
    pub fn shutdown_sandbox(&self, id: &Id) -> Result<(), LifecycleError> {
        let lifecycle = self.lifecycle(id)?;
        if lifecycle.holds() {
            lifecycle.status(id)?;
        }
        lifecycle.stopping();
        let tasks = self.tasks().clone();
        self.tasks().spawn(async move {
            // An error: nobody has ended it meanwhile.
            let _ = timeout(ANSWER_TO_END, tasks.stopped()).await;
            tasks.stop();
        });
        Ok(())
    }

    /// The server is about to end its containers.
    pub(crate) fn mark_stopping(&self) {
        if let Some(lifecycle) = &self.shared.lifecycle {
            lifecycle.stopping();
        }
    }

    /// Its containers have ended: who waits for the sandbox is told.
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
    let Some(path) = path else { return Ok(()) };
    let entered = spawn_blocking(move || network.park(Entrance::at("netns_path", &path)?)).await;
    entered.unwrap_or_else(|error| Err(lost(error)))
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError::Enter { what: "enter the sandbox's network", source: io::Error::other(error) }
}
