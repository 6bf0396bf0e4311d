//! Sandbox: the containers behind one socket, a Kubernetes pod or one container of `ctr`.
//!
//! It lives as long as its containers. A sandbox that containerd manages has a life of its own
//! ([`lifecycle`], [`managed`], [`records`]). Containers that are no wasm are run by another shim
//! (`native`, `native_end`). Operators see all of them by [`report`].

pub(crate) mod create;
pub mod error;
mod exit_line;
pub mod lifecycle;
pub mod managed;
pub(crate) mod native;
pub(crate) mod native_container;
mod native_end;
mod native_execs;
mod past_usage;
mod pid_namespace;
mod pod_init;
pub mod records;
pub mod report;
mod signals;
mod stop;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::{
    error::SandboxError,
    lifecycle::Lifecycle,
    native_container::{Current, NativeContainer},
    past_usage::PastUsage,
    pid_namespace::SharedPids,
    records::{Managed, SandboxRecords},
};
use crate::{
    bundle::resources::ResourcesConfig,
    container::{Container, host::Host, pod_files::PodFiles, request::ExecRequest},
    engine::{exit::Exit, signal::Signal},
    id::Id,
    lock::Mutex,
    metrics::lives::CountedSandbox,
    network::Network,
    observe::{self, Step},
    process::{Process, ProcessError, state::Request},
    resources::usage::Usage,
    shutdown::Tasks,
    stdio::pty::Size,
    traces::start::{StartTrace, ThinStart, ThinStarts},
};

/// A sandbox. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    shared: Arc<Shared>,
}

struct Shared {
    host: Host,
    /// Locked for single look-ups and changes, never across an await: a slow create stalls no other
    /// call.
    containers: Mutex<HashMap<Id, Slot>>,
    /// Usage of the containers that have been deleted.
    past: PastUsage,
    /// The delegate of the native containers, while there are any. Locked during its start and its
    /// end.
    delegate: tokio::sync::Mutex<Option<Current>>,
    /// The PID namespace that native containers share.
    pids: SharedPids,
    /// Notified when the sandbox gets its first container and when it loses its last one, during
    /// its stop when it loses any, and when a managed sandbox comes into use.
    used: Notify,
    /// Time of the last signal, see [`KILL_TO_SHUTDOWN`].
    killed: Mutex<Option<Instant>>,
    /// Present if containerd manages the sandbox by its Sandbox API. Otherwise it lives as long as
    /// its containers.
    managed: Option<Box<Managed>>,
    /// Cancelled when containerd has asked for the end of the sandbox, see [`stop`].
    end_requested: CancellationToken,
    counted: CountedSandbox,
    /// Starts of thin shims whose `Create` has not come.
    thin_starts: ThinStarts,
}

/// Least time from the answer to a `Kill` to the answer to a `Shutdown`.
// The exit makes containerd delete the container and close the connection. A goroutine there that
// waits for the `Kill` and has not yet read its answer takes the close for the answer: containerd
// 1.7 then failed to stop a pod. A shim of processes is never that fast.
const KILL_TO_SHUTDOWN: Duration = Duration::from_millis(5);

/// A container of a sandbox.
pub(crate) enum Member {
    /// The engine runs it.
    Guest(Arc<Container>),
    /// A delegate runs it.
    Native(Arc<NativeContainer>),
}

enum Slot {
    /// Reserved by a `Create` that has not finished.
    Creating,
    Ready(Arc<Container>),
    Native(Arc<NativeContainer>),
}

impl Slot {
    fn ready(&self) -> Option<Arc<Container>> {
        match self {
            Self::Ready(container) => Some(container.clone()),
            Self::Creating | Self::Native(_) => None,
        }
    }

    fn native(&self) -> Option<Arc<NativeContainer>> {
        match self {
            Self::Native(container) => Some(container.clone()),
            Self::Creating | Self::Ready(_) => None,
        }
    }
}

impl Sandbox {
    /// An empty sandbox that lives as long as its containers.
    #[doc(hidden)]
    pub fn new(host: Host) -> Self {
        Self::with(host, None)
    }

