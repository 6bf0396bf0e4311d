//! The socket on which systemd takes the state of a service: `NOTIFY_SOCKET` of `sd_notify(3)`.
//!
//! Sent here and not by `sd_notify`, which takes an abstract socket for a file
//! (`findings/sd-notify-cannot-find-abstract-sockets.sh`). Managers in a container of their own have
//! one.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;

const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Sends a state to systemd. Succeeds without `NOTIFY_SOCKET`. An error names the socket.
pub(crate) fn notify(state: NotifyState) -> io::Result<()> {
    let Some(socket) = env::var_os(NOTIFY_SOCKET) else { return Ok(()) };
    send(&socket, &state.to_string()).map_err(|error| {
        io::Error::new(error.kind(), format!("{NOTIFY_SOCKET}={}: {error}", socket.display()))
    })
}

fn send(socket: &OsStr, line: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(line.as_bytes(), &address(socket)?).map(drop)
}

/// A path, or `@` and the name of an abstract socket.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => {
            let message = "neither an absolute path nor `@` and the name of an abstract socket";
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut line = [0; 64];
        let length = socket.recv(&mut line).unwrap();
        String::from_utf8(line[..length].to_vec()).unwrap()
    }

    #[test]
    fn state_reaches_a_socket_with_a_path_and_an_abstract_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("@runwasi-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let with_path = UnixDatagram::bind(&path).unwrap();
        let without = UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (socket, at) in [(with_path, path.as_os_str()), (without, name.as_ref())] {
            send(at, &NotifyState::Ready.to_string()).unwrap();
            assert_eq!(received(&socket), "READY=1");
        }
    }

    #[test]
    fn other_kinds_of_sockets_are_refused() {
        for socket in ["vsock:2:1234", "notify", ""] {
            let error = send(socket.as_ref(), "READY=1").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{socket:?}");
        }
    }
}
