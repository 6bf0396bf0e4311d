//! The few raw system calls that no crate of ours wraps. What is unsafe of this crate is here, but for entering a new
//! network namespace (`bootstrap::serve`).

use std::{
    fs, io,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use rustix::{
    mount::MountAttrFlags,
    time::{ClockId, clock_gettime},
};

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // The kernel's answer is never negative and its nanoseconds are below one second.
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Which of two processes this is after a [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The one that was there before.
    Parent,
    /// The new one.
    Child,
}

/// `fork(2)`, refused when the process has more than one thread.
pub fn fork() -> io::Result<Fork> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot be forked"));
    }
    // SAFETY: this is the only thread, so the child misses none, and no lock is held by one that it misses.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        _ => Ok(Fork::Parent),
    }
}

/// Whether `fd` is a file of `/proc/<pid>/ns` for a network namespace.
pub fn is_network_namespace(fd: impl AsFd) -> io::Result<bool> {
    if rustix::fs::fstatfs(&fd)?.f_type != libc::NSFS_MAGIC {
        return Ok(false);
    }
    // SAFETY: this request takes no argument, and the file system understands it.
    match unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::NS_GET_NSTYPE) } {
        -1 => Err(io::Error::last_os_error()),
        kind => Ok(kind == libc::CLONE_NEWNET),
    }
}

/// Whether nobody has the reading end of the pipe open whose writing end is `fd` (`poll(2)`: `POLLERR`).
pub fn has_no_reader(fd: impl AsFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one live `pollfd`, as the count says, with a borrowed fd; a timeout of 0 returns at once.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLERR != 0
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// What a guest's mount may not do.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountRestriction {
    /// Refuse writes.
    pub read_only: bool,
    /// Restrict the mounts below, too.
    pub recursive: bool,
}

/// Sets `nodev`, `nosuid`, private propagation and, if asked, `ro` on the mount behind `fd` (`mount_setattr(2)`, Linux 5.12).
pub fn restrict_mount(fd: impl AsFd, restriction: MountRestriction) -> io::Result<()> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, restriction.read_only);
    // Private: what the host mounts below a volume later is not the guest's.
    let attr = MountAttr { attr_set: u64::from(set.bits()), propagation: libc::MS_PRIVATE, ..MountAttr::default() };
    let flags = libc::AT_EMPTY_PATH | if restriction.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, `attr` is a live `mount_attr` whose size is passed, and the fd is
    // borrowed for the call; the kernel writes to none of them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
