//! Calls of the Sandbox API on a managed sandbox.

use std::{
    future::pending,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::oneshot::{self, error::RecvError},
    time::{sleep, timeout},
};

use super::{
    Sandbox,
    lifecycle::{CreateSandboxError, Lifecycle, LifecycleError, LifecycleStatus},
};
use crate::{
    blocking::blocking,
    bundle::{
        allowed_roots,
        config::{NamespacesConfig, SandboxConfig},
        pod::PodConfig,
    },
    container::pod_files::PodFiles,
    engine::signal::Signal,
    id::Id,
    network::{Entrance, Namespaces, Network, NetworkError},
    sys::NamespaceKind,
};

/// Time from the answer to a `ShutdownSandbox` to the end of the server.
// containerd takes a connection that closes together with the answer for a failure, and keeps the
// pod. It runs our `delete` next, which ends the server without waiting for this time.
const ANSWER_TO_END: Duration = Duration::from_secs(1);

/// Content of `CreateSandbox`.
#[derive(Clone, Debug, Default)]
pub struct SandboxRequest {
    /// Bundle of the sandbox.
    pub bundle: Option<PathBuf>,
    /// Path of its network namespace. Absent for a sandbox in the network of its bundle's
    /// `config.json`, by default the host's.
    pub network: Option<PathBuf>,
    /// Configuration of its pod. Absent for clients other than the CRI.
    pub pod: Option<PodConfig>,
}

/// Time between two questions. The first is asked after it, too: a sandbox is usually started at
/// once.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);

impl Sandbox {
    /// Creates the sandbox: its namespaces, its process and the files of its pod. A creation that
    /// has begun runs to completion even if the future is dropped.
    #[doc(hidden)]
    pub async fn create_sandbox(
        &self,
        id: &Id,
        request: SandboxRequest,
    ) -> Result<(), LifecycleError> {
        self.lifecycle(id)?.begin(id)?;
        // From here on the sandbox is in use: ends the idle time in `idle_for`.
        self.shared.used.notify_waiters();
        let sandbox = self.clone();
        let entered = self.run_to_completion(async move {
            let roots = sandbox.shared.host.bundle_roots.clone();
            let made = make(sandbox.network().clone(), request, roots).await;
            sandbox.follow_signals();
            let created = made.map(|files| sandbox.settle(files));
            if let (Err(_), Some(lifecycle)) = (&created, sandbox.own_life()) {
                lifecycle.settle(false);
            }
            // After a failure the sandbox is unused again: the idle time starts anew.
            sandbox.shared.used.notify_waiters();
            created
        });
        // The outer error: the task is gone without an answer.
        let entered = entered.await.unwrap_or_else(|error| Err(lost(error).into()));
        entered.map_err(|source| LifecycleError::Create { id: id.clone(), source })
    }

    /// Ends a creation that has succeeded.
    fn settle(&self, files: Option<PodFiles>) {
        let Some(managed) = &self.shared.managed else { return };
        *managed.files.lock() = files.map(Arc::new);
        // After the files, which the first container may ask for at once.
        managed.lifecycle.settle(true);
        if managed.lifecycle.is_stopped() {
            // The stop came before the files.
            drop(managed.files.lock().take());
        }
    }

    /// Resolves when containerd has forgotten a managed sandbox that has not been started. Never
    /// resolves for other sandboxes.
    // containerd 2.3 pulls the pause image between `CreateSandbox` and `StartSandbox`, also for
    // pods that need none. If the pull fails, it deletes its record of the sandbox and never ends
    // the sandbox. The next try makes another one.
    pub(crate) async fn forgotten(&self) {
        let Some(managed) = &self.shared.managed else { return pending().await };
        loop {
            let id = managed.lifecycle.until_created().await;
            sleep(RECORD_INTERVAL).await;
            // Asked about after the time: the sandbox may have been started in it. A sandbox that
            // is started between the answer and the end is known to containerd.
            if managed.lifecycle.is_only_created()
                && managed.records.has(&id).await == Some(false)
                && managed.lifecycle.is_only_created()
            {
                tracing::info!(sandbox = %id, "containerd has forgotten it before its start");
                return;
            }
        }
    }

    /// Starts the sandbox, which takes containers from now on.
    #[doc(hidden)]
    pub fn start_sandbox(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.lifecycle(id)?.start(id)
    }

    /// Status of the sandbox.
    #[doc(hidden)]
    pub fn sandbox_status(&self, id: &Id) -> Result<LifecycleStatus, LifecycleError> {
        self.lifecycle(id)?.status(id)
    }

