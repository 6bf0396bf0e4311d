//! Raw system calls without a safe wrapper in our dependencies. All unsafe code of this crate is
//! here.

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
    // The kernel's values are never negative, and the nanoseconds are below one second.
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Gives the calling thread its own umask, root directory and working directory (`unshare(2)`).
pub(crate) fn unshare_file_attributes() -> io::Result<()> {
    // SAFETY: no code of this process relies on a working directory that threads share.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
}

/// Gives the calling thread its own mount namespace (`unshare(2)`), a copy of its present one.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only the mount namespace changes: no file descriptors, no memory, no identity.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// Runs `work` in another working directory. Other threads keep theirs.
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

/// A system call that the kernel or a filter refuses.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct RefusedCall {
    call: &'static str,
    source: io::Error,
}

fn refused(call: &'static str) -> RefusedCall {
    RefusedCall { call, source: io::Error::last_os_error() }
}

/// Sets the credentials with which the calling thread opens files.
pub(crate) fn set_file_credentials(credentials: &Credentials) {
    let set = switch_file_credentials(credentials);
    // The calls were tried before any guest, and only processes of root use credentials at all. A
    // guest with the credentials of another one would be an escape.
    if let Err(error) = set {
        panic!("{error}");
    }
}

/// Tries the calls of [`unshare_file_attributes`] and [`set_file_credentials`] with the present ids
/// of the calling thread.
pub(crate) fn try_file_credentials() -> Result<(), RefusedCall> {
    unshare_file_attributes()
        .map_err(|source| RefusedCall { call: "unshare(CLONE_FS)", source })?;
    let groups = rustix::process::getgroups()
        .map_err(|error| RefusedCall { call: "getgroups", source: error.into() })?;
    // SAFETY: the call takes no pointer. An invalid id changes nothing; the result is the present
    // id.
    let gid = unsafe { libc::syscall(libc::SYS_setfsgid, -1) };
    // SAFETY: as above.
    let uid = unsafe { libc::syscall(libc::SYS_setfsuid, -1) };
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
    // `umask(2)` reads the mask only by setting it.
    rustix::process::umask(current);
    current.bits()
}

fn switch_file_credentials(credentials: &Credentials) -> Result<(), RefusedCall> {
    let Credentials { uid, gid, groups, umask } = credentials;
    // Raw calls act on this thread only; libc's `setgroups` changes all threads. Only the
    // *filesystem* ids change, so the thread keeps root's privilege to switch again. SAFETY: the
    // pointer and the length are those of one slice.
    if unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) } != 0 {
        return Err(refused("setgroups"));
    }
    // SAFETY: all of these calls take integers only.
    let [gid_now, uid_now] = unsafe {
        libc::syscall(libc::SYS_setfsgid, *gid);
        libc::syscall(libc::SYS_setfsuid, *uid);
        libc::syscall(libc::SYS_umask, *umask);
        // The first two calls report no failure; an invalid id reads the present one.
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

/// The kernel's release (`uname(2)`).
pub(crate) fn kernel_release() -> String {
    // By libc: rustix has it behind a feature of its own, with which wasmtime would be compiled
    // anew. SAFETY: `utsname` is plain data, for which zeroes are valid.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills one live `utsname`; after a failure it stays empty.
    unsafe { libc::uname(&raw mut names) };
    let release =
        names.release.iter().map(|&byte| byte.cast_unsigned()).take_while(|&byte| byte != 0);
    String::from_utf8_lossy(&release.collect::<Vec<u8>>()).into_owned()
}

/// Ends the process at once, without unwinding and without a core dump (`_exit(2)`).
pub(crate) fn end_process(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return. Buffers that are not flushed are lost.
    unsafe { libc::_exit(status) }
}

/// Sleeps on the calling thread, for programs without a runtime and for the blocking pool. It must
/// not run on a worker of a runtime.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place for threads that have nothing else to do"
)]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Identity of the calling process after a [`fork`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// The process that called `fork`.
    Parent,
    /// The new process.
    Child,
}

/// Calls `fork(2)`. Fails if the process has more than one thread.
pub fn fork() -> io::Result<Fork> {
    Ok(match fork_with_pid()? {
        Some(_) => Fork::Parent,
        None => Fork::Child,
    })
}

/// Does the same as [`fork`], and returns the child's pid to the parent.
pub fn fork_with_pid() -> io::Result<Option<Pid>> {
    if fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with several threads cannot be forked"));
    }
    // SAFETY: this is the only thread, so the child lacks no thread, and no lock stays held by one.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}

/// Lets `command` start a process that is not a child of this one: the system's reaper of orphans
/// waits for its end. Must be called before any other `pre_exec` of the command.
// A fork runs fork handlers: wasmtime's reopens its `pagemap`. Such a handler may put a file in the
// place of a descriptor that was arranged before this second fork.
pub(crate) fn orphan(command: &mut Command) {
    let fork_again = || {
        // SAFETY: this is the new process, with one thread, on its way to `execve`. Both processes
        // from here on do nothing but that or `_exit`.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            // SAFETY: the intermediate process has nothing to clean up.
            _ => unsafe { libc::_exit(0) },
        }
    };
    // SAFETY: see above; the closure allocates nothing.
    unsafe { command.pre_exec(fork_again) };
}

/// Registers a pollable file (terminal, pipe or socket) with the current Tokio runtime.
pub(crate) fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its file descriptor, and no code replaces or closes it in the
    // `AsyncFd`.
    Ok(unsafe { AsyncFd::register(file) }?)
}

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

/// Returns freed memory to the system (`malloc_trim(3)`). Takes milliseconds. Does nothing with
/// another allocator than glibc's.
// The allocator keeps freed memory: a node that has stopped a thousand guests would still hold
// theirs.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes no pointer, and glibc's allocator may be trimmed at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
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

/// True if no process has the reading end of a pipe open. `fd` is its writing end.
pub fn has_no_reader(fd: impl AsFd) -> bool {
    let mut poll = libc::pollfd { fd: fd.as_fd().as_raw_fd(), events: 0, revents: 0 };
    // SAFETY: `poll` is one live `pollfd`, as the count says, with a borrowed fd. A timeout of 0
    // returns at once.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    // `poll(2)` reports a missing reader as `POLLERR`, even without requested events.
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

/// Restriction of a guest's mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountRestriction {
    /// Refuse writes.
    pub read_only: bool,
    /// Restrict the mounts below, too.
    pub recursive: bool,
}

/// Sets `nodev`, `nosuid`, private propagation and, on request, `ro` on the mount behind `fd`
/// (`mount_setattr(2)`, Linux 5.12).
pub fn restrict_mount(fd: impl AsFd, restriction: MountRestriction) -> io::Result<()> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, restriction.read_only);
    // Private, so that later mounts of the host below a volume do not reach the guest.
    let attr = MountAttr {
        attr_set: u64::from(set.bits()),
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    let flags = libc::AT_EMPTY_PATH | if restriction.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, `attr` is a live `mount_attr` of the passed size,
    // and the fd is borrowed for the call. The kernel writes to neither the path nor `attr`.
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

/// Takes ownership of a file descriptor that this process got by number, in an argument or from
/// systemd. Fails if it is not open.
pub fn adopt_fd(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a standard stream"));
    }
    // SAFETY: only reads its flags. The result for a number that is no open fd is EBADF.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the number was passed to this caller alone.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // It came over an exec without this flag; no child of ours is to inherit it.
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}
