//! The containers behind one socket: a Kubernetes pod, or one `ctr` container. It lives as long as they do, or, if containerd
//! manages it, by itself ([`lifecycle`]).

pub mod error;
pub mod lifecycle;
mod managed;

use std::{
    collections::{HashMap, hash_map::Entry},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};

use self::{error::SandboxError, lifecycle::Lifecycle};
use crate::{
    bundle::{config::Config, resources::ResourcesConfig},
    container::{
        Container,
        error::CreateError,
        host::Host,
        request::{CreateRequest, ExecRequest},
    },
    engine::{exit::Exit, signal::Signal},
    id::Id,
    network::Network,
    process::{Process, state::Request},
    resources::usage::Usage,
    shutdown::Tasks,
    stdio::pty::Size,
};

/// A sandbox. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    /// Locked for single look-ups and changes, never across an await: a slow create stalls nobody.
    containers: Mutex<HashMap<Id, Slot>>,
    /// Told when the first container comes and when the last has gone.
    used: Notify,
    /// When a signal was delivered last.
    killed: Mutex<Option<Instant>>,
    /// Of its own, if containerd manages it by its Sandbox API; else it lives as long as its containers.
    lifecycle: Option<Box<Lifecycle>>,
}

/// From the answer to a `Kill` to that of a `Shutdown` at least. The exit makes containerd delete the container and close the
/// connection, and who waits for the `Kill` there takes that for its answer if it has not come to see the answer before:
/// containerd 1.7 then failed to stop a pod. A shim of processes is never that fast.
const KILL_TO_SHUTDOWN: Duration = Duration::from_millis(5);

enum Slot {
    /// Reserved by a `Create` that has not finished.
    Creating,
    Ready(Arc<Container>),
}

impl Slot {
    fn ready(&self) -> Option<Arc<Container>> {
        match self {
            Self::Ready(container) => Some(container.clone()),
            Self::Creating => None,
        }
    }
}

/// Everything that is said about a process at once.
pub struct View {
    /// Its container's bundle.
    pub bundle: PathBuf,
    /// The process.
    pub process: Process,
}

impl Sandbox {
    /// An empty sandbox, which lives as long as its containers.
    pub fn new(host: Host) -> Self {
        Self::with_lifecycle(host, None)
    }

    /// One that containerd manages by its Sandbox API.
    pub fn managed(host: Host) -> Self {
        Self::with_lifecycle(host, Some(Box::default()))
    }

    fn with_lifecycle(host: Host, lifecycle: Option<Box<Lifecycle>>) -> Self {
        let (containers, used, killed) = (Mutex::default(), Notify::new(), Mutex::default());
        Self { shared: Arc::new(Shared { host, containers, used, killed, lifecycle }) }
    }

    /// Whether containerd manages it by its Sandbox API.
    pub fn is_managed(&self) -> bool {
        self.shared.lifecycle.is_some()
    }

    /// Resolves when the sandbox has had no container for `time`, from now on.
    pub async fn idle_for(&self, time: Duration) {
        loop {
            // Hears of every change from here on, also before it is first polled.
            let changed = self.shared.used.notified();
            if !self.is_empty() {
                changed.await;
            } else if timeout(time, changed).await.is_err() {
                return;
            }
        }
    }

    /// How many containers there are, those being created included.
    pub fn count(&self) -> usize {
        self.containers().len()
    }

    /// Creates a container; the answer is its init's pid. Dropping the future undoes what was done.
    pub async fn create(&self, request: CreateRequest) -> Result<u32, SandboxError> {
        let id = request.id.clone();
        self.check_ready(&request).await?;
        let reservation = Reservation::take(&self.shared, &id)?;
        let (shared, deleted) = (Arc::downgrade(&self.shared), id.clone());
        let on_deleted = Box::new(move || forget(&shared, &deleted));
        let created = Container::create(&self.shared.host, request, on_deleted).await;
        let container = created.map_err(|source| SandboxError::Create { id, source })?;
        let pid = container.init.info().pid;
        reservation.fill(container);
        Ok(pid)
    }

    /// A bundle that has lost its `config.json` makes a managed sandbox that nobody has created: that is said first.
    async fn check_ready(&self, request: &CreateRequest) -> Result<(), SandboxError> {
        let Err(refusal) = self.is_ready_for(&request.id) else { return Ok(()) };
        let bundle = request.bundle.clone();
        match spawn_blocking(move || Config::load(&bundle)).await {
            Ok(Err(wrong)) => Err(SandboxError::Create {
                id: request.id.clone(),
                source: CreateError::Config(wrong),
            }),
            _ => Err(refusal),
        }
    }

