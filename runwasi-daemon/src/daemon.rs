//! The daemon's state: one engine, one guest runtime, and the sandboxes.

use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use runwasi_core::{
    Engine, Id,
    bootstrap::{
        BootstrapError,
        delete::Ended,
        protocol,
        socket::{self, Bound, SocketFile},
    },
    bundle::{
        allowed_roots::{self, BundleError},
        config::SandboxConfig,
    },
    container::host::Host,
    containerd::images,
    id::IdError,
    network::{Entrance, Network, NetworkError},
    sandbox::{Sandbox, error::SandboxError},
    scheduler::Guests,
    server,
    shutdown::Tasks,
    sys,
};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    event_queues::EventQueues,
    manager::messages::{ConnectRequest, CreateRequest, DeleteRequest, SandboxEntry},
    reclaim::Reclaim,
    sandboxes::{Sandboxes, ServedSandbox},
    state_dir::{Owner, Record, RecordError, StateDirectory},
    successor::Successors,
};

/// Replies and events need some time, whatever the guests are given.
pub(crate) const LEAST_GRACE: Duration = Duration::from_secs(4);

/// One wasm host for many sandboxes.
pub struct Daemon {
    /// What guests have when the daemon leaves.
    grace: Duration,
    /// Shared by all sandboxes.
    bundle_roots: Arc<[PathBuf]>,
    engine: Arc<dyn Engine>,
    guests: Guests,
    /// The serving of every sandbox, event queues, and the manager's own.
    tasks: Tasks,
    state: StateDirectory,
    owner: Owner,
    event_queues: EventQueues,
    sandboxes: Sandboxes,
    reclaim: Reclaim,
    /// `None` without a guard.
    successors: Option<Successors>,
    /// Sandboxes being served, those that are on their way out included.
    served: AtomicUsize,
    /// No new sandboxes: a successor makes them, or nobody does any more.
    retired: CancellationToken,
    /// What is being made shall not come to life either.
    draining: CancellationToken,
}

/// Why the daemon refuses, or fails.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// An id is not allowed.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The bundle is none, or not where bundles may be, or another sandbox's.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The bundle's config or the sandbox's socket cannot be used.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The bundle's network cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The sandbox cannot be written down.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The sandbox refuses.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The daemon takes no new sandboxes any more.
    #[error("this daemon (pid {}) is leaving and takes no new sandboxes", std::process::id())]
    Leaving,
    /// The sandbox's socket is served by somebody else.
    #[error("socket {} is served by another process{owner}, not by this daemon", socket.display())]
    Squatted {
        /// The socket.
        socket: PathBuf,
        /// Its pid, in parentheses, if that is known.
        owner: String,
    },
    /// There is no such sandbox.
    #[error("no sandbox {group} in namespace {namespace}")]
    NotFound {
        /// containerd's namespace.
        namespace: String,
        /// The pod's id, or the container's.
        group: String,
    },
    /// There is no process that could start another daemon.
    #[error(
        "this daemon (pid {}) runs without --guard and cannot start another one: start it yourself, and it takes over",
        std::process::id()
    )]
    NoGuard,
    /// The other daemon has not come up; this one goes on.
    #[error(
        "the new daemon does not start ({reason}), this one (pid {}) goes on: see its log",
        std::process::id()
    )]
    NotReloaded {
        /// How it has ended.
        reason: String,
    },
    /// A task of the daemon did not come back.
    #[error("{what}: {reason}")]
    Lost {
        /// Which.
        what: &'static str,
        /// What is known.
        reason: String,
    },
}

/// What a `Create` asks for, checked.
struct Wanted {
    namespace: Id,
    group: Id,
    socket: PathBuf,
    grpc_address: String,
    ttrpc_address: String,
    entrance: Entrance,
    /// Whether containerd manages the sandbox by its Sandbox API.
    managed: bool,
}

