//! Unix sockets that never wait for the other end.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    sockopt::socket_peercred,
};

/// A socket to connect.
pub(crate) fn unconnected_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Pid of the process that has called `listen` on the socket at `path`.
pub(crate) fn socket_peer(path: &Path) -> Option<u32> {
    let socket = unconnected_socket().ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    Some(socket_peercred(&socket).ok()?.pid.as_raw_nonzero().get().cast_unsigned())
}