    fn is_ready_for(&self, container: &Id) -> Result<(), SandboxError> {
        match &self.shared.lifecycle {
            Some(lifecycle) if !lifecycle.takes_containers() => {
                Err(SandboxError::NotReady { id: container.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Adds a process to a container.
    pub async fn exec(&self, id: &Id, request: ExecRequest) -> Result<(), SandboxError> {
        let (container, exec) = (self.container(id)?, request.id.clone());
        let added = container.exec(&self.shared.host, request).await;
        added.map_err(|source| SandboxError::Exec { id: id.clone(), exec, source: source.into() })
    }

    /// Runs a process.
    pub async fn start(&self, id: &Id, exec: &str) -> Result<u32, SandboxError> {
        let view = self.view(id, exec)?;
        self.is_ready_for(id)?;
        if !exec.is_empty() {
            // The container may have been paused since.
            self.request(id, &self.view(id, "")?.process, Request::Exec).await?;
        }
        self.request(id, &view.process, Request::Start).await?;
        if exec.is_empty() {
            self.started(id).await?;
        }
        Ok(view.process.info().pid)
    }

    /// The hooks that follow the start of a container; if one of them fails, so does the container.
    async fn started(&self, id: &Id) -> Result<(), SandboxError> {
        // It may have been deleted meanwhile.
        let Ok(container) = self.container(id) else { return Ok(()) };
        let Err(source) = container.started().await else { return Ok(()) };
        // One that has ended needs no signal.
        let _ = container.init.request(Request::Kill(Signal::KILL)).await;
        Err(SandboxError::Hook { id: id.clone(), source })
    }

    /// Delivers a signal; `None` (signal 0) only asks whether the process is there.
    pub async fn kill(
        &self,
        id: &Id,
        exec: &str,
        signal: Option<Signal>,
    ) -> Result<(), SandboxError> {
        let view = self.view(id, exec)?;
        self.request(id, &view.process, signal.map_or(Request::Probe, Request::Kill)).await?;
        *self.shared.killed() = Some(Instant::now());
        Ok(())
    }

    /// Delivers a signal to every process of a container.
    pub async fn kill_all(&self, id: &Id, signal: Option<Signal>) -> Result<(), SandboxError> {
        let container = self.container(id)?;
        let request = signal.map_or(Request::Probe, Request::Kill);
        for exec in container.execs().all() {
            // One that has ended is no reason to spare the others.
            let _ = exec.request(request).await;
        }
        self.request(id, &container.init, request).await?;
        *self.shared.killed() = Some(Instant::now());
        Ok(())
    }

    /// Pauses a container.
    pub async fn pause(&self, id: &Id) -> Result<(), SandboxError> {
        self.request(id, &self.view(id, "")?.process, Request::Pause).await
    }

    /// Lets a paused container go on.
    pub async fn resume(&self, id: &Id) -> Result<(), SandboxError> {
        self.request(id, &self.view(id, "")?.process, Request::Resume).await
    }

    /// Closes a process's stdin.
    pub async fn close_stdin(&self, id: &Id, exec: &str) -> Result<(), SandboxError> {
        self.request(id, &self.view(id, exec)?.process, Request::CloseStdin).await
    }

    /// Gives a process's terminal, if it has one, another size.
    pub fn resize(&self, id: &Id, exec: &str, size: Size) -> Result<(), SandboxError> {
        let process = self.view(id, exec)?.process;
        process.resize(size).map_err(|source| SandboxError::Process { id: id.clone(), source })
    }

    /// Forgets a process that does not run; with the init goes its container.
    pub async fn delete(&self, id: &Id, exec: &str) -> Result<(u32, Exit), SandboxError> {
        let (container, process) = (self.container(id)?, self.view(id, exec)?.process);
        self.request(id, &process, Request::Delete).await?;
        if exec.is_empty() {
            container.deleted().await;
        }
        let gone = || SandboxError::NotFound { id: id.clone() };
        Ok((process.info().pid, process.status().exit.ok_or_else(gone)?))
    }

    /// Ends a container, whatever its state, and forgets it.
    pub async fn end(&self, id: &Id) -> Result<(u32, Exit), SandboxError> {
        if self.kill(id, "", Some(Signal::KILL)).await.is_ok() {
            self.wait(id, "").await?;
        }
        self.delete(id, "").await
    }

    /// Waits for a process's end; as many callers at once as like.
    pub async fn wait(&self, id: &Id, exec: &str) -> Result<Exit, SandboxError> {
        let process = self.view(id, exec)?.process;
        process.wait().await.map_err(|source| SandboxError::Process { id: id.clone(), source })
    }

    /// A process and what belongs to it; `exec` is empty for the init.
    pub fn view(&self, id: &Id, exec: &str) -> Result<View, SandboxError> {
        let container = self.container(id)?;
        let missing = || SandboxError::ProcessNotFound { id: id.clone(), exec: exec.to_owned() };
        let process = match exec {
            "" => container.init.clone(),
            exec => container.execs().get(exec).ok_or_else(missing)?,
        };
        Ok(View { bundle: container.bundle.clone(), process })
    }

    /// The processes of a container that have not been deleted, the init first.
    pub fn processes(&self, id: &Id) -> Result<Vec<Process>, SandboxError> {
        Ok(self.container(id)?.processes().collect())
    }

    /// Changes a container's limits, as far as `limits` speak of them.
    pub async fn update(&self, id: &Id, limits: ResourcesConfig) -> Result<(), SandboxError> {
        self.container(id)?.update(limits).await;
        Ok(())
    }

    /// What a container has used; also after its end.
    pub fn usage(&self, id: &Id) -> Result<Usage, SandboxError> {
        Ok(self.container(id)?.usage())
    }

    /// What all containers have used, added up; a peak is at most that.
    pub fn usage_of_all(&self) -> Usage {
        let containers: Vec<_> = self.containers().values().filter_map(Slot::ready).collect();
        containers.iter().map(|container| container.usage()).sum()
    }

    fn container(&self, id: &Id) -> Result<Arc<Container>, SandboxError> {
        let ready = self.containers().get(id).and_then(Slot::ready);
        ready.ok_or_else(|| SandboxError::NotFound { id: id.clone() })
    }

    /// Ends the sandbox. Asked after every delete; only the last container's takes it along, or one in the sandbox's own name.
    pub async fn shutdown(&self, id: &str) {
        let itself = self.shared.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.is_of(id));
        if itself || self.is_empty() {
            self.leave().await;
        }
    }

    async fn leave(&self) {
        let killed = *self.shared.killed();
        if let Some(killed) = killed {
            sleep_until(killed + KILL_TO_SHUTDOWN).await;
        }
        tracing::debug!("the sandbox is over");
        self.tasks().stop();
    }

    /// Whether nothing keeps it: no container, nor one being created, nor containerd's Sandbox API.
    pub fn is_empty(&self) -> bool {
        self.containers().is_empty()
            && !self.shared.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.holds())
    }

    /// The pid containerd is told for the processes of this sandbox.
    pub fn pid(&self) -> u32 {
        self.network().pid()
    }

    fn network(&self) -> &Network {
        &self.shared.host.network
    }

    /// The tasks of this sandbox: stopping them stops its server.
    pub fn tasks(&self) -> &Tasks {
        &self.shared.host.tasks
    }

    /// Signals every container and waits until none runs. The caller bounds the wait.
    pub async fn end_all(&self, signal: Signal) {
        let inits: Vec<Process> = self.inits();
        for process in &inits {
            process.tell(Request::Kill(signal)).await;
        }
        for process in &inits {
            let _ = process.wait().await;
        }
    }

    /// Forgets every container without a delete: the server leaves, and nobody can ask any more. Drivers end with it.
    pub fn clear(&self) {
        let containers = self.shared.change(std::mem::take);
        drop(containers);
    }

    fn inits(&self) -> Vec<Process> {
        self.containers()
            .values()
            .filter_map(Slot::ready)
            .map(|container| container.init.clone())
            .collect()
    }

    async fn request(
        &self,
        id: &Id,
        process: &Process,
        request: Request,
    ) -> Result<(), SandboxError> {
        process
            .request(request)
            .await
            .map_err(|source| SandboxError::Process { id: id.clone(), source })
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<Id, Slot>> {
        self.shared.containers()
    }
}

impl Shared {
    fn killed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.killed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<Id, Slot>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or takes away, and tells who waits for the sandbox to be used or empty.
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Id, Slot>) -> T) -> T {
        let mut containers = self.containers();
        let before = containers.is_empty();
        let result = change(&mut containers);
        if containers.is_empty() != before {
            self.used.notify_waiters();
        }
        result
    }
}

fn forget(shared: &Weak<Shared>, id: &Id) {
    if let Some(shared) = shared.upgrade() {
        shared.change(|containers| containers.remove(id));
    }
}

/// An id taken by a `Create` under way; given back unless it is filled.
struct Reservation {
    shared: Arc<Shared>,
    id: Option<Id>,
}

impl Reservation {
    fn take(shared: &Arc<Shared>, id: &Id) -> Result<Self, SandboxError> {
        shared.change(|containers| match containers.entry(id.clone()) {
            Entry::Occupied(_) => Err(SandboxError::AlreadyExists { id: id.clone() }),
            Entry::Vacant(place) => {
                place.insert(Slot::Creating);
                Ok(Self { shared: shared.clone(), id: Some(id.clone()) })
            }
        })
    }

    fn fill(mut self, container: Container) {
        if let Some(id) = self.id.take() {
            self.shared
                .change(|containers| containers.insert(id, Slot::Ready(Arc::new(container))));
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.shared.change(|containers| containers.remove(&id));
        }
    }
}
