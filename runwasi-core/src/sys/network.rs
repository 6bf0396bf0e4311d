//! Network namespaces and their loopback device.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    thread::{UnshareFlags, unshare_unsafe},
};

/// Gives the calling thread a new network namespace (`unshare(2)`). Its later threads inherit it.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: only the network namespace changes: no file descriptors, no memory, no identity.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Brings up `lo` in the calling thread's network namespace (`netdevice(7)`).
pub fn set_loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data, for which zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    let call = |request: &mut libc::ifreq, code| {
        // SAFETY: both requests take one live `ifreq`, and the socket is open.
        match unsafe { libc::ioctl(socket.as_raw_fd(), code, request) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    };
    // Read first, because the second request replaces all flags.
    call(&mut request, libc::SIOCGIFFLAGS)?;
    // SAFETY: SIOCGIFFLAGS has just filled this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    call(&mut request, libc::SIOCSIFFLAGS)
}

/// True if `fd` is a file of `/proc/<pid>/ns` for a network namespace.
pub fn is_network_namespace(fd: impl AsFd) -> io::Result<bool> {
    // Another file system could give the request below another meaning.
    if rustix::fs::fstatfs(&fd)?.f_type != libc::NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: this request takes no argument, and the file system understands it.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind == libc::CLONE_NEWNET),
    }
}
