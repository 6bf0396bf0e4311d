//! Fork and end of the process, its memory, and the kernel's release.

use std::{
    fs::{self, File},
    io::{self, PipeReader, Read},
    os::unix::process::CommandExt,
    process::Command,
};

use rustix::{
    fs::{Mode, OFlags, open},
    io::{Errno, read, write},
    process::Pid,
};

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
/// waits for its end. It has a process group of its own: signals of a terminal that this process
/// was started from are not for it. Must be called before any other `pre_exec` of the command. The
/// pipe tells the pid to [`pid_of_orphan`].
// A fork runs fork handlers: wasmtime's reopens its `pagemap`. Such a handler may put a file in the
// place of a descriptor that was arranged before this second fork.
pub(crate) fn orphan(command: &mut Command) -> io::Result<PipeReader> {
    let (told, tell) = io::pipe()?;
    let fork_again = move || {
        // SAFETY: this is the new process, with one thread, on its way to `execve`. Both processes
        // from here on do nothing but that or `_exit`.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: takes no pointer. It cannot fail for a process that leads no session.
            0 => match unsafe { libc::setpgid(0, 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
            pid => {
                // An error: the pid stays unknown.
                let _ = write(&tell, &pid.to_ne_bytes());
                // SAFETY: the intermediate process has nothing to clean up.
                unsafe { libc::_exit(0) }
            }
        }
    };
    // SAFETY: see above; the closure allocates nothing.
    unsafe { command.pre_exec(fork_again) };
    Ok(told)
}

/// The pid that [`orphan`] tells, after the end of the process that was spawned and the drop of the
/// command.
pub(crate) fn pid_of_orphan(mut told: PipeReader) -> Option<Pid> {
    let mut pid = [0; size_of::<i32>()];
    told.read_exact(&mut pid).ok()?;
    Pid::from_raw(i32::from_ne_bytes(pid))
}

/// Lets `command` start a process that enters cgroups before its program begins, so that all that
/// it starts is there, too. `procs` are their files `cgroup.procs`. Where `/proc/self/cgroup` reads
/// `there`, the process stays: each move takes a grace period of RCU. A move that fails is left
/// out.
pub(crate) fn start_in_cgroups(command: &mut Command, there: String, procs: Vec<File>) {
    let enter = move || {
        if !is_in_cgroups(there.as_bytes()) {
            for file in &procs {
                // An error is dropped: the program is of use in any cgroup.
                let _ = write(file, b"0");
            }
        }
        Ok(())
    };
    // SAFETY: between `fork` and `execve` the closure makes system calls only. It allocates nothing
    // and takes no lock.
    unsafe { command.pre_exec(enter) };
}

/// True if the calling process is in cgroups that are described so. Allocates nothing.
fn is_in_cgroups(mut text: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = open(c"/proc/self/cgroup", flags, Mode::empty()) else { return false };
    let mut buffer = [0; 512];
    loop {
        match read(&file, &mut buffer) {
            Ok(0) => return text.is_empty(),
            Ok(length) => match text.strip_prefix(&buffer[..length]) {
                Some(rest) => text = rest,
                None => return false,
            },
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Ends the process at once, without unwinding and without a core dump (`_exit(2)`).
pub(crate) fn end_process(status: i32) -> ! {
    // SAFETY: takes no pointer and does not return. Buffers that are not flushed are lost.
    unsafe { libc::_exit(status) }
}

/// Freed bytes at the end of a heap that the allocator keeps.
#[cfg(target_env = "gnu")]
const KEPT_END: libc::c_int = 2 << 20;

/// Size from which an allocation has pages of its own, which its end returns.
#[cfg(target_env = "gnu")]
const OWN_PAGES: libc::c_int = 1 << 20;

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

/// Lets the allocator return what is freed at the end of a heap (`mallopt(3)`). Does nothing with
/// another allocator than glibc's.
// By default it raises both bounds, to 64 MiB for each heap, when a large allocation is freed: what
// guests have used then stays in the heaps of all workers. `malloc_trim` does not return the ends
// of heaps that belong to threads; only the `free` that makes such an end does. Therefore no freed
// chunk may wait in a "fast bin": `malloc_trim` would join it, and all that is free before it, to
// the end of its heap without returning that.
pub(crate) fn return_freed_ends() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers. A refused value leaves the old one.
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_END);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_PAGES);
    }
}

/// Lets the allocator keep so many heaps (`mallopt(3)`): each reserves address space. Does nothing
/// with another allocator than glibc's.
pub fn limit_heaps(most: usize) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers. A refused value leaves the old one.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, i32::try_from(most).unwrap_or(i32::MAX));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = most;
}

/// Resident memory of the process, in bytes (`VmRSS` of `proc_pid_status(5)`, in KiB there). 0 if
/// it cannot be read.
pub(crate) fn resident_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status_field(&status, "VmRSS:").unwrap_or(0) << 10
}

/// The number of a line of `/proc/self/status`.
pub(crate) fn status_field(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The id of the boot: the kernel creates a new random one each time (`random(4)`).
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
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

#[cfg(target_env = "gnu")]
#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Chunks that are too small for pages of their own, 40 MB in all.
    const LARGE: (usize, usize) = (16 << 10, 2500);

    /// Chunks for which the allocator has fast bins; more than a thread keeps for itself.
    const SMALL: (usize, usize) = (64, 100);

    #[test]
    fn memory_before_small_chunks_at_the_end_of_a_threads_heap_is_returned() {
        return_freed_ends();
        let fill = |vectors: &mut Vec<Vec<u8>>, (size, count): (usize, usize)| {
            vectors.extend((0..count).map(|_| vec![1; size]));
        };
        // Of this thread's heap, so that no free but those of the small chunks comes last.
        let mut large = Vec::with_capacity(LARGE.1);
        let mut small = Vec::with_capacity(SMALL.1);
        // A thread of its own has a heap of its own.
        thread::scope(|scope| {
            scope.spawn(|| {
                fill(&mut large, LARGE);
                fill(&mut small, SMALL);
            });
        });
        // What this thread keeps for itself is full then.
        let mut own = Vec::new();
        fill(&mut own, SMALL);
        let used = resident_memory();
        own.clear();
        large.clear();
        small.clear();
        trim_memory();
        let kept = resident_memory();
        assert!(kept + (30 << 20) < used, "{kept} of {used} bytes are kept");
    }
}
