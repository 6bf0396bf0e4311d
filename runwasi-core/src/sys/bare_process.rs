//! An OS process that shares the memory and files of this one and only waits for signals.
//!
//! It is made by `clone(2)` with `CLONE_VM | CLONE_FILES`: a process of its own, with pid and
//! namespaces, that costs a few KiB in the kernel and a word in this process. `clone3(2)` would
//! also clear the signal handlers, but systemd's `RestrictNamespaces=` refuses it.
//!
//! ```text
//! clone ─▶ die with the parent ─▶ session ─▶ empty root ─▶ ready
//!   ─▶ wait for a signal ─▶ store it ─▶ stop
//!         ▲                              │
//!         └────── SIGCONT of ours ◀──────┘
//! ```
//!
//! Clients take `/proc/<pid>/root` for the files of a container: `nerdctl cp` reads and writes
//! there. It is an empty directory that refuses writes. Until the process is ready ([`Starting`]),
//! it is the root of the host, so no client gets the pid before.
//!
//! The wait for its end finds the stop, too, so a signal is reported without a descriptor or a
//! pipe.
//!
//! Why this is sound, although the process shares memory without being a thread of Rust:
//!
//! - It executes nothing but the instructions of one `asm!` block, which it never leaves. They use
//!   registers and system calls, no stack, no thread-local data and no libc.
//! - It writes two words, [`Shared`], which are freed after the process has been reaped.
//! - It runs no signal handler: all signals are blocked before the clone, and the process inherits
//!   that mask. Blocked signals neither end it nor dump core. Before Linux 5.16, a core dump of
//!   one process ended all that share its memory.
//! - Its exit signal is none instead of SIGCHLD, so no `wait` without `__WCLONE` sees it.

use std::{
    arch::asm,
    ffi::CStr,
    io,
    mem::{ManuallyDrop, offset_of},
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    process,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    },
    thread::futex,
    time::Timespec,
};

use crate::lock::{Mutex, get_or_start};

/// A process started by [`BareProcess::start`]. Dropping it leaves the process as it is.
#[derive(Debug)]
pub(crate) struct BareProcess {
    pid: u32,
    /// Dropped by [`BareProcess::reap`]. Without it the words leak.
    shared: ManuallyDrop<Arc<Shared>>,
}

/// Start of a process, which makes its root an empty one.
pub(crate) struct Starting(Arc<Shared>);

impl Starting {
    /// Waits until the process is ready or has ended. False if it is neither within the limit.
    /// Blocks for the first turn that the kernel gives to the process.
    pub(crate) fn wait(&self, limit: Duration, has_ended: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + limit;
        while self.0.is_ready.load(Ordering::Acquire) == 0 {
            if has_ended() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            // An error: it has become ready meanwhile, or has to be looked at again.
            let _ = futex::wait(&self.0.is_ready, futex::Flags::PRIVATE, 0, Some(&LOOK));
        }
        true
    }
}

/// Time between two looks for the end of a process that starts.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Memory that the process writes.
#[derive(Debug, Default)]
#[repr(C)]
struct Shared {
    /// Low byte: the signal that it has received, until [`BareProcess::take_signal`]; 0 for none.
    /// With [`STOPPING`] from then on until it waits for the next.
    signal: AtomicU32,
    /// 1 once the process has its root. A futex of this process.
    is_ready: AtomicU32,
}

/// Bit of a process that stops by itself. The parent continues it whenever it finds it so.
// Without it, a SIGCONT of another process between the stop and its report would leave the process
// in a second stop without a signal, which looks like a SIGSTOP from outside.
const STOPPING: u32 = 0x100;

/// Change of a process that [`next_change`] reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has stopped, to report a signal or by SIGSTOP. To be taken by
    /// [`BareProcess::take_signal`].
    Stopped(u32),
    /// It has ended. To be taken by [`BareProcess::reap`].
    Ended(u32),
}

/// Name of the process in `ps -o comm`.
const NAME: &CStr = c"sandbox";

/// The working directory, for the kernel.
const HERE: &CStr = c".";

