//! The first process of a PID namespace, which waits for the ends of all processes without a
//! parent.
//!
//! Programs of the pod see it, and may look into it by `/proc/1` and trace it as far as their
//! capabilities reach. So it has nothing of this process: it executes a program of its own
//! ([`first_program`](super::first_program)), from memory, in an empty root that can only be read,
//! in new namespaces, without capabilities and descriptors.
//!
//! ```text
//! clone ─▶ die with the parent ─▶ own session ─▶ namespaces, root ─▶ no capabilities ─▶ exec
//! ```
//!
//! Until it executes its program it has the memory of its parent. The thread there waits for that
//! (`CLONE_VM | CLONE_VFORK`), as with `posix_spawn(3)`. A fork would copy the page tables of all
//! guests, have every thread copy the pages that it writes from then on, and run an engine's
//! handlers of forks: that of wasmtime looks for `/proc`. It also has copies of all descriptors so
//! long.
//!
//! Its parent cannot be asked for: it is outside of the namespace, where its number is 0. So a
//! parent that is killed in the instant before the first call leaves it behind.

use std::{
    convert::Infallible,
    ffi::{CStr, c_int, c_void},
    fs::File,
    io::{self, Write},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
    },
    process::{
        Pid, Signal, WaitOptions, chdir, chroot, pivot_root, set_parent_process_death_signal,
        setsid, waitpid,
    },
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs,
        unshare_unsafe,
    },
};

use super::{
    bare_process::{block_signals, set_signal_mask},
    first_program,
};

/// Its first argument, and the name of its file.
const NAME: &CStr = c"pod-init";

/// Directory that its root is mounted at for a moment. This process needs it as well.
const PROC: &CStr = c"/proc";

/// Stack of the process until it executes its program. Its deepest calls are system calls.
const STACK: usize = 64 << 10;

/// Memory of the parent that the new process reads and writes.
struct Start {
    program: RawFd,
    /// The call that has failed; set before the process ends for it.
    error: Option<io::Error>,
}

/// Starts the first process of a new PID namespace, and returns its pid with the directory of the
/// calling thread's namespaces. It ends with the thread, whose later children are in that
/// namespace, too: the thread can start no other thread any more. The caller reaps the process.
pub(crate) fn start_first() -> io::Result<(Pid, OwnedFd)> {
    let program = program()?;
    // By a file of this thread: those of the process need a capability (`ptrace(2)`).
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let namespaces = rustix::fs::open(c"/proc/thread-self/ns", flags, Mode::empty())?;
    // SAFETY: only the namespace of later children changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
    Ok((spawn(&program)?, namespaces))
}

/// Starts the process, and returns when it has executed its program.
fn spawn(program: &File) -> io::Result<Pid> {
    let mut start = Start { program: program.as_raw_fd(), error: None };
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // No handler of a signal may run in the new process, which has the memory of this one.
    let before = block_signals()?;
    // SAFETY: this thread waits until the process has executed a program or ended, so nothing else
    // uses the stack, `start`, and the thread-local data, which is this thread's. The end of a
    // vector of 16-byte elements is aligned as a stack has to be.
    let pid = unsafe { libc::clone(begin, top.cast(), flags, (&raw mut start).cast()) };
    let result = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) };
    set_signal_mask(before)?;
    // Always positive here.
    let pid = result.and_then(|pid| Pid::from_raw(pid).ok_or_else(|| Errno::CHILD.into()))?;
    match start.error {
        None => Ok(pid),
        Some(error) => {
            // An error: it is reaped, or was never there.
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(error)
        }
    }
}

/// The new process, which ends with the return.
extern "C" fn begin(start: *mut c_void) -> c_int {
    // SAFETY: the parent passes it, and waits.
    let start = unsafe { &mut *start.cast::<Start>() };
    start.error = become_first(start.program).err();
    1
}

/// Makes system calls only: the process allocates nothing and takes no lock.
fn become_first(program: RawFd) -> io::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setsid()?;
    leave_namespaces()?;
    give_up_privileges()?;
    Err(execute(program))
}

/// The program as an executable file in memory that cannot be changed.
fn program() -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = match memfd_create(NAME, flags | MemfdFlags::EXEC) {
        // Before Linux 6.3, where all are executable.
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        file => file,
    };
    let mut file = File::from(file?);
    file.write_all(&first_program::image()?)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Moves the calling process into namespaces of its own, with an empty root.
fn leave_namespaces() -> io::Result<()> {
    let new =
        UnshareFlags::NEWNS | UnshareFlags::NEWNET | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    // SAFETY: this is a new process with one thread. No file descriptors change.
    unsafe { unshare_unsafe(new) }?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    mount(NAME, PROC, c"tmpfs", flags, c"nr_inodes=1,mode=555")?;
    chdir(PROC)?;
    match pivot_root(c".", c".") {
        // The old root is then above the new one in the same place (`pivot_root(2)`).
        Ok(()) => unmount(c".", UnmountFlags::DETACH)?,
        // The root of a system that runs from its initramfs cannot be changed so.
        Err(Errno::INVAL) => {
            mount_move(c".", c"/")?;
            chroot(c".")?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(chdir(c"/")?)
}

/// Leaves the calling process without capabilities, also behind an `execve` as root.
fn give_up_privileges() -> io::Result<()> {
    set_no_new_privs(true)?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(set_capabilities(None, sets)?)
}

/// Executes the file and returns the error. The program closes what has stayed open.
fn execute(fd: RawFd) -> io::Error {
    let arguments = [NAME.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    // SAFETY: the path and both lists are valid and end with a null.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
