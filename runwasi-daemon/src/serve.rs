//! The daemon's life: from its settings to the end of its last task.
//!
//! ```text
//! limits ─▶ engine ─▶ bind daemons/<pid>.sock, manager.sock ─▶ sweep ─▶ serve ─▶ ready ─▶ retire the predecessor
//! SIGTERM, SIGINT, SIGHUP: drain, a second one: leave at once · SIGUSR2: retire
//! ```

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::MetadataExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runwasi_core::{
    Engine, EngineError,
    bootstrap::{
        BootstrapError,
        socket::{self, SocketFile},
    },
    logging, panics,
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
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    config::Settings,
    daemon::{Daemon, LEAST_GRACE},
    limits,
    manager::{client::Client, server},
    readiness::{self, Sign, Supervisor},
    state_dir::{RecordError, StateDirectory},
    successor::Successors,
    watchdog,
};

/// How long a predecessor may take to answer that it has retired.
const RETIRE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a daemon that leaves waits for calls of the manager API to be answered.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What an engine of a whole node needs to know.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Guests that can run at once.
    pub slots: u32,
    /// Where compiled code is kept; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// How much of it, in MiB.
    pub cache_size: u32,
    /// What the file's table `[engine]` says.
    pub written: RawSettings,
}

/// How the settings become an engine: what an integrator brings.
pub trait NodeEngine {
    /// The engine.
    type Engine: Engine;

    /// Checks the table `[engine]`, and returns it as `--print-config` shows it: every key, with the
    /// value in force. Called before anything is opened.
    fn table(settings: &EngineSettings) -> Result<String, SettingsError>;

    /// Makes the engine. Called once, before any other thread exists.
    fn make(settings: &EngineSettings) -> Result<Self::Engine, EngineError>;
}

impl EngineSettings {
    /// Of a daemon's settings, with room for so many guests.
    pub(crate) fn of(settings: &Settings, slots: u32) -> Self {
        let cache = settings.cache().map(Path::to_owned);
        Self { slots, cache, cache_size: settings.cache_size, written: settings.engine.clone() }
    }
}