/// The root of all of these processes, once there is one: a detached mount, which no path leads to.
static EMPTY_ROOT: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// A signal mask of the kernel with all signals.
const ALL: u64 = u64::MAX;

/// Signals that the process waits for.
// Without SIGCONT, whose effect does not need it. Ours would be reported like another signal.
static AWAITED: u64 = ALL & !(1 << (libc::SIGCONT - 1));

/// Operation of `futex(2)` that wakes those who wait.
const WAKE: libc::c_int = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;

/// Size of a signal mask of the kernel.
const MASK_SIZE: usize = size_of::<u64>();

impl BareProcess {
    /// Starts a process in the namespaces of the calling thread. It gets SIGKILL when this thread
    /// ends.
    pub(crate) fn start() -> io::Result<Self> {
        let root = get_or_start(&mut EMPTY_ROOT.lock(), empty_root).map(|root| root.as_raw_fd())?;
        let shared = ManuallyDrop::new(Arc::<Shared>::default());
        let before = block_signals()?;
        // SAFETY: all signals are blocked, and the words live until the process has been reaped.
        let result = unsafe { clone_bare(Arc::as_ptr(&shared).cast_mut(), root) };
        set_signal_mask(before)?;
        match u32::try_from(result) {
            Ok(pid) => Ok(Self { pid, shared }),
            Err(_) => {
                // No process has got it.
                drop(ManuallyDrop::into_inner(shared));
                // A negative result is the number of the error.
                Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO)))
            }
        }
    }

    pub(crate) fn starting(&self) -> Starting {
        Starting(Arc::clone(&self.shared))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends SIGKILL. [`next_change`] reports the end.
    pub(crate) fn kill(&self) {
        self.send(libc::SIGKILL);
    }

    /// Takes the signal of a process that has stopped to report it, and lets the process go on.
    /// Returns nothing for one that was stopped by SIGSTOP, which stays so.
    pub(crate) fn take_signal(&self) -> Option<u32> {
        // Reported once: without this the next wait would find the same stop. An error: it has been
        // killed or continued meanwhile.
        let _ = wait(libc::P_PID, self.pid, libc::WSTOPPED | libc::WNOHANG);
        let before = self.shared.signal.fetch_and(STOPPING, Ordering::AcqRel);
        if before & STOPPING != 0 {
            self.send(libc::SIGCONT);
        }
        Some(before & !STOPPING).filter(|signal| *signal != 0)
    }

    /// Takes the end of the process and frees its memory.
    pub(crate) fn reap(self) -> io::Result<()> {
        wait(libc::P_PID, self.pid, libc::WEXITED)?;
        drop(ManuallyDrop::into_inner(self.shared));
        Ok(())
    }

    fn send(&self, signal: libc::c_int) {
        // SAFETY: takes no pointer. The process is a child that was not reaped, so the number is
        // no other process's. It may have ended, for which the call changes nothing.
        unsafe { libc::kill(self.pid.cast_signed(), signal) };
    }
}

/// Makes an empty directory that refuses writes.
fn empty_root() -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // One inode: that of the directory.
    for (key, value) in [("source", "sandbox"), ("nr_inodes", "1"), ("mode", "555")] {
        fsconfig_set_string(context.as_fd(), key, value)?;
    }
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Waits until a process changes, and leaves the change to be taken. Returns nothing if there is no
/// process.
pub(crate) fn next_change() -> io::Result<Option<Change>> {
    let changes = libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
    let info = match wait(libc::P_ALL, 0, changes) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
        info => info?,
    };
    // SAFETY: the kernel has filled this member for a wait.
    let pid = unsafe { info.si_pid() }.cast_unsigned();
    match info.si_code {
        libc::CLD_STOPPED => Ok(Some(Change::Stopped(pid))),
        _ => Ok(Some(Change::Ended(pid))),
    }
}

