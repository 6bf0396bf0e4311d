//! State of the daemon: one engine, one guest runtime, and the sandboxes.

use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use runwasi_core::{
    Engine, Id,
    blocking::blocking,
    bootstrap::{
        BootstrapError,
        delete::{Ended, HOOK_TIME},
        socket::{self, SocketFile},
    },
    container::host::Host,
    containerd::images::ImageClient,
    metrics::{
        exposition::{Build, Exposition, Format, Sources},
        lives::{self, Call, Phase},
    },
    native::{NativeHost, setting::NativeRuntime},
    network::{Network, spares},
    observe,
    sandbox::{Sandbox, error::SandboxError},
    scheduler::Guests,
    server,
    shutdown::Tasks,
    traces::start::ThinStart,
};
use tokio_util::sync::CancellationToken;

mod error;
mod opening;

pub use self::error::DaemonError;
use self::{
    error::lost,
    opening::{Origin, Parts, Wanted, open},
};
use crate::{
    config::Settings,
    event_queues::EventQueues,
    journal::{Journal, JournalPublisher, Times},
    manager::{
        messages::{CreateRequest, DeleteRequest, MetricsReply, MetricsRequest, SandboxEntry},
        reports::{
            ContainersReply, ContainersRequest, EventsReply, EventsRequest, StatusReply,
            StatusRequest,
        },
    },
    reclaim::Reclaim,
    report::{self, Facts, Moment},
    retirement::{self, Retirement},
    sandboxes::{Sandboxes, ServedSandbox},
    state_dir::{Owner, RecordError, StateDirectory},
    successor::Successors,
};

/// Lower bound of the grace, for replies and events.
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(4);

/// Network namespaces that are kept for the next sandboxes.
// For the starts of a few seconds: one is made in a millisecond as soon as there is time for it.
const SPARE_NETWORKS: usize = 4;

/// One WebAssembly host for many sandboxes.
pub struct Daemon {
    /// Time that a sandbox has to end when it is stopped.
    grace: Duration,
    /// Directories with the bundles of all sandboxes.
    bundle_roots: Arc<[PathBuf]>,
    native_runtime: NativeRuntime,
    engine: Arc<dyn Engine>,
    guests: Guests,
    /// Tasks of the whole daemon, among them one per sandbox and the event queues.
    tasks: Tasks,
    state: StateDirectory,
    owner: Owner,
    event_queues: EventQueues,
    /// For operators.
    journal: Journal,
    facts: Facts,
    sandboxes: Sandboxes,
    reclaim: Reclaim,
    /// Absent without a guard.
    successors: Option<Successors>,
    /// Number of sandboxes that are served, including those that are ending.
    served: AtomicUsize,
    /// Cancelled when the daemon takes no new sandboxes any more.
    retired: CancellationToken,
    /// Cancelled when another daemon takes them in its place.
    replaced: CancellationToken,
    /// Cancelled when this daemon was drained and all others have ended.
    outlived: CancellationToken,
    /// Cancelled when sandboxes that are being created must not be served either.
    draining: CancellationToken,
    /// Series of this process.
    exposition: Arc<Exposition>,
}