    /// An empty sandbox that containerd manages by its Sandbox API.
    #[doc(hidden)]
    pub fn managed(host: Host, records: Arc<dyn SandboxRecords>) -> Self {
        Self::with(host, Some(Box::new(Managed::new(records))))
    }

    fn with(host: Host, managed: Option<Box<Managed>>) -> Self {
        let containers = Mutex::default();
        let used = Notify::new();
        let killed = Mutex::default();
        let end_requested = CancellationToken::new();
        let delegate = tokio::sync::Mutex::default();
        let pids = SharedPids::default();
        let shared = Shared {
            host,
            containers,
            past: PastUsage::default(),
            delegate,
            pids,
            used,
            killed,
            managed,
            end_requested,
            counted: CountedSandbox::default(),
            thin_starts: ThinStarts::default(),
        };
        let sandbox = Self { shared: Arc::new(shared) };
        sandbox.follow_signals();
        sandbox
    }

    /// True if containerd manages it by its Sandbox API.
    pub fn is_managed(&self) -> bool {
        self.shared.managed.is_some()
    }

    /// Notes the times of a thin shim that has asked for this sandbox, for the trace of its
    /// container.
    #[doc(hidden)]
    pub fn note_thin_start(&self, container: Id, start: ThinStart) {
        self.shared.thin_starts.note(container, start);
    }

    /// Notes that its server is ending.
    pub(crate) fn note_end(&self) {
        self.shared.counted.ends();
    }

    /// Files that the containers of a managed sandbox share.
    fn pod_files(&self) -> Option<Arc<PodFiles>> {
        self.shared.managed.as_ref().and_then(|managed| managed.files())
    }

    /// Life of a managed sandbox.
    fn own_life(&self) -> Option<&Lifecycle> {
        self.shared.managed.as_ref().map(|managed| &managed.lifecycle)
    }

    /// Resolves when the sandbox has been empty ([`Sandbox::is_empty`]) for `time`, from now on.
    pub async fn idle_for(&self, time: Duration) {
        loop {
            // Before the check: `Notified` gets every `notify_waiters` from its creation on, also
            // before its first poll. No change in between is lost.
            let changed = self.shared.used.notified();
            if !self.is_empty() {
                changed.await;
            } else if timeout(time, changed).await.is_err() {
                return;
            }
        }
    }

    /// Number of containers, including those being created.
    pub fn count(&self) -> usize {
        self.shared.containers.lock().len()
    }

