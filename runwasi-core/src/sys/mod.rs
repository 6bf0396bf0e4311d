//! The few raw system calls that no crate of ours wraps. What is unsafe of this crate is here.

pub mod credentials;
pub(crate) mod terminal;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::Path,
    process::Command,
    time::Duration,
};

use rustix::{
    fs::{Mode, OFlags},
    mount::MountAttrFlags,
    net::{AddressFamily, SocketFlags, SocketType, socket_with},
    process::Pid,
    thread::{UnshareFlags, unshare_unsafe},
    time::{ClockId, clock_gettime},
};

use tokio::io::unix::AsyncFd;

use self::credentials::Credentials;

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // The kernel's answer is never negative and its nanoseconds are below one second.
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Gives the calling thread a umask of its own (and root and working directories, which nobody here changes).
pub(crate) fn unshare_file_attributes() -> io::Result<()> {
    // SAFETY: no code of this process relies on threads sharing a working directory.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// Gives the calling thread a mount namespace of its own (`unshare(2)`): a copy of the one it is in.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only the mount namespace changes: no file descriptors, no memory, no identity.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Runs `work` with another working directory, which only the calling thread has meanwhile.
pub(crate) fn in_directory<T>(
    directory: &Path,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    unshare_file_attributes()?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let before = rustix::fs::open(".", flags, Mode::empty())?;
    rustix::process::chdir(directory)?;
    let result = work();
    rustix::process::fchdir(before)?;
    result
}

/// A system call that the kernel, or a filter, refuses.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct RefusedCall {
    call: &'static str,
    source: io::Error,
}

fn refused(call: &'static str) -> RefusedCall {
    RefusedCall { call, source: io::Error::last_os_error() }
}

/// Sets as whom the calling thread opens files. By raw calls: libc's `setgroups` changes all threads. Root's privilege to do so is
/// kept by every identity, since only the *filesystem* ids change.
pub(crate) fn set_file_credentials(credentials: &Credentials) {
    let set = switch_file_credentials(credentials);
    // Tried before any guest: only root's processes have identities at all. A guest with another's would be an escape.
    if let Err(error) = set {
        panic!("{error}");
    }
}

/// Makes the calls of [`unshare_file_attributes`] and [`set_file_credentials`] with the ids that the calling thread has already.
pub(crate) fn try_file_credentials() -> Result<(), RefusedCall> {
    unshare_file_attributes()
        .map_err(|source| RefusedCall { call: "unshare(CLONE_FS)", source })?;
    let groups = rustix::process::getgroups()
        .map_err(|error| RefusedCall { call: "getgroups", source: error.into() })?;
    // SAFETY: neither call takes a pointer; an invalid id changes nothing and is answered with the one that is set.
    let (gid, uid) =
        unsafe { (libc::syscall(libc::SYS_setfsgid, -1), libc::syscall(libc::SYS_setfsuid, -1)) };
    let own = |id: libc::c_long, call| u32::try_from(id).map_err(|_| refused(call));
    let credentials = Credentials {
        uid: own(uid, "setfsuid")?,
        gid: own(gid, "setfsgid")?,
        groups: groups.into_iter().map(|group| group.as_raw()).collect(),
        umask: current_umask(),
    };
    switch_file_credentials(&credentials)
}

fn current_umask() -> u32 {
    let current = rustix::process::umask(rustix::fs::Mode::empty());
    // It cannot be read without being set.
    rustix::process::umask(current);
    current.bits()
}