impl Daemon {
    /// A daemon without sandboxes. Its tasks stop when it has retired and the last sandbox has
    /// ended.
    pub(crate) fn new(
        settings: Settings,
        engine: Arc<dyn Engine>,
        guests: Guests,
        tasks: Tasks,
        successors: Option<Successors>,
        build: Build,
        facts: Facts,
    ) -> Result<Arc<Self>, RecordError> {
        let state = StateDirectory::of(&settings.socket);
        let owner = Owner::this(&state)?;
        let reclaim = Reclaim::start(engine.clone(), &tasks);
        spares::keep(SPARE_NETWORKS);
        let retired = CancellationToken::default();
        let draining = CancellationToken::default();
        let exposition = Arc::new(Exposition::new(Sources {
            build,
            states: Some(retirement::states(retired.clone(), draining.clone())),
            engine: engine.clone(),
            guests: guests.clone(),
        }));
        Ok(Arc::new(Self {
            // A shorter grace would cut off the replies and events of the guests that end in it.
            grace: Duration::from_secs(settings.grace.into()).max(LEAST_GRACE),
            bundle_roots: settings.bundle_roots.into(),
            native_runtime: settings.native_runtime,
            engine,
            guests,
            tasks,
            state,
            owner,
            event_queues: EventQueues::default(),
            journal: Journal::default(),
            facts,
            sandboxes: Sandboxes::default(),
            reclaim,
            successors,
            served: AtomicUsize::default(),
            retired,
            replaced: CancellationToken::default(),
            outlived: CancellationToken::default(),
            draining,
            exposition,
        }))
    }

