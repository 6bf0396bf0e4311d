//! The kernel's limits of threads and processes, and the errors of those that cannot be made.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use crate::lock::Mutex;

/// Stack of a thread that is made to see that it can be made. The minimum is 16 KiB.
const TRIED_STACK: usize = 64 << 10;

/// The limits that may be used up, for the error of a thread or process.
pub const RAISED_BY: &str = "threads and processes are used up, more are allowed by pids.max of \
    the cgroup (of a unit, TasksMax=), kernel.threads-max, kernel.pid_max or RLIMIT_NPROC";

/// Names the limits in the error of a thread or process that they may have refused.
pub fn named(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(error.kind(), format!("{error}: {RAISED_BY}")),
        _ => error,
    }
}

/// Number of threads that this process can have, as far as it can be known. It shares it with
/// others.
pub fn of_process() -> Option<u64> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let kernel = ["threads-max", "pid_max"].map(|name| Path::new("/proc/sys/kernel").join(name));
    // "max" in a file of a cgroup is no number, and no limit.
    pids_files(&cgroups).iter().chain(&kernel).filter_map(|path| number(path)).min()
}

/// Makes as many threads at once, which end again.
// Tokio does not try: without one of its workers it panics, and then waits for ever for those that
// it has started.
pub(crate) fn try_threads(number: usize) -> io::Result<()> {
    let mut threads = Vec::with_capacity(number);
    let (over, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let made = (0..number).try_for_each(|_| {
        let wait = wait.clone();
        // The sender never sends: the end of the wait is its drop.
        let work = move || wait.lock().recv().unwrap_or_default();
        threads.push(thread::Builder::new().stack_size(TRIED_STACK).spawn(work)?);
        Ok(())
    });
    drop(over);
    for thread in threads {
        // No thread panics, and none has a result.
        drop(thread.join());
    }
    made
}

/// The files `pids.max` of the cgroups in a text of the form of `/proc/self/cgroup`, and of those
/// above them.
fn pids_files(cgroups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in cgroups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let Some((controllers, path)) = fields.next().zip(fields.next()) else { continue };
        let mount = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|one| one == "pids") => {
                Path::new("/sys/fs/cgroup/pids")
            }
            _ => continue,
        };
        let own = Path::new(path.trim_start_matches('/'));
        files.extend(own.ancestors().map(|above| mount.join(above).join("pids.max")));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_cgroup_and_of_those_above_it_are_found() {
        let text = |lines: &str| {
            let files = pids_files(lines).into_iter();
            files.map(|file| file.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            text("9:cpu,pids:/a/b\n1:cpu:/c\n"),
            [
                "/sys/fs/cgroup/pids/a/b/pids.max",
                "/sys/fs/cgroup/pids/a/pids.max",
                "/sys/fs/cgroup/pids/pids.max"
            ]
        );
        assert_eq!(
            text("0::/x.slice\n"),
            ["/sys/fs/cgroup/x.slice/pids.max", "/sys/fs/cgroup/pids.max"]
        );
        assert!(of_process().unwrap() > 10);
    }

    #[test]
    fn only_a_refused_thread_or_process_names_the_limits() {
        let refused = named(io::Error::from_raw_os_error(libc::EAGAIN)).to_string();
        assert!(refused.contains("pids.max") && refused.contains("TasksMax="), "{refused}");
        let missing = named(io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
    }
}