impl Daemon {
    /// A daemon without sandboxes. Its tasks stop when it has retired and the last sandbox is gone.
    pub(crate) fn new(
        settings: Settings,
        engine: Arc<dyn Engine>,
        guests: Guests,
        tasks: Tasks,
        successors: Option<Successors>,
    ) -> Result<Arc<Self>, RecordError> {
        let state = StateDirectory::of(&settings.socket);
        let owner = Owner::this(&state)?;
        let (event_queues, sandboxes, served, retired, draining) = Default::default();
        let reclaim = Reclaim::start(engine.clone(), &tasks);
        Ok(Arc::new(Self {
            grace: Duration::from_secs(settings.grace.into()).max(LEAST_GRACE),
            bundle_roots: settings.bundle_roots.into(),
            engine,
            guests,
            tasks,
            state,
            owner,
            event_queues,
            sandboxes,
            reclaim,
            successors,
            served,
            retired,
            draining,
        }))
    }

    /// The address and pid of the sandbox that a container belongs to; makes it if it is not there.
    pub(crate) async fn create(
        self: &Arc<Self>,
        request: CreateRequest,
    ) -> Result<(String, u32), DaemonError> {
        let roots = self.bundle_roots.clone();
        let wanted =
            blocking("check the bundle", move || Wanted::check(&request, &roots)).await??;
        let socket = wanted.socket.clone();
        if self.retired.is_cancelled() && self.sandboxes.get(&socket).is_none() {
            return Err(DaemonError::Leaving);
        }
        // Also when the client goes away: a retired daemon may have waited for just this one.
        let _look = StopIfDone(self);
        let served = self.sandboxes.get_or_make(&socket, self.make(wanted)).await?;
        Ok((socket::address(&socket), served.sandbox.pid()))
    }

    async fn make(self: &Arc<Self>, wanted: Wanted) -> Result<Arc<ServedSandbox>, DaemonError> {
        let (state, owner) = (self.state.clone(), self.owner.clone());
        let open = move || open(wanted, &state, owner);
        let opened = blocking("open the sandbox", open).await??;
        if self.draining.is_cancelled() {
            return Err(DaemonError::Leaving);
        }
        let Parts {
            listener,
            own,
            network,
            managed,
            record,
            namespace,
            group,
            grpc_address,
            ttrpc_address,
        } = opened.keep()?;
        let tasks = Tasks::new(self.grace);
        let host = Host {
            engine: self.engine.clone(),
            publisher: self.event_queues.publisher(&ttrpc_address, &namespace, &self.tasks),
            guests: self.guests.clone(),
            tasks,
            bundle_roots: self.bundle_roots.clone(),
            namespace: namespace.clone(),
            images: Arc::new(images::ImageClient::new(&grpc_address, &namespace)),
            cgroups: None,
            network,
        };
        let sandbox = if managed { Sandbox::managed(host) } else { Sandbox::new(host) };
        tracing::info!(%namespace, %group, pid = sandbox.pid(), "sandbox");
        let served = Arc::new(ServedSandbox { sandbox, namespace, group, own, record });
        self.served.fetch_add(1, Ordering::SeqCst);
        self.tasks.spawn(self.clone().serve(listener, served.clone()));
        Ok(served)
    }

    /// Serves a sandbox to its end, and removes everything of it.
    async fn serve(self: Arc<Self>, listener: UnixListener, served: Arc<ServedSandbox>) {
        let tasks = served.sandbox.tasks().clone();
        let (daemon, leaving) = (self.clone(), served.clone());
        tasks.spawn(async move {
            leaving.sandbox.tasks().stopped().await;
            // First thing: from then on a `Create` for the same group makes a new sandbox.
            daemon.remove(&leaving).await;
        });
        if let Err(error) = server::serve(listener, served.sandbox.clone()).await {
            tracing::error!(%error, socket = %served.record.socket.display(), "a sandbox is not served");
        }
        tasks.stop();
        tasks.drained().await;
        // Again, if it failed for want of a file descriptor: the sandbox's end has freed some.
        if served.own.as_ref().is_some_and(|own| !own.is_removed()) {
            self.remove(&served).await;
        }
        tracing::info!(namespace = %served.namespace, group = %served.group, "sandbox is gone");
        self.reclaim.sandbox_ended();
        self.served.fetch_sub(1, Ordering::SeqCst);
        self.stop_if_done();
    }

