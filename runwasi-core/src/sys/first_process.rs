//! The first process of a PID namespace, which waits for the ends of all processes without a parent.
//!
//! Programs of the pod see it, and may look into it by `/proc/1` and trace it as far as their
//! capabilities reach. So it has nothing of this process: it executes a program of its own
//! ([`first_program`](super::first_program)), from memory, in an empty root that can only be read,
//! in new namespaces, without capabilities and descriptors.
//!
//! ```text
//! fork ─▶ die with the parent ─▶ own session ─▶ namespaces, root ─▶ no capabilities ─▶ exec
//! ```
//!
//! The root changes behind the fork: an engine may have handlers of forks that look for `/proc`, as
//! wasmtime has. Until the process executes its program it has copies of all descriptors.
//!
//! Its parent cannot be asked for: it is outside of the namespace, where its number is 0. So a
//! parent that is killed in the instant before the first call leaves it behind.

use std::{
    ffi::CStr,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command},
    ptr,
};

use rustix::{
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create},
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, mount_move, unmount,
    },
    process::{Signal, chdir, chroot, pivot_root, set_parent_process_death_signal, setsid},
    thread::{
        CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs,
        unshare_unsafe,
    },
};

use super::{bare_process::block_signals, first_program};

/// Its first argument, and the name of its file.
const NAME: &CStr = c"pod-init";

/// Directory that its root is mounted at for a moment. This process needs it as well.
const PROC: &CStr = c"/proc";

/// Starts the first process of a new PID namespace, and returns it with the directory of the calling
/// thread's namespaces. It ends with the thread, whose later children are in that namespace, too: the
/// thread can start no other thread any more.
pub(crate) fn start_first() -> io::Result<(Child, OwnedFd)> {
    let program = program()?;
    // By a file of this thread: those of the process need a capability (`ptrace(2)`).
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let namespaces = rustix::fs::open(c"/proc/thread-self/ns", flags, Mode::empty())?;
    // SAFETY: only the namespace of later children changes.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID) }?;
    let mut command = Command::new("pod-init");
    let fd = program.as_raw_fd();
    let enter = move || {
        block_signals()?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        setsid()?;
        leave_namespaces()?;
        give_up_privileges()?;
        Err(execute(fd))
    };
    // SAFETY: between `fork` and `execve` the closure makes system calls only. It allocates nothing
    // and takes no lock.
    unsafe { command.pre_exec(enter) };
    Ok((command.spawn()?, namespaces))
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
