//! CPU time, sleep, and the directories of the calling thread.

use std::{fs, io, path::Path, time::Duration};

use rustix::{
    fs::{Mode, OFlags},
    process::Pid,
    thread::{UnshareFlags, unshare_unsafe},
    time::{ClockId, clock_gettime},
};

use super::{process::status_field, stat::ProcessStat};

/// CPU time of the calling thread.
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // The kernel's values are never negative, and the nanoseconds are below one second.
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Number of times that the calling thread has waited in the kernel. The times when others kept it
/// from the CPU are not among them.
pub(crate) fn thread_waits() -> i64 {
    // SAFETY: `rusage` is plain data, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a live `rusage`. The call fails for no thread that asks about itself.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_nvcsw
}

/// True if a thread of this process waits in the kernel: it neither runs nor could run.
pub(crate) fn waits(thread: Pid) -> bool {
    let path = format!("/proc/self/task/{}/stat", thread.as_raw_nonzero());
    ProcessStat::read(Path::new(&path)).is_ok_and(|stat| stat.state != 'R')
}

/// Number of the wait in the kernel that a thread of this process is in. Absent if it runs.
pub(crate) fn current_wait(thread: Pid) -> Option<u64> {
    if !waits(thread) {
        return None;
    }
    let path = format!("/proc/self/task/{}/status", thread.as_raw_nonzero());
    status_field(&fs::read_to_string(path).ok()?, "voluntary_ctxt_switches:")
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

/// Gives the calling thread its own umask, root directory and working directory (`unshare(2)`).
pub(crate) fn unshare_file_attributes() -> io::Result<()> {
    // SAFETY: no code of this process relies on a working directory that threads share.
    Ok(unsafe { unshare_unsafe(UnshareFlags::FS) }?)
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
