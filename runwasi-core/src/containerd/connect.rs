//! Connections to ttrpc servers at unix sockets, without blocking a thread.
//!
//! ttrpc's own clients call a blocking `connect(2)`, which waits while the backlog of the listener
//! is full: for ever at a process that is frozen, and with it all tasks of the thread.

use std::{io, time::Duration};

use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

/// Time between two tries to connect to a full backlog.
// The kernel does not tell a client that the backlog has room again.
const BACKLOG_POLL: Duration = Duration::from_millis(10);

/// Connects to `address`, a path with or without `unix://`. An error of the kind `WouldBlock` tells
/// that the backlog of the listener is full.
pub(super) async fn connect(address: &str) -> io::Result<UnixStream> {
    let path = address.strip_prefix("unix://").unwrap_or(address);
    match path.strip_prefix('@') {
        // The form in which shims name abstract sockets.
        Some(name) => UnixStream::connect(format!("\0{name}")).await,
        None => UnixStream::connect(path).await,
    }
}

/// Connects. Waits for at most `patience` while the backlog of the listener is full.
pub(super) async fn connect_within(address: &str, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience;
    loop {
        match connect(address).await {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                sleep(BACKLOG_POLL).await;
            }
            connected => return connected,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        time::{Duration, SystemTime},
    };

    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    use tokio::time::timeout;

    use super::*;
    use crate::{
        containerd::{events::EventForwarder, shim_client::ShimAddress},
        containerd::{shim_client::ShimClient, task_client::TaskClient},
        events::{Event, Forward, ForwardError},
        id::Id,
    };

    /// Longest time of what must not wait.
    const LIMIT: Duration = Duration::from_secs(30);

    /// A listener that accepts nothing, with clients that fill its backlog.
    struct Full {
        listener: std::os::unix::net::UnixListener,
        clients: Vec<UnixStream>,
    }

    impl Full {
        async fn at(path: &Path) -> Self {
            let socket = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
            bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
            listen(&socket, 0).unwrap();
            let mut clients = Vec::new();
            loop {
                match UnixStream::connect(path).await {
                    Ok(client) => clients.push(client),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            Self { listener: socket.into(), clients }
        }
    }

    #[tokio::test]
    async fn full_backlog_is_an_error_and_blocks_no_task() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let full = Full::at(&path).await;
        let address = format!("unix://{}", path.display());
        let error = timeout(LIMIT, connect(&address)).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);

        let id = Id::parse("id", "c").unwrap();
        let mut forwarder = EventForwarder::new(&address);
        let event = Event::Paused { container: id.clone() };
        let forwarded = forwarder.forward(&id, &event, SystemTime::now());
        let error = timeout(LIMIT, forwarded).await.unwrap().unwrap_err();
        assert!(matches!(error, ForwardError::Unreachable { .. }), "{error}");

        let short = Duration::from_millis(50);
        let error = timeout(LIMIT, TaskClient::connect(&address, short)).await.unwrap().err();
        assert_eq!(error.map(|error| error.code).as_deref(), Some("TRANSPORT"));

        // The delegate's shim has longer: other tasks of this thread go on, the timer among them.
        let shim = ShimAddress { address, version: 3 };
        assert!(timeout(short, ShimClient::connect(&shim, &id)).await.is_err());
        drop(full);
    }

    #[tokio::test]
    async fn full_backlog_is_waited_for_until_it_has_room() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let full = Full::at(&path).await;
        let address = path.display().to_string();
        let accept = async {
            sleep(BACKLOG_POLL).await;
            full.clients.iter().for_each(|_| drop(full.listener.accept().unwrap()));
        };
        let (connected, ()) = tokio::join!(connect_within(&address, LIMIT), accept);
        connected.unwrap();
    }
}