    /// Checks that a container may be created, or a process of it started.
    pub(crate) fn is_ready_for(&self, container: &Id) -> Result<(), SandboxError> {
        // First: the kill has stopped a managed sandbox, too, and is the better reason.
        if self.network().has_ended() {
            return Err(SandboxError::Killed { id: container.clone(), pid: self.pid() });
        }
        if let Some(failure) = self.network().failure() {
            let source = failure.clone();
            return Err(SandboxError::Namespaces { id: container.clone(), source });
        }
        if self.tasks().is_stopped() {
            return Err(SandboxError::Stopping { id: container.clone() });
        }
        match self.own_life() {
            Some(lifecycle) if !lifecycle.takes_containers() => {
                Err(SandboxError::NotReady { id: container.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The container of an id, unless it is being created.
    pub(crate) fn find(&self, id: &str) -> Option<Member> {
        // By text: an id that is not valid has no container.
        match self.shared.containers.lock().get(id)? {
            Slot::Ready(container) => Some(Member::Guest(container.clone())),
            Slot::Native(container) => Some(Member::Native(container.clone())),
            Slot::Creating => None,
        }
    }

    /// Adds an exec process to a container.
    pub(crate) async fn exec(
        &self,
        container: &Container,
        mut request: ExecRequest,
    ) -> Result<(), SandboxError> {
        let exec = request.id.clone();
        let trace = StartTrace::of_exec(container.subject(), &exec, request.parent.as_ref());
        request.trace = trace.clone();
        let added = container.exec(&self.shared.host, request).await;
        if let Err(error) = &added {
            trace.failed(error);
            observe::refused(container.subject(), Some(&exec), Step::Exec, error);
        }
        let id = || container.id().clone();
        added.map_err(|source| SandboxError::Exec { id: id(), exec, source: source.into() })
    }

    /// Starts a process and returns its pid. The start of an init with hooks runs to completion
    /// even if the future is dropped.
    pub(crate) async fn start(
        &self,
        container: &Arc<Container>,
        exec: &str,
    ) -> Result<u32, SandboxError> {
        let process = process_of(container, exec)?;
        self.is_ready_for(container.id())?;
        if !exec.is_empty() {
            // Asked again: the container may have been paused since the exec was added.
            request(&container.init, Request::Exec).await?;
        }
        match exec.is_empty() && container.has_hooks() {
            true => self.start_with_hooks(container).await?,
            false => request(&process, Request::Start).await?,
        }
        Ok(process.info().pid)
    }

    async fn start_with_hooks(&self, container: &Arc<Container>) -> Result<(), SandboxError> {
        let sandbox = self.clone();
        let starting = container.clone();
        let work = async move {
            request(&starting.init, Request::Start).await?;
            sandbox.started(&starting).await
        };
        let lost = |_| SandboxError::Stopping { id: container.id().clone() };
        self.run_to_completion(work.in_current_span()).await.map_err(lost)?
    }

    /// Runs the hooks that follow the start of a container. If one fails, the container is killed.
    async fn started(&self, container: &Container) -> Result<(), SandboxError> {
        // If the container has been deleted meanwhile, its hooks are pointless.
        if !self.has(container.id()) {
            return Ok(());
        }
        let Err(source) = container.started().await else { return Ok(()) };
        observe::refused(container.subject(), None, Step::Start, &source);
        // An error: the init has ended and needs no signal.
        let _ = container.init.request(Request::Kill(Signal::KILL)).await;
        Err(SandboxError::Hook { id: container.id().clone(), source })
    }

    /// Delivers a signal. Without one (signal 0) it only checks that the process has not ended.
    pub(crate) async fn kill(
        &self,
        container: &Container,
        exec: &str,
        signal: Option<Signal>,
    ) -> Result<(), SandboxError> {
        let process = process_of(container, exec)?;
        request(&process, signal.map_or(Request::Probe, Request::Kill)).await?;
        self.note_signal();
        Ok(())
    }

    /// Delivers a signal to every process of a container.
    pub(crate) async fn kill_all(
        &self,
        container: &Container,
        signal: Option<Signal>,
    ) -> Result<(), SandboxError> {
        let wanted = signal.map_or(Request::Probe, Request::Kill);
        for exec in container.execs().all() {
            // An error: this process has ended, which is no reason to spare the others.
            let _ = exec.request(wanted).await;
        }
        // The init decides the answer: a container with an ended init is "not found".
        request(&container.init, wanted).await?;
        self.note_signal();
        Ok(())
    }

    /// Pauses a container.
    pub(crate) async fn pause(&self, container: &Container) -> Result<(), SandboxError> {
        request(&container.init, Request::Pause).await
    }

    /// Resumes a paused container.
    pub(crate) async fn resume(&self, container: &Container) -> Result<(), SandboxError> {
        request(&container.init, Request::Resume).await
    }

    /// Changes the limits of a container that has not ended.
    pub(crate) async fn update(
        &self,
        container: &Container,
        limits: ResourcesConfig,
    ) -> Result<(), SandboxError> {
        request(&container.init, Request::Update).await?;
        container.update(limits).await;
        Ok(())
    }

    /// Closes the stdin of a process.
    pub(crate) async fn close_stdin(
        &self,
        container: &Container,
        exec: &str,
    ) -> Result<(), SandboxError> {
        request(&process_of(container, exec)?, Request::CloseStdin).await
    }

    /// Sets the size of a process's terminal, if it has one.
    pub(crate) fn resize(
        &self,
        container: &Container,
        exec: &str,
        size: Size,
    ) -> Result<(), SandboxError> {
        let id = || container.id().clone();
        let resized = process_of(container, exec)?.resize(size);
        resized.map_err(|source| SandboxError::Process { id: id(), source })
    }

    fn note_signal(&self) {
        *self.shared.killed.lock() = Some(Instant::now());
    }

    /// Forgets a process that does not run. Deleting the init deletes its container, whose
    /// `poststop` hooks have `patience` together.
    pub(crate) async fn delete(
        &self,
        container: &Arc<Container>,
        exec: &str,
        patience: Option<Duration>,
    ) -> Result<(u32, Exit), SandboxError> {
        let process = process_of(container, exec)?;
        match exec.is_empty() {
            true => self.delete_container(container, patience).await?,
            false => request(&process, Request::Delete).await?,
        }
        let gone = || SandboxError::NotFound { id: container.id().clone() };
        Ok((process.info().pid, process.status().exit.ok_or_else(gone)?))
    }

    /// Runs to completion even if the future is dropped: the container is forgotten before its
    /// hooks run, so no other call would have them run.
    async fn delete_container(
        &self,
        container: &Arc<Container>,
        patience: Option<Duration>,
    ) -> Result<(), SandboxError> {
        self.note_question(container);
        let deleting = container.clone();
        let work = async move {
            request(&deleting.init, Request::Delete).await?;
            deleting.deleted(patience).await;
            Ok(())
        };
        let lost = |_| SandboxError::Stopping { id: container.id().clone() };
        self.run_to_completion(work.in_current_span()).await.map_err(lost)?
    }

    /// Ends a container in any state and forgets it. Its `poststop` hooks have `patience` together.
    /// Several callers at once get the same exit.
    pub async fn end(&self, id: &Id, patience: Duration) -> Result<(u32, Exit), SandboxError> {
        let container = match self.find(id.as_str()) {
            Some(Member::Guest(container)) => container,
            Some(Member::Native(container)) => return self.end_native(&container).await,
            None => return Err(SandboxError::NotFound { id: id.clone() }),
        };
        // An error: the init has ended.
        if self.kill(&container, "", Some(Signal::KILL)).await.is_ok() {
            self.wait(&container, "").await?;
        }
        let deleted = self.delete(&container, "", Some(patience)).await;
        match (deleted, container.init.status().exit) {
            // By another request, whose client may have given it up.
            (Err(SandboxError::Process { source: ProcessError::Deleted, .. }), Some(exit)) => {
                Ok((container.init.info().pid, exit))
            }
            (deleted, _) => deleted,
        }
    }

    /// Waits for the end of a process. Any number of callers may wait at the same time.
    pub(crate) async fn wait(
        &self,
        container: &Container,
        exec: &str,
    ) -> Result<Exit, SandboxError> {
        let process = process_of(container, exec)?;
        let waited = process.wait().await;
        if exec.is_empty() {
            self.note_question(container);
        }
        let id = || container.id().clone();
        waited.map_err(|source| SandboxError::Process { id: id(), source })
    }

    /// A process for a client that asks for its state.
    pub(crate) fn state(&self, container: &Container, exec: &str) -> Result<Process, SandboxError> {
        if exec.is_empty() {
            self.note_question(container);
        }
        process_of(container, exec)
    }

    /// Usage of a container, also after its end.
    pub fn usage(&self, id: &Id) -> Result<Usage, SandboxError> {
        match self.find(id.as_str()) {
            Some(Member::Guest(container)) => Ok(container.usage()),
            Some(Member::Native(_)) | None => Err(SandboxError::NotFound { id: id.clone() }),
        }
    }

    /// Summed usage of all containers that the engine runs, with the counters of all that have been
    /// deleted. Their peak is at most the sum of the peaks.
    pub fn usage_of_guests(&self) -> Usage {
        self.usage_beside_natives().0
    }

    /// The same, and the native containers, of which only those that have been deleted are in it.
    pub(crate) fn usage_beside_natives(&self) -> (Usage, Vec<Arc<NativeContainer>>) {
        let containers = self.shared.containers.lock();
        let present: Vec<_> = containers.values().filter_map(Slot::ready).collect();
        let natives = containers.values().filter_map(Slot::native).collect();
        // Under the lock: a container that goes is counted either there or here.
        let past = self.shared.past.get();
        // The lock is free while the containers are asked.
        drop(containers);
        let usages = present.iter().map(|container| container.usage());
        (usages.chain([past]).sum(), natives)
    }

    fn has(&self, id: &Id) -> bool {
        self.shared.containers.lock().contains_key(id)
    }

    /// Ends the sandbox if it is empty or if `id` is its own.
    // containerd asks after every delete. Only that of the last container may end the sandbox.
    pub async fn shutdown(&self, id: &str) {
        if !self.may_end(id) {
            return;
        }
        // Copied, so that the lock is not held across the await.
        let killed = *self.shared.killed.lock();
        if let Some(killed) = killed {
            sleep_until(killed + KILL_TO_SHUTDOWN).await;
        }
        // Again: a container may have come in that time.
        if self.may_end(id) {
            tracing::debug!("the sandbox is over");
            self.note_end_request();
            self.tasks().stop();
        }
    }

    fn may_end(&self, id: &str) -> bool {
        self.is_empty() || self.own_life().is_some_and(|lifecycle| lifecycle.is_of(id))
    }

    /// True if it has no container, is creating no container and is not held by a managed life.
    pub fn is_empty(&self) -> bool {
        self.shared.containers.lock().is_empty() && !self.own_life().is_some_and(Lifecycle::holds)
    }

    /// The pid that containerd is told for the processes of this sandbox.
    pub fn pid(&self) -> u32 {
        self.network().pid()
    }

    fn network(&self) -> &Network {
        &self.shared.host.network
    }

    /// The tasks of this sandbox. Stopping them stops its server.
    pub fn tasks(&self) -> &Tasks {
        &self.shared.host.tasks
    }
}

/// A process of a container. `exec` is empty for the init.
fn process_of(container: &Container, exec: &str) -> Result<Process, SandboxError> {
    let id = || container.id().clone();
    match exec {
        "" => Ok(container.init.clone()),
        exec => container
            .execs()
            .get(exec)
            .ok_or_else(|| SandboxError::ProcessNotFound { id: id(), exec: exec.to_owned() }),
    }
}

/// Has the driver of a process decide about a request and act on it.
async fn request(process: &Process, request: Request) -> Result<(), SandboxError> {
    let id = || process.info().container.clone();
    process.request(request).await.map_err(|source| SandboxError::Process { id: id(), source })
}

impl Shared {
    /// Changes the table. Notifies of a change of the number of containers that any wait is for.
    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Id, Slot>) -> T) -> T {
        let mut containers = self.containers.lock();
        let before = containers.len();
        let result = change(&mut containers);
        let after = containers.len();
        // `idle_for` and `emptied` wait for a change between zero and one. `questions_answered`
        // waits for any, and only in a stop: it looks under this lock after the stop, so it either
        // finds this change or the stop is seen here.
        let matters = before == 0 || after == 0 || self.host.tasks.is_stopped();
        if after != before && matters {
            self.used.notify_waiters();
        }
        result
    }
}

/// Removes a container that has been deleted.
fn forget(shared: &Weak<Shared>, id: &Id) {
    let Some(shared) = shared.upgrade() else { return };
    // Copied out of the lock. It has ended, and uses no more.
    let container = shared.containers.lock().get(id).and_then(Slot::ready);
    let last = container.map(|container| container.usage());
    shared.change(|containers| {
        if let Some(last) = last {
            shared.past.add(&last);
        }
        // Returned, and so dropped without the lock.
        containers.remove(id)
    });
}

/// The id of a `Create` under way. Dropping it without [`Reservation::fill`] frees the id.
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

#[cfg(test)]
mod tests;