    async fn remove(&self, served: &Arc<ServedSandbox>) {
        self.sandboxes.forget(served);
        let (state, removed) = (self.state.clone(), served.clone());
        // The record first: whoever makes the next sandbox of this name writes its own when the socket is gone.
        let remove = move || -> Result<(), DaemonError> {
            let record = state.remove(&removed.record);
            removed.own.as_ref().map_or(Ok(()), SocketFile::remove)?;
            Ok(record?)
        };
        if let Err(error) = blocking("remove the sandbox", remove).await.and_then(|removed| removed)
        {
            tracing::error!(%error, "something of a sandbox stays behind");
        }
    }

    /// The address and pid of a sandbox that is there.
    pub(crate) fn connect(&self, request: &ConnectRequest) -> Result<(String, u32), DaemonError> {
        let namespace = Id::parse("namespace", &request.namespace)?;
        let group = Id::parse("sandbox id", &request.group)?;
        let socket =
            socket::path(None, &request.containerd_address, namespace.as_str(), group.as_str())?;
        let not_found =
            || DaemonError::NotFound { namespace: namespace.to_string(), group: group.to_string() };
        let served = self.sandboxes.get(&socket).ok_or_else(not_found)?;
        Ok((socket::address(&socket), served.sandbox.pid()))
    }

    /// Ends and forgets a container; `None` if there is no such. A sandbox that is left empty ends, too, as does one that is
    /// deleted in its own name.
    pub(crate) async fn delete(
        &self,
        request: &DeleteRequest,
    ) -> Result<Option<Ended>, DaemonError> {
        let namespace = Id::parse("namespace", &request.namespace)?;
        let id = Id::parse("container id", &request.id)?;
        let Some(served) = self.find(&namespace, &id, request) else { return Ok(None) };
        let ended = match served.sandbox.end(&id).await {
            Ok((pid, exit)) => Some(Ended { pid, status: exit.status.get() }),
            Err(SandboxError::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        served.sandbox.shutdown(id.as_str()).await;
        Ok(ended)
    }

    /// By its socket, which the bundle names; else as the sandbox of a container without a pod.
    fn find(&self, namespace: &Id, id: &Id, request: &DeleteRequest) -> Option<Arc<ServedSandbox>> {
        if !request.socket.is_empty() {
            return self.sandboxes.get(Path::new(&request.socket));
        }
        let own = socket::path(None, &request.containerd_address, namespace.as_str(), id.as_str())
            .ok()?;
        self.sandboxes.get(&own)
    }

    /// All sandboxes.
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

    /// Takes no new sandboxes from now on, and leaves when the last one is gone.
    pub(crate) fn retire(&self) {
        if !self.retired.is_cancelled() {
            tracing::info!(
                sandboxes = self.sandboxes.all().len(),
                "retired: leaving with the last sandbox"
            );
        }
        self.retired.cancel();
        self.stop_if_done();
    }

    /// Has the guard start a daemon with the settings of now, which retires this one. Resolves when it has.
    pub(crate) async fn reload(&self) -> Result<(), DaemonError> {
        let successors = self.successors.as_ref().ok_or(DaemonError::NoGuard)?;
        if self.retired.is_cancelled() {
            return Err(DaemonError::Leaving);
        }
        tokio::select! {
            () = self.retired() => {}
            reason = successors.failure() => return Err(DaemonError::NotReloaded { reason }),
        }
        if self.draining.is_cancelled() { Err(DaemonError::Leaving) } else { Ok(()) }
    }

    /// Resolves when it has retired.
    pub(crate) async fn retired(&self) {
        self.retired.cancelled().await;
    }

    /// Ends all sandboxes: their guests get SIGTERM, after half the grace SIGKILL. The answer is how many there were.
    pub(crate) fn drain(&self) -> usize {
        self.retired.cancel();
        self.draining.cancel();
        let all = self.sandboxes.all();
        for served in &all {
            served.sandbox.tasks().stop();
        }
        self.stop_if_done();
        all.len()
    }

    /// How many sandboxes are served, those on their way out included.
    pub(crate) fn count(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }

    fn stop_if_done(&self) {
        let none_left = self.served.load(Ordering::SeqCst) == 0 && self.sandboxes.is_empty();
        if self.retired.is_cancelled() && none_left {
            self.tasks.stop();
        }
    }
}

impl Wanted {
    /// Does what can be known to fail first, and writes the address into the bundle. Blocks.
    fn check(request: &CreateRequest, roots: &[PathBuf]) -> Result<Self, DaemonError> {
        let namespace = Id::parse("namespace", &request.namespace)?;
        let id = Id::parse("container id", &request.id)?;
        let group = Id::parse("sandbox id", &request.group)?;
        let bundle = allowed_roots::check(Path::new(&request.bundle), roots)?;
        let own = SandboxConfig::load(&bundle, &id).map_err(BootstrapError::from)?;
        if own.group != group {
            let reason = format!("it belongs to the sandbox {}, not to {group}", own.group);
            return Err(BundleError { bundle, reason }.into());
        }
        let (entrance, managed) = (Entrance::open(&own.network)?, own.managed);
        let directory =
            Some(request.socket_directory.as_str()).filter(|directory| !directory.is_empty());
        let socket = socket::path(
            directory,
            &request.containerd_address,
            namespace.as_str(),
            group.as_str(),
        )?;
        protocol::write_address(&bundle, &socket::address(&socket))?;
        let (grpc_address, ttrpc_address) =
            (request.containerd_address.clone(), request.ttrpc_address.clone());
        Ok(Self { namespace, group, socket, grpc_address, ttrpc_address, entrance, managed })
    }
}

/// Looks at its end whether the daemon is done.
struct StopIfDone<'a>(&'a Daemon);

impl Drop for StopIfDone<'_> {
    fn drop(&mut self) {
        self.0.stop_if_done();
    }
}

