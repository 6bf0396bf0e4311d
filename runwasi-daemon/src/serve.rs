//! Life of the daemon: from its settings to the end of its last task.
//!
//! ```text
//! limits ─▶ engine ─▶ sweep ─▶ bind all sockets ─▶ rename daemons/<pid>.sock, manager.sock
//!        ─▶ serve ─▶ ready ─▶ retire the predecessors
//! SIGTERM, SIGINT: drain; a second one: exit at once
//! SIGUSR2: retire
//! SIGHUP, SIGUSR1: nothing
//! ```

use std::{
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runwasi_core::{
    Engine, EngineError,
    blocking::blocking,
    bootstrap::{BootstrapError, socket},
    logging,
    metrics::exposition::Build,
    panics,
    requirements::{self, RequirementError},
    rootfs,
    runtime::{self, GuestRuntime},
    server::ServeError,
    settings::{RawSettings, SettingsError},
    shutdown::Tasks,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

use crate::{
    config::Settings,
    daemon::{Daemon, LEAST_GRACE},
    journal, limits,
    manager::{client::Client, server},
    metrics::{
        self,
        address::Address,
        listener::{ListenError, Metrics, Opened},
    },
    readiness::{self, Sign, Supervisor},
    replacement::{OwnFile, Replacement},
    report::Facts,
    retirement::{self, Retirement},
    slots::Slots,
    state_dir::{RecordError, StateDirectory},
    successor::Successors,
    traces::{self, TracesError},
    watchdog,
};

/// Time limit for the predecessors to reply that they have retired.
const RETIRE_PATIENCE: Duration = Duration::from_secs(5);

/// Time limit for a predecessor to tell its settings.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(1);

/// Time limit for the last replies of the manager API before the daemon exits.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// Settings for the engine of a whole node.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Most guests that run at the same time. The engine has to refuse more, in
    /// [`Engine::prepare`]. For an engine that implements `Default` this crate does.
    pub slots: u32,
    /// Directory for compiled code. Without it compiled code is not kept.
    pub cache: Option<PathBuf>,
    /// Size limit of that directory in MiB.
    pub cache_size: u32,
    /// The table `[engine]` of the settings file. Its keys are `engine.NAME`, as in runtime options.
    pub written: RawSettings,
}

/// An integrator's engine for a node: its settings and its construction.
///
/// The settings are a struct whose fields are the keys, read by [`RawSettings::read`]:
///
/// ```
/// use runwasi_core::settings::{RawSettings, SettingsError, in_force, to_toml};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize, Serialize)]
/// #[serde(default, deny_unknown_fields)]
/// struct Settings {
///     #[serde(rename = "engine.depth")]
///     depth: u32,
/// }
///
/// impl Default for Settings {
///     fn default() -> Self {
///         Self { depth: 1000 }
///     }
/// }
///
/// /// For `NodeEngine::table`.
/// fn table(written: &RawSettings) -> Result<String, SettingsError> {
///     let settings = written.read(&Settings::default())?;
///     let keys = in_force(&settings)?.into_iter();
///     let keys = keys.map(|(key, value)| (key.trim_start_matches("engine.").to_owned(), value));
///     Ok(format!("[engine]\n{}", to_toml(keys.collect(), |_| ("", ""))))
/// }
///
/// let written = RawSettings::parse("f", b"[engine]\ndepth = 5", |_| true).unwrap();
/// assert_eq!(table(&written).unwrap(), "[engine]\ndepth = 5\n");
/// ```
pub trait NodeEngine {
    /// The engine.
    type Engine: Engine;

    /// Validates the table `[engine]`. Returns it as TOML, headed by `[engine]`, with every key and
    /// the value in force, as `--print-config` shows it. Called before anything is opened, by each
    /// command that reads the settings. The default implementation has no settings and refuses all.
    fn table(settings: &EngineSettings) -> Result<String, SettingsError> {
        match settings.written.entries.first() {
            Some(entry) => Err(entry.unknown("")),
            None => Ok("[engine]\n".to_owned()),
        }
    }

    /// Builds the engine. Called once, before any other thread exists, by a daemon and by
    /// `precompile`. An error fails the start of either with its text.
    fn make(settings: &EngineSettings) -> Result<Self::Engine, EngineError>;
}

/// An engine without settings is that of a node as it is, with a bounded number of guests.
impl<E: Engine + Default> NodeEngine for E {
    type Engine = Slots<E>;

    fn make(settings: &EngineSettings) -> Result<Slots<E>, EngineError> {
        Ok(Slots::new(E::default(), settings.slots))
    }
}

impl EngineSettings {
    /// Takes the settings of a daemon, with room for `slots` guests.
    pub(crate) fn of(settings: &Settings, slots: u32) -> Self {
        let cache = settings.cache().map(Path::to_owned);
        Self { slots, cache, cache_size: settings.cache_size, written: settings.engine.clone() }
    }
}

/// Reason why a daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailure {
    /// The kernel or the privileges do not meet a requirement.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation or its object.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] BootstrapError),
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] RecordError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The engine could not be built.
    #[error("engine: {0}")]
    Engine(#[from] EngineError),
    /// The manager API cannot be served.
    #[error("manager API: {0}")]
    Manager(#[from] ServeError),
    /// A second signal has cut the drain short.
    #[error("left at once by a second signal, {sandboxes} sandboxes with it")]
    Hurried {
        /// Number of sandboxes that still existed.
        sandboxes: usize,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServeFailure {
    let what = what.into();
    move |source| ServeFailure::Io { what, source }
}

/// Name of a daemon, and the descriptors it inherits from the process that started it.
pub(crate) struct Start {
    /// Names of the daemon.
    pub(crate) build: Build,
    /// The listening manager socket, if the parent process or systemd has opened it.
    pub(crate) manager: Option<OwnedFd>,
    /// Descriptor that gets `ready` when the daemon serves.
    pub(crate) ready: Option<OwnedFd>,
    /// Receiver of the daemon's signs.
    pub(crate) supervisor: Supervisor,
}

/// Serves until the daemon is stopped, or has retired and its last sandbox has ended.
pub(crate) fn serve<N: NodeEngine>(settings: Settings, start: Start) -> Result<(), ServeFailure> {
    logging::to_stderr_at(settings.log_level, settings.log_format);
    panics::log();
    // The main thread runs every task of the control side: a panic must not leave a half-dead
    // process behind.
    panics::fatal(|| serve_all::<N>(settings, start))
}

fn serve_all<N: NodeEngine>(settings: Settings, start: Start) -> Result<(), ServeFailure> {
    requirements::check()?;
    requirements::warn_of_limits();
    // Before the slots are counted, which depend on this limit.
    let open_files = limits::raise_open_files().map_err(failed("RLIMIT_NOFILE"))?;
    let slots = settings.slots_in_force();
    // Here and not for the first container: a missing privilege must fail the start.
    rootfs::prepare().map_err(failed("root file systems of containers"))?;
    let of_engine = EngineSettings::of(&settings, slots);
    // Printed before it serves, while nothing else needs the time. An error is one of the settings,
    // which have been checked.
    let in_force =
        settings.to_toml().and_then(|toml| Ok(format!("{toml}\n{}", N::table(&of_engine)?)));
    let in_force = in_force.unwrap_or_else(|error| format!("# {error}\n"));
    let engine = Arc::new(N::make(&of_engine)?);
    let guests = GuestRuntime::start(runtime::node_workers()).map_err(failed("guest runtime"))?;
    let control = runtime::control().map_err(failed("control runtime"))?;
    let result = control.block_on(async {
        // Stopped when every sandbox has had its own grace: only events are left to deliver.
        let tasks = Tasks::new(LEAST_GRACE);
        let socket = settings.socket.clone();
        let Start { build, manager, ready, supervisor } = start;
        let program = build.program;
        let metrics_address = settings.metrics_address.clone();
        traces::start(build, &tasks)?;
        let successors =
            Successors::of(&supervisor, &tasks).map_err(failed("socket of the guard"))?;
        let facts = Facts {
            version: build.version,
            engine: build.engine,
            started: journal::now(),
            slots,
            activated: manager.is_some(),
            settings: in_force,
        };
        let daemon = Daemon::new(
            settings,
            engine,
            guests.guests().clone(),
            tasks.clone(),
            successors,
            build,
            facts,
        )?;
        let (sockets, metrics) = Sockets::open(&socket, manager, &metrics_address, program)?;
        let state = StateDirectory::of(&socket);
        let answers = metrics::retired::answers(daemon.exposition().clone(), state, program);
        tracing::info!(
            pid = std::process::id(),
            version = build.version,
            socket = %socket.display(),
            slots,
            open_files,
            metrics = %metrics_address,
            "serving"
        );
        metrics::server::start(metrics, answers, daemon.clone(), &tasks);
        watchdog::start(&supervisor, guests.guests().clone(), &tasks);
        let connections = limits::manager_connections(open_files);
        // Also after an error, the files go with `sockets`: those of a daemon that exits would look
        // like those of a killed one.
        run(daemon, &sockets, &tasks, (ready, supervisor), connections).await
    });
    // Neither waits for its threads: no result of theirs is needed any more.
    guests.end();
    control.shutdown_background();
    result
}

/// Serves the manager API, takes over from the predecessors and follows the signals to the end.
async fn run(
    daemon: Arc<Daemon>,
    sockets: &Sockets,
    tasks: &Tasks,
    (ready, supervisor): (Option<OwnedFd>, Supervisor),
    connections: usize,
) -> Result<(), ServeFailure> {
    // Before readiness is reported: from then on a signal must not kill the process.
    let mut signals = Signals::catch()?;
    let mut manager = server::serve(
        sockets.manager.try_clone().map_err(failed("manager socket"))?,
        daemon.clone(),
        connections,
    )
    .await?;
    let mut own = server::serve(
        sockets.own.try_clone().map_err(failed("own socket"))?,
        daemon.clone(),
        connections,
    )
    .await?;
    if let Some(descriptor) = ready {
        readiness::write_ready(descriptor);
    }
    if let Err(error) = supervisor.tell(Sign::Ready) {
        tracing::warn!(%error, "the supervisor does not listen");
    }
    // After readiness: the predecessors serve until this daemon does.
    let predecessors = sockets.predecessors.clone();
    let program = sockets.program;
    let retirements = blocking(
        move || {
            retirement::retire(&predecessors, program, RETIRE_PATIENCE);
            Ok(())
        },
        |lost| lost,
    );
    let retiring = daemon.clone();
    let stopping = tasks.clone();
    let manager_file = sockets.manager_file.clone();
    let (give_back, given_back) = oneshot::channel();
    tasks.spawn(async move {
        tokio::select! {
            () = retiring.retired() => {}
            () = stopping.stopped() => {}
        }
        // systemd's socket is the successor's, too: new clients are left to it. One of our own has no
        // other accepting end. It goes on, and loses its name below: who has connected already is
        // refused at once, and asks the successor.
        if manager_file.is_none() {
            manager.stop_listen().await;
        }
        // Keeps the socket that a successor has put in its place. On the blocking pool, since it
        // waits for the lock of the directory.
        let remove = move || manager_file.map_or(Ok(()), |file| file.remove());
        let removed = blocking(remove, |source| BootstrapError::Io {
            what: "remove the manager socket".into(),
            source,
        });
        if let Err(error) = removed.await {
            tracing::error!(%error, "the manager socket stays behind");
        }
        // An error: `run` has returned without waiting for it.
        let _ = give_back.send(manager);
    });
    // A predecessor that was not retired goes on beside this daemon.
    if let Err(error) = retirements.await {
        tracing::error!(%error, "predecessors are not retired");
    }
    let ended = follow(&daemon, tasks, &mut signals, &supervisor).await;
    // Replies that are under way, such as that to `Retire` or `Reload`.
    let answered = async {
        own.stop_listen().await;
        own.disconnect().await;
        if let Ok(mut manager) = given_back.await {
            manager.disconnect().await;
        }
    };
    // At the limit they are abandoned: a client must not hold the process.
    let _ = timeout(LAST_ANSWERS, answered).await;
    ended
}

/// Waits for the end of all tasks and obeys signals in the meantime.
async fn follow(
    daemon: &Arc<Daemon>,
    tasks: &Tasks,
    signals: &mut Signals,
    supervisor: &Supervisor,
) -> Result<(), ServeFailure> {
    let mut draining = None;
    loop {
        let drained = async {
            tasks.stopped().await;
            tasks.drained().await;
        };
        let received = tokio::select! {
            () = drained => return Ok(()),
            received = signals.next() => received,
        };
        match (received, draining) {
            (Received::Retire, _) => daemon.retire(Retirement::Replaced),
            (Received::Nothing(signal), _) => tracing::info!("{signal} is ignored"),
            (Received::Leave, None) => {
                supervisor.stopping();
                let sandboxes = daemon.drain();
                tracing::info!(sandboxes, "leaving: guests have their SIGTERM");
                draining = Some(sandboxes);
            }
            (Received::Leave, Some(_)) => {
                return Err(ServeFailure::Hurried { sandboxes: daemon.count() });
            }
        }
    }
}

/// Meaning of a signal.
enum Received {
    Leave,
    Retire,
    /// A signal of this name that must end no container. SIGHUP: the terminal that the daemon was
    /// started from is closed. SIGUSR1: containerd and its shims dump their stacks, and who asks all
    /// of them for that reaches this process, too.
    Nothing(&'static str),
}

/// The signals that a daemon handles.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    dump: Signal,
    retire: Signal,
}

impl Signals {
    fn catch() -> Result<Self, ServeFailure> {
        let catch = |kind, name: &str| signal(kind).map_err(failed(format!("{name} handler")));
        Ok(Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: catch(SignalKind::interrupt(), "SIGINT")?,
            hangup: catch(SignalKind::hangup(), "SIGHUP")?,
            dump: catch(SignalKind::user_defined1(), "SIGUSR1")?,
            retire: catch(SignalKind::user_defined2(), "SIGUSR2")?,
        })
    }

    async fn next(&mut self) -> Received {
        tokio::select! {
            _ = self.terminate.recv() => Received::Leave,
            _ = self.interrupt.recv() => Received::Leave,
            _ = self.hangup.recv() => Received::Nothing("SIGHUP"),
            _ = self.dump.recv() => Received::Nothing("SIGUSR1"),
            _ = self.retire.recv() => Received::Retire,
        }
    }
}

/// The daemon's listening sockets.
struct Sockets {
    /// Name of the daemon's program, for messages.
    program: &'static str,
    /// Own sockets of the daemons that were started earlier.
    predecessors: Vec<PathBuf>,
    /// File of the manager socket. Absent for a socket that was inherited, which stays.
    manager_file: Option<Arc<OwnFile>>,
    manager: UnixListener,
    _own_file: OwnFile,
    own: UnixListener,
}

impl Sockets {
    /// Opens all sockets, that of the metrics too, and removes the remains of daemons that were
    /// killed.
    fn open(
        manager: &Path,
        activated: Option<OwnedFd>,
        metrics: &Address,
        program: &'static str,
    ) -> Result<(Self, Metrics), ServeFailure> {
        let state = StateDirectory::of(manager);
        state.create()?;
        let activated = activated.map(UnixListener::from);
        if let Some(listener) = &activated {
            check_place(listener, manager)?;
        }
        // Held to the end: of several daemons that start at the same time, each sees all those
        // before it as its predecessors.
        let _place = state.lock()?;
        let removed = state.sweep()?;
        if removed > 0 {
            tracing::info!(removed, "records of sandboxes that a killed daemon has left");
        }
        let predecessors = state.others()?;
        let own_path = state.daemon_socket(std::process::id());
        let (own_place, own) = bind_for(&own_path)?;
        let may_have = |port: SocketAddr| {
            predecessors.iter().any(|predecessor| may_have_port(predecessor, program, port.port()))
        };
        let opened = Opened::at(metrics, &state, may_have)?;
        let (manager_place, listener) = match activated {
            Some(listener) => (None, listener),
            None => {
                refuse_stranger(manager, &state)?;
                let (place, listener) = bind_for(manager)?;
                (Some(place), listener)
            }
        };
        // Last, and the manager socket at the very end: a start that fails before leaves the
        // predecessor its clients.
        let _own_file = own_place.rename().map_err(failed(own_path.display().to_string()))?;
        let metrics = opened.rename().map_err(failed(format!("metrics-address {metrics}")))?;
        let manager_file = manager_place.map(Replacement::rename).transpose();
        let manager_file = manager_file.map_err(failed(manager.display().to_string()))?;
        let manager_file = manager_file.map(Arc::new);
        let manager = listener;
        Ok((Self { program, predecessors, manager_file, manager, _own_file, own }, metrics))
    }
}

/// True if a predecessor may serve its metrics at this port. Blocks.
fn may_have_port(predecessor: &Path, program: &'static str, port: u16) -> bool {
    let client = Client::connect(predecessor, program, SETTINGS_PATIENCE);
    match client.and_then(|client| client.status(false)) {
        Ok(status) => metrics_port(&status.settings) == Some(port),
        // A daemon that does not tell: metrics that come late are better than no start.
        Err(_) => true,
    }
}

/// The port of the metrics in the settings of a daemon, as its status has them.
fn metrics_port(settings: &str) -> Option<u16> {
    let settings: toml::Table = settings.parse().ok()?;
    match Address::parse(settings.get("metrics-address")?.as_str()?) {
        Ok(Address::Ip(address)) => Some(address.port()),
        _ => None,
    }
}

/// Fails if a socket that was handed over is not the one of the settings.
// Thin shims look for records beside the socket that they connect to, and this daemon writes them
// beside that of its settings: after a takeover the sandboxes of the old daemon would not be found.
fn check_place(listener: &UnixListener, manager: &Path) -> Result<(), ServeFailure> {
    let what = || format!("manager socket {}", manager.display());
    let address = listener.local_addr().map_err(failed(what()))?;
    // The directory may be named by a link.
    let place =
        |path: &Path| Some((path.parent()?.canonicalize().ok()?, path.file_name()?.to_owned()));
    let wanted = place(manager);
    let found = address.as_pathname();
    if wanted.is_some() && found.and_then(place) == wanted {
        return Ok(());
    }
    let found = found.map_or_else(|| "no path".to_owned(), |path| path.display().to_string());
    let reason =
        format!("the socket that was handed over is {found}; unit and settings must agree");
    Err(failed(what())(io::Error::new(io::ErrorKind::InvalidInput, reason)))
}

/// Fails if the manager socket is served by a process that is no daemon of this state directory.
fn refuse_stranger(manager: &Path, state: &StateDirectory) -> Result<(), ServeFailure> {
    // The socket of a daemon is taken over. Any other process would lose its clients unnoticed.
    let Some(pid) = socket::peer(manager) else { return Ok(()) };
    if socket::is_alive(&state.daemon_socket(pid)) {
        return Ok(());
    }
    let stranger = io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("is served by another program (pid {pid})"),
    );
    Err(failed(format!("manager socket {}", manager.display()))(stranger))
}

/// Binds a socket that is to get the name `path`.
fn bind_for(path: &Path) -> Result<(Replacement, UnixListener), ServeFailure> {
    // One daemon at a time uses this name, under the lock of `open`.
    let temporary = path.with_extension("new");
    Replacement::bind(path, temporary).map_err(failed(path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use runwasi_core::bootstrap::socket::SocketFile;

    use super::*;

    fn open(manager: &Path, metrics: &str) -> Result<(Sockets, Metrics), ServeFailure> {
        Sockets::open(manager, None, &Address::parse(metrics).unwrap(), "test")
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let mut files: Vec<_> =
            directory.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[test]
    fn port_of_the_metrics_is_that_of_the_settings() {
        let port = |address: &str| {
            metrics_port(&format!("grace = 30 # s\nmetrics-address = \"{address}\"\n\n[engine]\n"))
        };
        assert_eq!((port("0.0.0.0:9464"), port("[::1]:9")), (Some(9464), Some(9)));
        assert_eq!((port("off"), port("/run/m.sock"), metrics_port("")), (None, None, None));
    }

    #[tokio::test]
    async fn socket_that_is_handed_over_must_be_that_of_the_settings() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let manager = path("m/manager.sock");
        StateDirectory::of(&manager).create().unwrap();
        let start = |socket: &Path| {
            let socket = UnixListener::bind(socket).unwrap().into();
            Sockets::open(&manager, Some(socket), &Address::parse("off").unwrap(), "test")
        };
        let refused = start(&path("other.sock")).err().unwrap().to_string();
        for name in [path("other.sock"), manager.clone()] {
            assert!(refused.contains(&name.display().to_string()), "{refused}");
        }
        assert!(files(&path("m/daemons")).is_empty());
        std::os::unix::fs::symlink(path("m"), path("link")).unwrap();
        start(&path("link/manager.sock")).unwrap();
    }

    #[tokio::test]
    async fn start_without_its_metrics_address_replaces_no_socket() {
        let directory = tempfile::tempdir().unwrap();
        let manager = directory.path().join("manager.sock");
        let metrics = directory.path().join("metrics.sock").display().to_string();
        // Played by this process: the path of its own socket is that of the refused start, too.
        let predecessor = open(&manager, &metrics).unwrap();
        let all = || [files(directory.path()), files(&directory.path().join("daemons"))];
        let own = StateDirectory::of(&manager).daemon_socket(std::process::id());
        let inodes = || [&manager, &own].map(|path| format!("{:?}", SocketFile::at(path).unwrap()));
        let before = (all(), inodes());
        // An address for documentation, which no machine has.
        let refused = open(&manager, "192.0.2.1:9").err().unwrap();
        assert!(refused.to_string().contains("metrics-address 192.0.2.1:9"), "{refused}");
        assert_eq!((all(), inodes()), before);
        drop(predecessor);
        assert_eq!(files(&directory.path().join("daemons")), [] as [PathBuf; 0]);
        assert!(!manager.exists());
    }
}