/// Calls `waitid(2)` for the processes of [`BareProcess::start`] alone.
fn wait(kind: libc::idtype_t, id: u32, options: libc::c_int) -> io::Result<libc::siginfo_t> {
    // SAFETY: `siginfo_t` is plain data, for which zeroes are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is live.
        if unsafe { libc::waitid(kind, id, &raw mut info, options | libc::__WCLONE) } == 0 {
            return Ok(info);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Blocks all signals of the calling thread and returns the mask before. Allocates nothing.
pub(super) fn block_signals() -> io::Result<u64> {
    set_signal_mask(ALL)
}

/// Replaces the signal mask of the calling thread and returns the mask before.
// By the system call: libc's function leaves out the two signals that it uses itself.
pub(super) fn set_signal_mask(mask: u64) -> io::Result<u64> {
    let mut before = 0_u64;
    // SAFETY: both masks are live and of the passed size.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            &raw mut before,
            MASK_SIZE,
        )
    };
    if result == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
}

const CLONE_FLAGS: libc::c_int = libc::CLONE_VM | libc::CLONE_FILES;

/// Starts the process, whose root is the directory `root`, and returns its pid, or the negative
/// number of an error.
///
/// # Safety
/// All signals of the calling thread are blocked, and `shared` is valid until the process has been
/// reaped.
#[cfg(target_arch = "x86_64")]
unsafe fn clone_bare(shared: *mut Shared, root: RawFd) -> isize {
    let result: isize;
    // SAFETY: the caller keeps `shared`. The parent returns from the block behind the first system
    // call, with the registers that are named here. The child keeps the stack pointer of its parent
    // (a stack of 0), but uses no stack, and never leaves the block.
    unsafe {
        asm!(
            "syscall", // clone(flags, 0): the other arguments belong to flags that are not set
            "test rax, rax",
            "jnz 5f",
            // The child from here on. Dies with its parent.
            "mov eax, {prctl}; mov edi, {set_pdeathsig}; mov esi, {sigkill}; syscall",
            "test rax, rax; jnz 4f",
            // Checked after that: a parent that has died before it sends no signal.
            "mov eax, {getppid}; syscall",
            "cmp rax, r13; jne 4f",
            // A session of its own: no signals of the parent's terminal or process group.
            "mov eax, {setsid}; syscall",
            // The kernel keeps r8 and r9.
            "mov eax, {fchdir}; mov edi, r8d; syscall",
            "test rax, rax; jnz 4f",
            "mov eax, {chroot}; mov rdi, r9; syscall",
            "test rax, rax; jnz 4f",
            "mov eax, {prctl}; mov edi, {set_name}; mov rsi, r15; syscall",
            "mov eax, {getpid}; syscall",
            "mov r13, rax",
            "mov dword ptr [r12 + {is_ready}], 1",
            "mov eax, {futex}; lea rdi, [r12 + {is_ready}]; mov esi, {wake}; mov edx, 1; syscall",
            "2:",
            "mov eax, {rt_sigtimedwait}",
            "mov rdi, r14",
            "xor esi, esi",
            "xor edx, edx",
            "mov r10d, {mask_size}",
            "syscall",
            "test eax, eax",
            "jle 2b",
            // Stops until the parent has taken the signal. Again, if a SIGCONT of another process
            // was faster.
            "or eax, {stopping}",
            "mov dword ptr [r12], eax",
            "3:",
            "mov eax, {kill}",
            "mov rdi, r13",
            "mov esi, {sigstop}",
            "syscall",
            "cmp byte ptr [r12], 0",
            "jne 3b",
            "mov dword ptr [r12], 0",
            "jmp 2b",
            "4:",
            "mov eax, {exit_group}",
            "mov edi, 1",
            "syscall",
            "ud2",
            "5:",
            prctl = const libc::SYS_prctl,
            set_pdeathsig = const libc::PR_SET_PDEATHSIG,
            sigkill = const libc::SIGKILL,
            getppid = const libc::SYS_getppid,
            setsid = const libc::SYS_setsid,
            fchdir = const libc::SYS_fchdir,
            chroot = const libc::SYS_chroot,
            set_name = const libc::PR_SET_NAME,
            getpid = const libc::SYS_getpid,
            futex = const libc::SYS_futex,
            wake = const WAKE,
            is_ready = const offset_of!(Shared, is_ready),
            rt_sigtimedwait = const libc::SYS_rt_sigtimedwait,
            mask_size = const MASK_SIZE,
            stopping = const STOPPING,
            kill = const libc::SYS_kill,
            sigstop = const libc::SIGSTOP,
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone as isize => result,
            in("rdi") CLONE_FLAGS as usize,
            in("rsi") 0_usize,
            in("r8") root as isize,
            in("r9") HERE.as_ptr(),
            in("r12") shared,
            in("r13") process::id() as usize,
            in("r14") &raw const AWAITED,
            in("r15") NAME.as_ptr(),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// See above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone_bare(shared: *mut Shared, root: RawFd) -> isize {
    let result: isize;
    // SAFETY: as above.
    unsafe {
        asm!(
            "svc #0", // clone(flags, 0)
            "cbnz x0, 5f",
            "mov x8, #{prctl}; mov x0, #{set_pdeathsig}; mov x1, #{sigkill}; svc #0",
            "cbnz x0, 4f",
            "mov x8, #{getppid}; svc #0",
            "cmp x0, x21",
            "b.ne 4f",
            "mov x8, #{setsid}; svc #0",
            "mov x8, #{fchdir}; mov x0, x24; svc #0",
            "cbnz x0, 4f",
            "mov x8, #{chroot}; mov x0, x25; svc #0",
            "cbnz x0, 4f",
            "mov x8, #{prctl}; mov x0, #{set_name}; mov x1, x23; svc #0",
            "mov x8, #{getpid}; svc #0",
            "mov x21, x0",
            "add x0, x20, #{is_ready}; mov w1, #1; stlr w1, [x0]",
            "mov x8, #{futex}; mov x1, #{wake}; mov x2, #1; svc #0",
            "2:",
            "mov x8, #{rt_sigtimedwait}",
            "mov x0, x22",
            "mov x1, #0",
            "mov x2, #0",
            "mov x3, #{mask_size}",
            "svc #0",
            "cmp w0, #0",
            "b.le 2b",
            "orr w0, w0, #{stopping}",
            "str w0, [x20]",
            "3:",
            "mov x8, #{kill}",
            "mov x0, x21",
            "mov x1, #{sigstop}",
            "svc #0",
            "ldrb w9, [x20]",
            "cbnz w9, 3b",
            "str wzr, [x20]",
            "b 2b",
            "4:",
            "mov x8, #{exit_group}",
            "mov x0, #1",
            "svc #0",
            "brk #1",
            "5:",
            prctl = const libc::SYS_prctl,
            set_pdeathsig = const libc::PR_SET_PDEATHSIG,
            sigkill = const libc::SIGKILL,
            getppid = const libc::SYS_getppid,
            setsid = const libc::SYS_setsid,
            fchdir = const libc::SYS_fchdir,
            chroot = const libc::SYS_chroot,
            set_name = const libc::PR_SET_NAME,
            getpid = const libc::SYS_getpid,
            futex = const libc::SYS_futex,
            wake = const WAKE,
            is_ready = const offset_of!(Shared, is_ready),
            rt_sigtimedwait = const libc::SYS_rt_sigtimedwait,
            mask_size = const MASK_SIZE,
            stopping = const STOPPING,
            kill = const libc::SYS_kill,
            sigstop = const libc::SIGSTOP,
            exit_group = const libc::SYS_exit_group,
            inlateout("x0") CLONE_FLAGS as isize => result,
            in("x1") 0_usize,
            in("x8") libc::SYS_clone,
            in("x20") shared,
            in("x21") process::id() as usize,
            in("x22") &raw const AWAITED,
            in("x23") NAME.as_ptr(),
            in("x24") root as isize,
            in("x25") HERE.as_ptr(),
            options(nostack),
        );
    }
    result
}

/// Refuses on a processor that the code above was not written for.
///
/// # Safety
/// Always sound.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone_bare(_shared: *mut Shared, _root: RawFd) -> isize {
    -(libc::ENOSYS as isize)
}
