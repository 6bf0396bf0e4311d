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
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use containerd_shim_protos::ttrpc::r#async::Server;
use runwasi_core::{
    Engine, EngineError,
    blocking::blocking,
    bootstrap::BootstrapError,
    logging,
    metrics::exposition::Build,
    panics, requirements, rootfs,
    runtime::{self, GuestRuntime},
    settings::{RawSettings, SettingsError},
    shutdown::Tasks,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::timeout,
};

mod error;
mod sockets;

pub use self::error::ServeFailure;
use self::{error::failed, sockets::Sockets};
use crate::{
    config::Settings,
    daemon::{Daemon, LEAST_GRACE},
    journal, limits,
    manager::server,
    metrics,
    readiness::{self, Sign, Supervisor},
    replacement::OwnFile,
    report::Facts,
    retirement::{self, Retirement},
    slots::Slots,
    state_dir::StateDirectory,
    successor::Successors,
    traces, watchdog,
};

/// Time limit for the predecessors to reply that they have retired.
const RETIRE_PATIENCE: Duration = Duration::from_secs(5);

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
    /// The table `[engine]` of the settings file. Its keys are `engine.NAME`, as in runtime
    /// options.
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
    // Printed before it serves, while nothing else needs the time.
    let in_force = printed::<N>(&settings, &of_engine);
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

/// The settings in force, for the status.
fn printed<N: NodeEngine>(settings: &Settings, of_engine: &EngineSettings) -> String {
    let toml = settings.to_toml();
    let both = toml.and_then(|toml| Ok(format!("{toml}\n{}", N::table(of_engine)?)));
    // An error is one of the settings, which have been checked.
    both.unwrap_or_else(|error| format!("# {error}\n"))
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
    let manager = sockets.manager.try_clone().map_err(failed("manager socket"))?;
    let manager = server::serve(manager, daemon.clone(), connections).await?;
    let own = sockets.own.try_clone().map_err(failed("own socket"))?;
    let mut own = server::serve(own, daemon.clone(), connections).await?;
    if let Some(descriptor) = ready {
        readiness::write_ready(descriptor);
    }
    if let Err(error) = supervisor.tell(Sign::Ready) {
        tracing::warn!(%error, "the supervisor does not listen");
    }
    let given_back = leave_manager_socket(manager, sockets.manager_file.clone(), &daemon, tasks);
    // After readiness: the predecessors serve until this daemon does.
    retire_predecessors(sockets).await;
    let ended = follow(&daemon, tasks, &mut signals, &supervisor).await;
    let leaves_nothing = ended.is_ok();
    // Replies that are under way, such as that to `Retire` or `Reload`.
    let answered = async {
        if leaves_nothing {
            // Commands find this daemon no longer. One that leaves sandboxes behind keeps its name
            // to the end: a daemon that starts takes their records for those of a killed one.
            remove_file(Some(sockets.own_file.clone())).await;
        }
        own.stop_listen().await;
        daemon.last_events_read().await;
        own.disconnect().await;
        if let Ok(mut manager) = given_back.await {
            // ttrpc counts the accepting task as a connection.
            manager.stop_listen().await;
            manager.disconnect().await;
        }
    };
    // At the limit they are abandoned: a client must not hold the process.
    let _ = timeout(LAST_ANSWERS, answered).await;
    ended
}

/// Leaves the manager socket when the daemon retires or its tasks stop. Gives back its server, with
/// the replies that are under way.
fn leave_manager_socket(
    mut manager: Server,
    file: Option<Arc<OwnFile>>,
    daemon: &Arc<Daemon>,
    tasks: &Tasks,
) -> oneshot::Receiver<Server> {
    let retiring = daemon.clone();
    let stopping = tasks.clone();
    let (give_back, given_back) = oneshot::channel();
    tasks.spawn(async move {
        tokio::select! {
            () = retiring.retired() => {}
            () = stopping.stopped() => {}
        }
        // systemd's socket is the successor's, too: new clients are left to it. One of our own has
        // no other accepting end. It goes on, and loses its name below: a client that has connected
        // is refused at once, and asks the successor.
        if file.is_none() {
            manager.stop_listen().await;
        }
        remove_file(file).await;
        // An error: `run` has returned without waiting for it.
        let _ = give_back.send(manager);
    });
    given_back
}

/// Removes the file of a socket, unless a successor has put its own there.
async fn remove_file(file: Option<Arc<OwnFile>>) {
    // On the blocking pool, since it waits for the lock of the directory.
    let remove = move || file.map_or(Ok(()), |file| file.remove());
    let removed = blocking(remove, |source| BootstrapError::Io {
        what: "remove a socket of the manager API".into(),
        source,
    });
    if let Err(error) = removed.await {
        tracing::error!(%error, "a socket stays behind");
    }
}

/// Asks the predecessors to retire. One that was not retired goes on beside this daemon.
async fn retire_predecessors(sockets: &Sockets) {
    let predecessors = sockets.predecessors.clone();
    let program = sockets.program;
    let retire = move || {
        retirement::retire(&predecessors, program, RETIRE_PATIENCE);
        Ok(())
    };
    if let Err(error) = blocking(retire, |lost| lost).await {
        tracing::error!(%error, "predecessors are not retired");
    }
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
    /// started from is closed. SIGUSR1: containerd and its shims dump their stacks at it, and one
    /// to all of them reaches this process, too.
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
