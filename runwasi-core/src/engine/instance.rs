//! What an integrator implements to run a guest: [`Instance`], and what it is given.

use std::{
    collections::HashMap,
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::{EngineError, exit::ExitStatus, extensions::Kept, signal::Signal};
use crate::{
    artifact::{self, Artifact, ArtifactError, Program, oci::Images},
    credentials::Identity,
    id::Id,
    network::Network,
    resources::memory::Memory,
    rootfs::Rootfs,
    scheduler::group::Group,
    stdio::Stdio,
};

/// One guest program: ready, running or done.
#[async_trait]
pub trait Instance: Send + Sync + 'static {
    /// Runs the guest to its end.
    ///
    /// Called once, by containerd's `Start`, on the guest runtime and inside the container's group of futures: pause,
    /// kill and metering act on how this future is polled. It therefore yields often (within some milliseconds, about
    /// one while others may wait), never blocks its thread, and frees everything when it is dropped at any await: that is
    /// what SIGKILL does.
    /// Further futures are started with [`GuestContext::spawn`] only.
    ///
    /// The guest counts as started when [`GuestContext::ready`] is called, at the latest when `run` returns
    /// a status. An error before that fails containerd's `Start`; a later one ends the process with status 134.
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError>;

    /// Tells the guest of a signal whose default action would end it. Called on the control runtime, must not block.
    ///
    /// An instance that has a graceful stop begins it, returns [`SignalResponse::Handled`] and ends `run` itself later;
    /// otherwise the group of futures is dropped and the process ends with 128+n. Never called for SIGKILL.
    fn signal(&self, _signal: Signal) -> SignalResponse {
        SignalResponse::Unhandled
    }
}

/// What an instance made of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalResponse {
    /// It will act on the signal itself.
    Handled,
    /// It has no way to: the default action applies.
    Unhandled,
}

/// Everything an engine may know about the process it prepares.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// The container's id.
    pub container: Id,
    /// Program and arguments; never empty. The first names the artifact, see [`InstanceSpec::find`].
    pub args: Vec<String>,
    /// Environment, `(name, value)` in the order of `config.json`.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute, known to exist in the root file system.
    pub cwd: PathBuf,
    /// As whom the guest opens files. If there is one, file calls are to be made by the thread that polls the guest: it is entered
    /// there. What the engine opens for itself is opened with [`crate::credentials::as_host`].
    pub identity: Option<Arc<Identity>>,
    /// `RLIMIT_NOFILE`: one more than the highest file descriptor the guest may have.
    pub open_files: u32,
    /// The container's annotations.
    pub annotations: Arc<HashMap<String, String>>,
    /// The container's root file system and volumes.
    pub rootfs: Arc<Rootfs>,
    /// The file that `args[0]` names, looked up as a container's program is: absolute, with a slash relative to `cwd`, else through
    /// `PATH` and last in `cwd`; a suffix `#name` selects the export to call. See [`InstanceSpec::find`].
    pub file: Result<Program, ArtifactError>,
    /// Where the image of the container is looked at.
    pub images: Arc<dyn Images>,
    /// Where the guest's standard streams go.
    pub stdio: Stdio,
    /// The container's memory: what a guest can grow is to be charged to it, and what it refuses is not to be given.
    pub memory: Arc<Memory>,
    /// What the engine keeps for the container; the same for all its processes.
    pub kept: Arc<Kept>,
    /// The sandbox's network: a guest's sockets are to be made inside it, see [`Network::run`].
    pub network: Network,
}

impl InstanceSpec {
    /// Finds the program that `args[0]` names: the file, or, where there is none, a wasm layer of the container's image. Of one layer
    /// any name will do, of several it is the title. Only then is containerd asked; an engine whose programs are no wasm never does.
    pub async fn find(&self) -> Result<Program, ArtifactError> {
        artifact::find(&self.file, &self.args, &self.container, &*self.images).await
    }

    /// Reads a program that was found.
    pub async fn read(&self, program: &Program) -> Result<Artifact, ArtifactError> {
        artifact::load(program, &self.rootfs, &*self.images).await
    }

    /// The value of an environment variable, the last one if it is given twice.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What a running instance may ask of its container. Cheap to clone.
#[derive(Clone)]
pub struct GuestContext {
    group: Group,
    /// Taken by the first call of `ready`; a mutex since the instance may share the context between tasks.
    ready: Arc<Mutex<Option<oneshot::Sender<()>>>>,
}

impl GuestContext {
    /// Makes the context of one run; the receiver resolves with the first `ready`.
    pub(crate) fn new(group: Group) -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self { group, ready: Arc::new(Mutex::new(Some(sender))) }, receiver)
    }

    /// Reports the guest as running. The first call counts.
    pub fn ready(&self) {
        let sender = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The receiver is gone when the process was killed while starting: nobody is left to tell.
            let _ = sender.send(());
        }
    }

    /// Starts a further future of this container. It is paused, metered and killed together with the guest, and
    /// dropped when `run` ends.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.group.spawn(future);
    }
}