    /// Ends the containers: by SIGTERM within `time` unless it is zero, then by SIGKILL. They stay
    /// until they are deleted. A container that is being created meanwhile cannot be started. A
    /// stop that has begun runs to completion even if the future is dropped, and succeeds also
    /// while the server is stopping.
    #[doc(hidden)]
    pub async fn stop_sandbox(&self, id: &Id, time: Duration) -> Result<(), LifecycleError> {
        let lifecycle = self.lifecycle(id)?;
        lifecycle.status(id)?;
        // Before the signals: no container starts after them.
        lifecycle.stopping();
        let sandbox = self.clone();
        let own = id.clone();
        let ended = self.run_to_completion(async move {
            let ended = tokio::select! {
                ended = sandbox.end_within(time) => ended,
                // A server that is stopping ends the containers itself, and may do so sooner, or
                // give it up. Also another stop may. An error: the creation of the sandbox has
                // failed.
                stopped = sandbox.wait_sandbox(&own) => {
                    stopped.is_ok() && sandbox.end_within(Duration::ZERO).await
                }
            };
            if ended {
                sandbox.conclude_stop().await;
            }
            ended
        });
        match ended.await {
            Ok(true) => Ok(()),
            // The containers still run, or the task is gone.
            _ => Err(LifecycleError::NotEnding { id: id.clone(), time: self.tasks().grace() }),
        }
    }

    /// Marks the sandbox as stopped, and gives back what only running containers need. They have
    /// ended and may stay for long until they are deleted.
    pub(super) async fn conclude_stop(&self) {
        let Some(managed) = &self.shared.managed else { return };
        self.mark_stopped();
        // After the mark, which a creation that has not ended looks for (`settle`).
        drop(managed.files.lock().take());
        self.detach_memory().await;
    }

    /// Runs `work` in a task of its own, so that a caller that goes away does not interrupt it.
    pub(crate) async fn run_to_completion<T: Send + 'static>(
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
    #[doc(hidden)]
    pub async fn wait_sandbox(&self, id: &Id) -> Result<SystemTime, LifecycleError> {
        self.lifecycle(id)?.until_stopped(id).await
    }

    /// Ends the sandbox with everything that is left in it, and the server a moment later. Works
    /// also after a failed creation.
    #[doc(hidden)]
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
        if let Some(lifecycle) = self.own_life() {
            lifecycle.stopping();
        }
    }

    /// Marks the sandbox as stopped and wakes its waiters: the containers have ended.
    pub(crate) fn mark_stopped(&self) {
        if let Some(lifecycle) = self.own_life() {
            lifecycle.stop();
        }
    }

    fn lifecycle(&self, id: &Id) -> Result<&Lifecycle, LifecycleError> {
        self.own_life().ok_or_else(|| LifecycleError::NotFound { id: id.clone() })
    }
}

/// Makes the files of the pod, then enters its namespaces.
async fn make(
    network: Network,
    request: SandboxRequest,
    roots: Arc<[PathBuf]>,
) -> Result<Option<PodFiles>, CreateSandboxError> {
    let work = move || {
        let bundle = request.bundle.as_deref();
        if let Some(bundle) = bundle.filter(|_| !roots.is_empty()) {
            // Before the first access to the bundle.
            allowed_roots::check(bundle, &roots)?;
        }
        let namespaces = namespaces(&request)?;
        let files = request.pod.as_ref().zip(bundle).map(|(pod, bundle)| {
            // Before the process of the sandbox, which a failure would leave behind.
            PodFiles::make(bundle, pod)
        });
        let files = files.transpose()?;
        network.move_to(namespaces)?;
        Ok(files)
    };
    // On the blocking pool: it waits for the start of a thread.
    blocking(work, |error| lost(error).into()).await
}

/// The namespaces of a managed sandbox. `netns_path` and the pod come before `config.json`.
fn namespaces(request: &SandboxRequest) -> Result<Namespaces, CreateSandboxError> {
    let config = request.bundle.as_deref().map(of_bundle).transpose()?.unwrap_or_default();
    let mut namespaces = Namespaces::open(&config)?;
    if let Some(path) = &request.network {
        let Namespaces { network, ipc, uts, .. } = Namespaces::at("netns_path", path)?;
        namespaces = Namespaces { network, ipc, uts, ..namespaces };
    }
    if let Some(pod) = &request.pod {
        pod.check()?;
        // A path may be that of the host's network.
        let own_network = !namespaces.network.is_current(NamespaceKind::Network)?;
        namespaces.sysctls = pod.namespace_sysctls(own_network)?;
        if request.network.is_some() {
            namespaces.hostname = Some(pod.hostname.clone()).filter(|name| !name.is_empty());
        }
        namespaces.host_pids = pod.host_pids;
        match (pod.host_ipc, &namespaces.ipc) {
            (true, _) => namespaces.ipc = Entrance::Host,
            // Of a pod in the host's network: native containers get that of the sandbox's process.
            (false, Entrance::Host) => namespaces.ipc = Entrance::New,
            (false, _) => {}
        }
    }
    Ok(namespaces)
}

/// The namespaces of the `config.json` that `ctr sandboxes run` gives a bundle.
fn of_bundle(bundle: &Path) -> Result<NamespacesConfig, CreateSandboxError> {
    Ok(SandboxConfig::namespaces_of_managed(bundle)?)
}

fn lost(error: impl std::error::Error + Send + Sync + 'static) -> NetworkError {
    NetworkError::Enter { what: "create the sandbox", source: io::Error::other(error) }
}