    /// Address and pid of the sandbox that a container belongs to. Creates a missing sandbox.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: CreateRequest,
    ) -> Result<(String, u32), DaemonError> {
        if let Some(took) = request.age() {
            lives::took(Phase::Thin, took);
        }
        let asked = SystemTime::now();
        let thin = request.began().zip(Id::parse("container id", &request.id).ok());
        let request = Arc::new(request);
        let created = self.create_or_join(request.clone()).await;
        let (address, served) = created.inspect_err(|error| refused(&request, error))?;
        if let Some((began, id)) = thin {
            let start = ThinStart { began, asked, made: SystemTime::now() };
            served.sandbox.note_thin_start(id, start);
        }
        Ok((address, served.sandbox.pid()))
    }

    async fn create_or_join(
        self: &Arc<Self>,
        request: Arc<CreateRequest>,
    ) -> Result<(String, Arc<ServedSandbox>), DaemonError> {
        let roots = self.bundle_roots.clone();
        let wanted =
            blocking(move || Wanted::check(&request, &roots), lost("check the bundle")).await?;
        let socket = wanted.socket.clone();
        // A retired daemon still lets containers join its sandboxes: no successor can serve them.
        if self.retired.is_cancelled() && self.sandboxes.get(&socket).is_none() {
            return Err(DaemonError::Leaving);
        }
        // A guard, since this future is dropped if the client disconnects: a retired daemon may be
        // waiting for this creation alone.
        let _look = StopIfDone(self);
        let served = self.sandboxes.get_or_make(&socket, self.make(wanted)).await?;
        Ok((socket::address(&socket), served))
    }

    async fn make(self: &Arc<Self>, wanted: Wanted) -> Result<Arc<ServedSandbox>, DaemonError> {
        let begun = Instant::now();
        let state = self.state.clone();
        let owner = self.owner.clone();
        let open = move || open(wanted, &state, owner);
        let opened = blocking(open, lost("open the sandbox")).await?;
        // Checked after the last await: a `drain` during the work above has not seen this sandbox.
        // A later one sees it, since the control runtime has one thread.
        if self.draining.is_cancelled() {
            return Err(DaemonError::Leaving);
        }
        let Parts { origin, listener, own, network, record } = opened.keep()?;
        let images = Arc::new(ImageClient::new(&origin.grpc_address, &origin.namespace));
        let times = Arc::<Times>::default();
        let host = self.host(&origin, network, images.clone(), times.clone());
        let sandbox =
            if origin.managed { Sandbox::managed(host, images) } else { Sandbox::new(host) };
        let Origin { namespace, group, .. } = origin;
        let served = Arc::new(ServedSandbox { sandbox, namespace, group, own, record, times });
        tell(&served, "created");
        self.journal.note_sandbox("sandbox", &served.namespace, &served.group);
        self.served.fetch_add(1, Ordering::SeqCst);
        self.tasks.spawn(self.clone().serve(listener, served.clone()));
        lives::took_since(Phase::Sandbox, begun);
        Ok(served)
    }

    /// Environment of the containers of a new sandbox.
    fn host(
        &self,
        origin: &Origin,
        network: Network,
        images: Arc<ImageClient>,
        times: Arc<Times>,
    ) -> Host {
        let Origin { namespace, group, grpc_address, ttrpc_address, .. } = origin;
        Host {
            engine: self.engine.clone(),
            // On the daemon's tasks: the queue is shared and delivers events after this sandbox.
            publisher: Arc::new(JournalPublisher {
                inner: self.event_queues.publisher(ttrpc_address, namespace, &self.tasks),
                journal: self.journal.clone(),
                times,
                namespace: namespace.clone(),
                sandbox: group.clone(),
            }),
            guests: self.guests.clone(),
            // Of its own: the end of this sandbox must not stop others.
            tasks: Tasks::new(self.grace),
            bundle_roots: self.bundle_roots.clone(),
            namespace: namespace.clone(),
            sandbox: group.clone(),
            images,
            // The process serves many sandboxes, so no limit of one sandbox fits its cgroups.
            cgroups: None,
            native: NativeHost {
                runtime: self.native_runtime.clone(),
                fixed: true,
                is_shim: false,
                grpc_address: grpc_address.clone(),
                ttrpc_address: ttrpc_address.clone(),
            },
            network,
        }
    }

    /// Serves a sandbox to its end and removes its socket and record.
    async fn serve(self: Arc<Self>, listener: UnixListener, served: Arc<ServedSandbox>) {
        let tasks = served.sandbox.tasks().clone();
        // At the start of the drain and not at its end: from here on a `Create` for the same group
        // makes a new sandbox.
        let leave = self.remove(&served, SocketFile::remove);
        if let Err(error) = server::serve_until(listener, served.sandbox.clone(), leave).await {
            tracing::error!(
                %error,
                socket = %served.record.socket.display(),
                "a sandbox is not served"
            );
        }
        // After an error nothing else has stopped them.
        tasks.stop();
        tasks.drained().await;
        // A second try: the first one may have failed for lack of file descriptors, and the end of
        // the sandbox has freed some.
        if served.own.as_ref().is_some_and(|own| !own.is_removed()) {
            self.remove(&served, SocketFile::remove_left).await;
        }
        tell(&served, "ended");
        self.journal.note_sandbox("gone", &served.namespace, &served.group);
        self.reclaim.sandbox_ended();
        self.served.fetch_sub(1, Ordering::SeqCst);
        self.stop_if_done();
    }

    async fn remove(
        &self,
        served: &Arc<ServedSandbox>,
        socket: fn(&SocketFile) -> Result<(), BootstrapError>,
    ) {
        self.sandboxes.forget(served);
        let state = self.state.clone();
        let removed = served.clone();
        // The record first: the creator of the next sandbox of this name writes its own record as
        // soon as the socket is gone.
        let remove = move || -> Result<(), DaemonError> {
            // The error is returned later: the socket must go even if the record stays.
            let record = state.remove(&removed.record);
            removed.own.as_ref().map_or(Ok(()), socket)?;
            Ok(record?)
        };
        if let Err(error) = blocking(remove, lost("remove the sandbox")).await {
            tracing::error!(%error, "something of a sandbox stays behind");
        }
    }

    /// Ends and forgets a container. No result if it does not exist. The sandbox ends as well if it
    /// is empty then, or if the id is its own.
    pub(crate) async fn delete(
        &self,
        request: &DeleteRequest,
    ) -> Result<Option<Ended>, DaemonError> {
        let namespace = Id::parse("namespace", &request.namespace)?;
        let id = Id::parse("container id", &request.id)?;
        let Some(served) = self.find(&namespace, &id, request) else { return Ok(None) };
        let ended = match served.sandbox.end(&id, HOOK_TIME).await {
            Ok((pid, exit)) => Some(Ended { pid, status: exit.status.get() }),
            Err(SandboxError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        // Also without the container: containerd may never ask this sandbox for a `Shutdown`.
        served.sandbox.shutdown(id.as_str()).await;
        Ok(ended)
    }

    /// The sandbox of a container: by the socket that its bundle names, else by the container's id.
    fn find(&self, namespace: &Id, id: &Id, request: &DeleteRequest) -> Option<Arc<ServedSandbox>> {
        if !request.socket.is_empty() {
            return self.sandboxes.get(Path::new(&request.socket));
        }
        // The group of a container without a pod is its own id.
        let own = socket::path(None, &request.containerd_address, namespace.as_str(), id.as_str())
            .ok()?;
        self.sandboxes.get(&own)
    }

    /// All sandboxes that are served, without those that are ending.
    pub(crate) fn list(&self) -> Vec<SandboxEntry> {
        let all = self.sandboxes.all();
        let entry = |served: &Arc<ServedSandbox>| SandboxEntry {
            namespace: served.namespace.to_string(),
            group: served.group.to_string(),
            pid: served.sandbox.pid(),
            socket: served.record.socket.display().to_string(),
            containers: u32::try_from(served.sandbox.count()).unwrap_or(u32::MAX),
        };
        all.iter().map(entry).collect()
    }

    /// Status of the daemon.
    pub(crate) async fn status(&self, request: &StatusRequest) -> StatusReply {
        let turn = if request.probe { report::turn(&self.guests).await } else { None };
        let moment = Moment {
            retired: self.retired.is_cancelled(),
            draining: self.draining.is_cancelled(),
            guarded: self.successors.is_some(),
            served: self.count(),
        };
        StatusReply { turn, ..report::status(&self.facts, &moment, &self.sandboxes.all()) }
    }

    /// A page of the sandboxes with their containers.
    pub(crate) fn containers(&self, request: &ContainersRequest) -> ContainersReply {
        report::page(request, &self.sandboxes.all())
    }

    /// Events, also those of the past that are kept.
    pub(crate) async fn events(&self, request: &EventsRequest) -> EventsReply {
        self.journal.read(request).await
    }

    /// Answers requests for events at once from now on. Waits until all readers have the last one.
    pub(crate) async fn last_events_read(&self) {
        self.journal.end().await;
    }

    /// Takes no new sandboxes from now on. The daemon exits when the last one has ended; without a
    /// successor, when all other daemons have ended, too.
    pub(crate) fn retire(self: &Arc<Self>, retirement: Retirement) {
        let is_first = !self.retired.is_cancelled();
        if is_first {
            tracing::info!(
                sandboxes = self.sandboxes.all().len(),
                "retired: leaving with the last sandbox"
            );
            self.journal.note_daemon("retire", format!("pid {}", std::process::id()));
        }
        match retirement {
            // First: who sees `retired` asks for this one.
            Retirement::Replaced => self.replaced.cancel(),
            Retirement::Drained if is_first => self.tasks.spawn(self.clone().outlive_others()),
            Retirement::Drained => {}
        }
        self.retired.cancel();
        self.stop_if_done();
    }

    /// Lets a drained daemon leave when the daemons before it have ended. A later one is a
    /// successor, which replaces it.
    async fn outlive_others(self: Arc<Self>) {
        // An error: the directory has gone, and with it all that could be waited for.
        let sockets = self.state.earlier().unwrap_or_default();
        tokio::select! {
            () = retirement::others_ended(sockets) => {}
            () = self.replaced() => return,
            () = self.tasks.stopped() => return,
        }
        self.outlived.cancel();
        self.stop_if_done();
    }

    /// Asks the guard for a daemon with the settings of now. Resolves when that daemon has retired
    /// this one.
    pub(crate) async fn reload(&self) -> Result<(), DaemonError> {
        let successors = self.successors.as_ref().ok_or(DaemonError::NoGuard)?;
        if self.retired.is_cancelled() {
            return Err(DaemonError::Leaving);
        }
        tokio::select! {
            () = self.retired() => {}
            reason = successors.failure() => return Err(DaemonError::NotReloaded { reason }),
        }
        // Also without a successor: by a drain.
        if self.replaced.is_cancelled() { Ok(()) } else { Err(DaemonError::Leaving) }
    }

    /// Resolves when the daemon takes no new sandboxes any more.
    pub(crate) async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Resolves when another daemon takes the new sandboxes in place of this one.
    pub(crate) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }

    /// The version of its program.
    pub(crate) fn version(&self) -> &'static str {
        self.facts.version
    }

    /// Series of this process.
    pub(crate) fn exposition(&self) -> &Arc<Exposition> {
        &self.exposition
    }

    /// Series of this process, for the daemon that serves those of all.
    pub(crate) async fn metrics(
        &self,
        request: &MetricsRequest,
    ) -> Result<MetricsReply, DaemonError> {
        let format = if request.open_metrics { Format::OpenMetrics } else { Format::Prometheus };
        let exposition = self.exposition.clone();
        let text = blocking(move || Ok(exposition.text(format)), lost("metrics")).await?;
        let retired = self.retired.is_cancelled();
        Ok(MetricsReply { text, pid: std::process::id(), retired })
    }

    /// Ends all sandboxes: their guests get SIGTERM, after half the grace SIGKILL. Returns the
    /// number of sandboxes.
    pub(crate) fn drain(&self) -> usize {
        self.retired.cancel();
        if !self.draining.is_cancelled() {
            self.journal.note_daemon("stop", format!("pid {}", std::process::id()));
        }
        self.draining.cancel();
        let all = self.sandboxes.all();
        for served in &all {
            served.sandbox.tasks().stop();
        }
        // Without a sandbox nothing else stops the daemon's tasks.
        self.stop_if_done();
        all.len()
    }

    /// Number of sandboxes that are served, including those that are ending.
    pub(crate) fn count(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    /// Stops the tasks of a retired daemon without sandboxes.
    fn stop_if_done(&self) {
        // Both are needed: the counter lacks sandboxes that are being created, the map those that
        // are ending.
        let none_left = self.served.load(Ordering::SeqCst) == 0 && self.sandboxes.is_empty();
        // A drained daemon stays for the others: see `retirement`.
        let may_leave = [&self.replaced, &self.outlived, &self.draining]
            .into_iter()
            .any(CancellationToken::is_cancelled);
        if self.retired.is_cancelled() && may_leave && none_left {
            self.tasks.stop();
        }
    }
}

