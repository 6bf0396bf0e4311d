//! Namespaces of the calling thread: network, IPC and UTS.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::{
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe},
};

/// Kind of a namespace that a sandbox may have for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceKind {
    /// Network devices, addresses and ports.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
}

impl NamespaceKind {
    /// Name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
        }
    }

    /// Path of the calling thread's namespace.
    pub(crate) fn own(self) -> &'static str {
        match self {
            Self::Network => "/proc/thread-self/ns/net",
            Self::Ipc => "/proc/thread-self/ns/ipc",
            Self::Uts => "/proc/thread-self/ns/uts",
        }
    }

    fn flag(self) -> libc::c_int {
        match self {
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
        }
    }
}

/// Gives the calling thread new namespaces (`unshare(2)`). Its later threads inherit them.
pub(crate) fn unshare_namespaces(kinds: &[NamespaceKind]) -> io::Result<()> {
    let flags = kinds.iter().map(|kind| match kind {
        NamespaceKind::Network => UnshareFlags::NEWNET,
        NamespaceKind::Ipc => UnshareFlags::NEWIPC,
        NamespaceKind::Uts => UnshareFlags::NEWUTS,
    });
    // SAFETY: only these namespaces change: no file descriptors, no memory, no identity.
    Ok(unsafe { unshare_unsafe(flags.collect()) }?)
}

/// Moves the calling thread into a namespace (`setns(2)`). `fd` is a file of `/proc/<pid>/ns`, or
/// the pidfd of a process in it.
pub(crate) fn enter_namespace(fd: impl AsFd, kind: NamespaceKind) -> io::Result<()> {
    let kind = match kind {
        NamespaceKind::Network => LinkNameSpaceType::Network,
        NamespaceKind::Ipc => LinkNameSpaceType::InterProcessCommunication,
        NamespaceKind::Uts => LinkNameSpaceType::HostNameAndNISDomainName,
    };
    Ok(move_into_link_name_space(fd.as_fd(), Some(kind))?)
}

/// True if the ids of this process are not those of the kernel: in a user namespace.
pub(crate) fn in_user_namespace() -> bool {
    // Without the file the kernel has no user namespaces.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !has_all_ids(&map))
}

/// True for the map of the first user namespace.
fn has_all_ids(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
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

/// Sets the host name in the calling thread's UTS namespace.
// By libc: rustix has it behind a feature of its own, with which wasmtime would be compiled anew.
pub(crate) fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of a live string, which the kernel only reads.
    match unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// True if `fd` is a file of `/proc/<pid>/ns` for a namespace of this kind.
pub(crate) fn is_namespace(fd: impl AsFd, kind: NamespaceKind) -> io::Result<bool> {
    // Another file system could give the request below another meaning.
    if rustix::fs::fstatfs(&fd)?.f_type != libc::NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: this request takes no argument, and the file system understands it.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) } {
        -1 => Err(io::Error::last_os_error()),
        found => Ok(found == kind.flag()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespace_has_some_ids_only() {
        assert!(has_all_ids("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 0 65536\n", "0 1000 1\n1 100000 65536\n"] {
            assert!(!has_all_ids(map), "{map:?}");
        }
    }
}