fn switch_file_credentials(credentials: &Credentials) -> Result<(), RefusedCall> {
    let Credentials { uid, gid, groups, umask } = credentials;
    // SAFETY: the pointer and the length are those of one slice.
    if unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } != 0 {
        return Err(refused("setgroups"));
    }
    // SAFETY: none of these calls takes a pointer.
    let [gid_now, uid_now] = unsafe {
        libc::syscall(libc::SYS_setfsgid, *gid);
        libc::syscall(libc::SYS_setfsuid, *uid);
        libc::syscall(libc::SYS_umask, *umask);
        // Neither of the first two reports a failure; a second call tells what is set.
        [libc::syscall(libc::SYS_setfsgid, -1), libc::syscall(libc::SYS_setfsuid, -1)]
    };
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    if gid_now != i64::from(*gid) {
        return Err(RefusedCall { call: "setfsgid", source: denied() });
    }
    if uid_now != i64::from(*uid) {
        return Err(RefusedCall { call: "setfsuid", source: denied() });
    }
    Ok(())
}

/// The kernel's release (`uname(2)`). By libc: rustix has it behind a feature of its own, with which wasmtime is compiled anew.
pub(crate) fn kernel_release() -> String {
    // SAFETY: `utsname` is plain data, for which zeroes are valid.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: one live `utsname` that the kernel fills; on failure it stays empty.
    unsafe { libc::uname(&raw mut names) };
    let release =
        names.release.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0);
    String::from_utf8_lossy(&release.collect::<Vec<u8>>()).into_owned()
}

/// Ends the process at once, without unwinding and without a core dump (`_exit(2)`).
pub(crate) fn end_process(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return; buffers that are not written out are lost.
    unsafe { libc::_exit(status) }
}

/// Sleeps on the calling thread: for programs without a runtime and for the blocking pool, never on a runtime's worker.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place for threads that have nothing else to do"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
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
    Ok(match fork_with_pid()? {
        Some(_) => Fork::Parent,
        None => Fork::Child,
    })
}

/// The same; the parent is told the child's pid.
pub fn fork_with_pid() -> io::Result<Option<Pid>> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot be forked"));
    }
    // SAFETY: this is the only thread, so the child misses none, and no lock is held by one that it misses.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Has `command` start a process that is nobody's child: whoever collects the system's orphans waits for its end. To be said before
/// anything else that is to happen between fork and exec: who has asked to be told of forks, as wasmtime has to open its `pagemap`
/// anew, may put a file in the place of one that was arranged before this fork.
pub(crate) fn orphan(command: &mut Command) {
    let fork_again = || {
        // SAFETY: the process is the new one, of one thread, on its way to `execve`. Neither of the two that go on from here does
        // anything but that or `_exit`.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            // SAFETY: the one in between has nothing to clean up.
            _ => unsafe { libc::_exit(0) },
        }
    };
    // SAFETY: see above; the closure allocates nothing.
    unsafe { command.pre_exec(fork_again) };
}

/// Has the current Tokio runtime watch a file that can be watched: a terminal, a pipe, a socket.
pub(crate) fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its file descriptor, and nobody replaces or closes it in there.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// Gives the calling thread a new network namespace (`unshare(2)`); threads it starts later inherit it.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: only the network namespace changes: no file descriptors, no memory, no identity.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Switches `lo` on in the calling thread's network namespace (`netdevice(7)`).
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
    call(&mut request, libc::SIOCGIFFLAGS)?;
    // SAFETY: SIOCGIFFLAGS has just filled this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    call(&mut request, libc::SIOCSIFFLAGS)
}

/// Returns memory that was freed to the system (`malloc_trim(3)`): an allocator keeps it, and a node that has stopped a thousand
/// guests would go on holding what they had. Takes milliseconds. Does nothing where the allocator is not glibc's.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and glibc's allocator may be trimmed at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
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
    let attr = MountAttr {
        attr_set: u64::from(set.bits()),
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
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

/// Reads a regular file of at most `limit` bytes, without waiting for the writer of a FIFO.
pub fn read_regular(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    // The limit holds for the bytes read, not for the size by `stat`: the file may grow, and in /proc
    // all sizes are 0.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let reason = format!("larger than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Takes a file descriptor that this process was given by number: an argument, or systemd's. Refused if it is not open.
pub fn adopt_fd(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a standard stream"));
    }
    // SAFETY: only asks for its flags; a number that is no open fd is answered with EBADF.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and whoever gave us the number gave it to us alone.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}