/// Why a daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailure {
    /// The kernel or the privileges do not do.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// The system refuses something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] BootstrapError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] RecordError),
    /// The engine could not be built.
    #[error("engine: {0}")]
    Engine(#[from] EngineError),
    /// The manager API cannot be served.
    #[error("manager API: {0}")]
    Manager(#[from] ServeError),
    /// A second signal came.
    #[error("left at once by a second signal, {sandboxes} sandboxes with it")]
    Hurried {
        /// How many there were.
        sandboxes: usize,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServeFailure {
    let what = what.into();
    move |source| ServeFailure::Io { what, source }
}

/// What a daemon is given by whoever has started it.
pub(crate) struct Start {
    /// The manager's listening socket, if it is open already.
    pub(crate) manager: Option<OwnedFd>,
    /// Descriptor that is told when it serves.
    pub(crate) ready: Option<OwnedFd>,
    pub(crate) supervisor: Supervisor,
}

/// Serves until there is nothing left to serve.
pub(crate) fn serve<N: NodeEngine>(settings: Settings, start: Start) -> Result<(), ServeFailure> {
    logging::to_stderr_at(settings.log_level);
    panics::log();
    panics::fatal(|| serve_all::<N>(settings, start))
}

fn serve_all<N: NodeEngine>(settings: Settings, start: Start) -> Result<(), ServeFailure> {
    requirements::check()?;
    requirements::warn_of_limits();
    let open_files = limits::raise_open_files().map_err(failed("RLIMIT_NOFILE"))?;
    let slots = settings.slots_in_force();
    rootfs::prepare().map_err(failed("root file systems of containers"))?;
    let engine = Arc::new(N::make(&EngineSettings::of(&settings, slots))?);
    let guests = GuestRuntime::start(runtime::node_workers()).map_err(failed("guest runtime"))?;
    let control = runtime::control().map_err(failed("control runtime"))?;
    let result = control.block_on(async {
        // Stopped when every sandbox has had its grace: what is left are events.
        let tasks = Tasks::new(LEAST_GRACE);
        let socket = settings.socket.clone();
        let Start { manager, ready, supervisor } = start;
        let successors = Successors::of(&supervisor, &tasks).map_err(failed("socket of the guard"))?;
        let daemon = Daemon::new(settings, engine, guests.guests().clone(), tasks.clone(), successors)?;
        let sockets = Sockets::open(&socket, manager)?;
        tracing::info!(pid = std::process::id(), socket = %socket.display(), slots, open_files, "serving");
        watchdog::start(&supervisor, guests.guests().clone(), &tasks);
        let ended = run(daemon, &sockets, &tasks, (ready, supervisor), limits::manager_connections(open_files)).await;
        sockets.remove();
        ended
    });
    guests.end();
    control.shutdown_background();
    result
}

async fn run(
    daemon: Arc<Daemon>,
    sockets: &Sockets,
    tasks: &Tasks,
    (ready, supervisor): (Option<OwnedFd>, Supervisor),
    visitors: usize,
) -> Result<(), ServeFailure> {
    let mut signals = Signals::catch()?;
    let mut manager = server::serve(
        sockets.manager.try_clone().map_err(failed("manager socket"))?,
        daemon.clone(),
        visitors,
    )
    .await?;
    let mut own = server::serve(
        sockets.own.try_clone().map_err(failed("own socket"))?,
        daemon.clone(),
        visitors,
    )
    .await?;
    if let Some(descriptor) = ready {
        readiness::write_ready(descriptor);
    }
    if let Err(error) = supervisor.tell(Sign::Ready) {
        tracing::warn!(%error, "the supervisor does not listen");
    }
    let predecessors = sockets.predecessors.clone();
    let retiring_them = spawn_blocking(move || retire(&predecessors));
    let (retiring, stopping) = (daemon.clone(), tasks.clone());
    let manager_file = sockets.manager_file.clone();
    let (give_back, given_back) = oneshot::channel();
    tasks.spawn(async move {
        tokio::select! {
            () = retiring.retired() => {}
            () = stopping.stopped() => {}
        }
        manager.stop_listen().await;
        // A successor that was started meanwhile has put its own in that place, which stays.
        // On a thread that may wait for the directory's lock.
        let removed = spawn_blocking(move || manager_file.map_or(Ok(()), |file| file.remove()));
        if let Ok(Err(error)) = removed.await {
            tracing::error!(%error, "the manager socket stays behind");
        }
        // An error: the process is leaving in a hurry.
        let _ = give_back.send(manager);
    });
    // An error is a panic, which is logged. What was not retired goes on beside this one.
    let _ = retiring_them.await;
    let ended = follow(&daemon, tasks, &mut signals, &supervisor).await;
    // The answers under way, that to `Retire` or `Reload` among them.
    let answered = async {
        own.stop_listen().await;
        own.disconnect().await;
        if let Ok(mut manager) = given_back.await {
            manager.disconnect().await;
        }
    };
    let _ = timeout(LAST_ANSWERS, answered).await;
    ended
}

/// Waits for the end, and does what signals say meanwhile.
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
        let told = tokio::select! {
            () = drained => return Ok(()),
            told = signals.next() => told,
        };
        match (told, draining) {
            (Told::Retire, _) => daemon.retire(),
            (Told::Leave, None) => {
                supervisor.stopping();
                let sandboxes = daemon.drain();
                tracing::info!(sandboxes, "leaving: guests have their SIGTERM");
                draining = Some(sandboxes);
            }
            (Told::Leave, Some(_)) => {
                return Err(ServeFailure::Hurried { sandboxes: daemon.count() });
            }
        }
    }
}

enum Told {
    Leave,
    Retire,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    retire: Signal,
}

impl Signals {
    fn catch() -> Result<Self, ServeFailure> {
        let catch = |kind, name: &str| signal(kind).map_err(failed(format!("{name} handler")));
        Ok(Self {
            terminate: catch(SignalKind::terminate(), "SIGTERM")?,
            interrupt: catch(SignalKind::interrupt(), "SIGINT")?,
            hangup: catch(SignalKind::hangup(), "SIGHUP")?,
            retire: catch(SignalKind::user_defined2(), "SIGUSR2")?,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Leave,
            _ = self.interrupt.recv() => Told::Leave,
            _ = self.hangup.recv() => Told::Leave,
            _ = self.retire.recv() => Told::Retire,
        }
    }
}

/// The daemon's listening sockets.
struct Sockets {
    /// The own sockets of daemons that were there before.
    predecessors: Vec<PathBuf>,
    manager: UnixListener,
    /// The manager socket's file, if we have made it.
    manager_file: Option<Arc<SocketFile>>,
    own: UnixListener,
    own_file: Option<SocketFile>,
}

impl Sockets {
    /// Binds both, and removes what a predecessor that was killed has left.
    fn open(manager: &Path, activated: Option<OwnedFd>) -> Result<Self, ServeFailure> {
        let state = StateDirectory::of(manager);
        state.create()?;
        // Of several that are started at once each takes over from those before it.
        let _place = state.lock()?;
        let removed = state.sweep()?;
        if removed > 0 {
            tracing::info!(removed, "records of sandboxes that a killed daemon has left");
        }
        let own_path = state.daemon_socket(std::process::id());
        let (own, own_file) = bind_over(&own_path)?;
        let (manager, manager_file) = match activated {
            Some(fd) => (UnixListener::from(fd), None),
            None => {
                refuse_stranger(manager, &state)?;
                let (listener, file) = bind_over(manager)?;
                (listener, file.map(Arc::new))
            }
        };
        let predecessors = state.others()?;
        Ok(Self { predecessors, manager, manager_file, own, own_file })
    }

    fn remove(&self) {
        let files = self.manager_file.iter().map(Arc::as_ref).chain(&self.own_file);
        for error in files.filter_map(|file| file.remove().err()) {
            tracing::error!(%error, "a socket stays behind");
        }
    }
}

/// What is served by a daemon is taken over; what is served by anybody else is not ours to take.
fn refuse_stranger(manager: &Path, state: &StateDirectory) -> Result<(), ServeFailure> {
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

/// Binds beside `path` and renames over it: whoever connects finds the old socket or the new one, never none.
fn bind_over(path: &Path) -> Result<(UnixListener, Option<SocketFile>), ServeFailure> {
    match fs::symlink_metadata(path) {
        Ok(found) if !rustix::fs::FileType::from_raw_mode(found.mode()).is_socket() => {
            return Err(failed(path.display().to_string())(io::Error::other("it is not a socket")));
        }
        _ => {}
    }
    let temporary = path.with_extension("new");
    socket::remove_if_dead(&temporary)?;
    let listener =
        socket::listener(&temporary).map_err(failed(format!("bind {}", temporary.display())))?;
    // Before the renaming: afterwards the name may be a successor's.
    let file = SocketFile::at(&temporary).map(|file| file.renamed(path));
    fs::rename(&temporary, path).map_err(failed(path.display().to_string()))?;
    Ok((listener, file))
}

/// From then on all new sandboxes are ours.
fn retire(predecessors: &[PathBuf]) {
    for predecessor in predecessors {
        match Client::connect(predecessor, RETIRE_PATIENCE).and_then(|client| client.retire()) {
            Ok(answer) => tracing::info!(pid = answer.pid, version = answer.version, "took over"),
            Err(error) => tracing::error!(%error, "a predecessor does not retire"),
        }
    }
}
