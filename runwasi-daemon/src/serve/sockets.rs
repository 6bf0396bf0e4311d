//! The listening sockets of a daemon, put in the place of its predecessors'.

use std::{
    io,
    net::SocketAddr,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use runwasi_core::bootstrap::socket;

use super::error::{ServeFailure, failed};
use crate::{
    manager::client::Client,
    metrics::{
        address::Address,
        listener::{Metrics, Opened},
    },
    replacement::{OwnFile, Replacement},
    state_dir::StateDirectory,
};

/// Time limit for a predecessor to tell its settings.
const SETTINGS_PATIENCE: Duration = Duration::from_secs(1);

/// The daemon's listening sockets.
pub(super) struct Sockets {
    /// Name of the daemon's program, for messages.
    pub(super) program: &'static str,
    /// Own sockets of the daemons that were started earlier.
    pub(super) predecessors: Vec<PathBuf>,
    /// File of the manager socket. Absent for a socket that was inherited, which stays.
    pub(super) manager_file: Option<Arc<OwnFile>>,
    pub(super) manager: UnixListener,
    pub(super) own_file: Arc<OwnFile>,
    pub(super) own: UnixListener,
}

impl Sockets {
    /// Opens all sockets, that of the metrics too, and removes the remains of daemons that were
    /// killed.
    pub(super) fn open(
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
        let own_file = own_place.rename().map_err(failed(own_path.display().to_string()))?;
        let own_file = Arc::new(own_file);
        let metrics = opened.rename().map_err(failed(format!("metrics-address {metrics}")))?;
        let manager_file = manager_place.map(Replacement::rename).transpose();
        let manager_file = manager_file.map_err(failed(manager.display().to_string()))?;
        let manager_file = manager_file.map(Arc::new);
        let manager = listener;
        Ok((Self { program, predecessors, manager_file, manager, own_file, own }, metrics))
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
