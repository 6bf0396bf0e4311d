//! The listening socket of the metrics, and its takeover from a predecessor.
//!
//! A unix socket is renamed over that of the predecessor. A TCP port is free when the predecessor
//! has retired.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use runwasi_core::{
    bootstrap::{BootstrapError, socket},
    scrape::connections::{Listen, Stream},
};
use tokio::{
    net::{TcpListener, TcpSocket, UnixListener},
    time::sleep,
};

use super::address::Address;
use crate::{
    replacement::{OwnFile, Replacement},
    state_dir::StateDirectory,
};

/// Connections that wait in the kernel.
const BACKLOG: u32 = 64;

/// Time between two attempts to bind the port of a predecessor.
const TAKEOVER_POLL: Duration = Duration::from_millis(50);

/// Attempts after which a port that stays in use is reported.
const REPORTED_ATTEMPT: u32 = 200;

/// The socket of the metrics.
pub(crate) enum Metrics {
    /// They are not served.
    Off,
    /// It listens.
    Open(Listener),
    /// A predecessor still has the port.
    InUse(SocketAddr),
}

/// The socket of the metrics, before it takes the place of a predecessor's. Ready if there is no
/// other to replace.
pub(crate) enum Opened {
    Ready(Metrics),
    Unix(Replacement, UnixListener),
}

/// A listening socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(OwnFile, UnixListener),
}

/// The metrics cannot be served at their address.
#[derive(Debug, thiserror::Error)]
#[error("metrics-address {address}: {source}")]
pub struct ListenError {
    /// The address.
    address: String,
    /// The system's error.
    source: io::Error,
}

fn failed(address: impl ToString) -> impl FnOnce(io::Error) -> ListenError {
    let address = address.to_string();
    move |source| ListenError { address, source }
}

impl Opened {
    /// Opens the socket. `is_passing` is true for a port that may be a predecessor's, which has it
    /// until it is retired.
    pub(crate) fn at(
        address: &Address,
        state: &StateDirectory,
        is_passing: impl Fn(SocketAddr) -> bool,
    ) -> Result<Self, ListenError> {
        match address {
            Address::Off => Ok(Self::Ready(Metrics::Off)),
            Address::Unix(path) => unix(path, state).map_err(failed(path.display())),
            Address::Ip(address) => match tcp(*address) {
                Ok(listener) => Ok(Self::Ready(Metrics::Open(Listener::Tcp(listener)))),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_passing(*address) => {
                    Ok(Self::Ready(Metrics::InUse(*address)))
                }
                Err(error) => Err(failed(address)(error)),
            },
        }
    }

    /// Replaces the unix socket of a predecessor.
    pub(crate) fn rename(self) -> io::Result<Metrics> {
        match self {
            Self::Ready(metrics) => Ok(metrics),
            Self::Unix(replacement, listener) => {
                Ok(Metrics::Open(Listener::Unix(replacement.rename()?, listener)))
            }
        }
    }
}

impl Metrics {
    /// The listener, once the port is free. No result if metrics are not served.
    pub(super) async fn listener(self) -> Option<Listener> {
        let address = match self {
            Self::Off => return None,
            Self::Open(listener) => return Some(listener),
            Self::InUse(address) => address,
        };
        for attempt in 1.. {
            match tcp(address) {
                Ok(listener) => return Some(Listener::Tcp(listener)),
                Err(error) if attempt == REPORTED_ATTEMPT => {
                    tracing::error!(%address, %error, "metrics are not served until the port is free");
                }
                Err(_) => {}
            }
            sleep(TAKEOVER_POLL).await;
        }
        None
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the predecessor in `TIME_WAIT` must not keep the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds a socket of mode 0600 beside `path`.
fn unix(path: &Path, state: &StateDirectory) -> io::Result<Opened> {
    if let Some(pid) = stranger(path, state) {
        let reason = format!("is served by another program (pid {pid})");
        return Err(io::Error::new(io::ErrorKind::AddrInUse, reason));
    }
    let (replacement, listener) = Replacement::bind(path, beside(path))?;
    listener.set_nonblocking(true)?;
    Ok(Opened::Unix(replacement, UnixListener::from_std(listener)?))
}

/// The process that listens at `path`, if it is no daemon of this state directory.
fn stranger(path: &Path, state: &StateDirectory) -> Option<u32> {
    let pid = socket::peer(path)?;
    (!socket::is_alive(&state.daemon_socket(pid))).then_some(pid)
}

/// A name beside `path` that no other process uses.
fn beside(path: &Path) -> PathBuf {
    // No longer than the path with a suffix of 10 characters: the kernel bounds the length.
    path.with_file_name(format!(".{}", std::process::id()))
}

#[async_trait]
impl Listen for Listener {
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(_, listener) => Box::new(listener.accept().await?.0),
        })
    }
}

impl Listener {
    /// Removes the file of the socket, unless a successor has put its own there. Blocks.
    pub(super) fn remove(&self) -> Result<(), BootstrapError> {
        match self {
            Self::Unix(file, _) => file.remove(),
            Self::Tcp(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[tokio::test]
    async fn unix_socket_is_of_mode_0600_and_goes_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::of(&directory.path().join("manager.sock"));
        let path = directory.path().join("metrics.sock");
        let address = Address::Unix(path.clone());
        let opened = Opened::at(&address, &state, |_| false).unwrap();
        let Metrics::Open(listener) = opened.rename().unwrap() else { panic!("not open") };
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        listener.remove().unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_and_sockets_of_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::of(&directory.path().join("manager.sock"));
        let open = |path: &Path| {
            let opened = Opened::at(&Address::Unix(path.to_owned()), &state, |_| true);
            opened.err().map(|error| error.to_string()).unwrap_or_default()
        };
        let file = directory.path().join("file");
        fs::write(&file, "kept").unwrap();
        assert!(open(&file).ends_with("/file: it is not a socket"), "{}", open(&file));
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        let taken = directory.path().join("taken");
        let _other = std::os::unix::net::UnixListener::bind(&taken).unwrap();
        assert!(open(&taken).contains("is served by another program (pid "), "{}", open(&taken));
        let nowhere = directory.path().join("absent/m");
        assert!(open(&nowhere).contains("No such file"), "{}", open(&nowhere));
    }

    #[tokio::test]
    async fn port_of_a_predecessor_is_waited_for_and_that_of_others_is_refused() {
        let state = StateDirectory::of(Path::new("/absent/manager.sock"));
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Ip(other.local_addr().unwrap());
        let error = Opened::at(&address, &state, |_| false).err().unwrap().to_string();
        assert!(error.starts_with(&format!("metrics-address {address}: ")), "{error}");
        let metrics = Opened::at(&address, &state, |port| Address::Ip(port) == address)
            .unwrap()
            .rename()
            .unwrap();
        assert!(matches!(metrics, Metrics::InUse(_)));
        let waiting = metrics.listener();
        drop(other);
        let found = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
        assert!(matches!(found, Some(Listener::Tcp(_))));
    }
}