/// Counts and tells a request that was refused or has failed. containerd gets the reason, too.
fn refused(request: &CreateRequest, error: &DaemonError) {
    lives::refused(Call::Sandbox);
    // Not told: thin shims repeat the request every 20 ms, until the successor answers.
    if matches!(error, DaemonError::Leaving) {
        return;
    }
    // Not by `observe`: the ids may be what is wrong.
    tracing::info!(
        target: observe::TARGET,
        namespace = request.namespace.as_str(),
        container = request.id.as_str(),
        sandbox = request.group.as_str(),
        reason = %error,
        "sandbox refused"
    );
}

/// Tells of a sandbox. One that containerd does not manage has no life but that of its containers,
/// whose lines name it.
fn tell(served: &ServedSandbox, event: &str) {
    let ServedSandbox { sandbox, namespace, group, .. } = served;
    let pid = sandbox.pid();
    if sandbox.is_managed() {
        tracing::info!(target: observe::TARGET, %namespace, sandbox = %group, pid, "sandbox {event}");
    } else {
        tracing::debug!(target: observe::TARGET, %namespace, sandbox = %group, pid, "sandbox {event}");
    }
}

/// Calls [`Daemon::stop_if_done`] when it is dropped.
struct StopIfDone<'a>(&'a Daemon);

impl Drop for StopIfDone<'_> {
    fn drop(&mut self) {
        self.0.stop_if_done();
    }
}