/// What the system has given for a sandbox.
struct Parts {
    listener: UnixListener,
    own: Option<SocketFile>,
    network: Network,
    managed: bool,
    record: Record,
    namespace: Id,
    group: Id,
    grpc_address: String,
    ttrpc_address: String,
}

/// The same until somebody serves it: if nobody does, because the client has gone away or the daemon leaves, it is removed.
struct Opened {
    parts: Option<Parts>,
    state: StateDirectory,
}

impl Opened {
    fn keep(mut self) -> Result<Parts, DaemonError> {
        self.parts.take().ok_or(DaemonError::Leaving)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let Some(Parts { own, record, .. }) = self.parts.take() else { return };
        // Rare and short enough for any thread.
        let removed = self.state.remove(&record).map_err(DaemonError::from);
        if let Err(error) = removed.and_then(|()| Ok(own.map_or(Ok(()), |own| own.remove())?)) {
            tracing::error!(%error, "something of a sandbox that nobody wants stays behind");
        }
    }
}

/// How long a sandbox of this daemon may take to leave its socket to the next one of the same name.
const SUCCESSION: Duration = Duration::from_secs(1);
const SUCCESSION_POLL: Duration = Duration::from_millis(5);

/// Binds the socket, parks in the network, writes the record. Blocks.
fn open(wanted: Wanted, state: &StateDirectory, owner: Owner) -> Result<Opened, DaemonError> {
    let Wanted { namespace, group, socket, grpc_address, ttrpc_address, entrance, managed } =
        wanted;
    let network = Network::parked(entrance)?;
    let listener = bind(&socket)?;
    let own = SocketFile::of(&listener);
    let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let record =
        Record { owner, socket, namespace: namespace.to_string(), group: group.to_string(), made };
    let written = state.write(&record);
    let parts = Parts {
        listener,
        own,
        network,
        managed,
        record,
        namespace,
        group,
        grpc_address,
        ttrpc_address,
    };
    // Dropped on failure: a sandbox that nobody could find after a takeover is none.
    let opened = Opened { parts: Some(parts), state: state.clone() };
    written?;
    Ok(opened)
}

fn bind(socket: &Path) -> Result<UnixListener, DaemonError> {
    let deadline = Instant::now() + SUCCESSION;
    loop {
        if let Bound::New(listener) = socket::bind_or_join(socket)? {
            return Ok(listener);
        }
        let peer = socket::peer(socket);
        let is_own = peer == Some(std::process::id());
        if !is_own || Instant::now() >= deadline {
            let owner = peer.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(DaemonError::Squatted { socket: socket.to_owned(), owner });
        }
        sys::pause(SUCCESSION_POLL);
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, DaemonError> {
    spawn_blocking(work)
        .await
        .map_err(|error| DaemonError::Lost { what, reason: error.to_string() })
}
