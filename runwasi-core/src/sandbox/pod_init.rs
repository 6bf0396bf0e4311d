//! The first process of a PID namespace, and the thread that is its parent.
//!
//! The thread is the process's alone: the namespace of a thread's later children cannot be changed
//! back everywhere, and a process ends with the thread that has started it. The thread takes the
//! end of the process and ends as well.

use std::{fs::File, io, os::fd::OwnedFd, sync::mpsc, thread};

use rustix::{
    event::PollFlags,
    fs::{Mode, OFlags, openat},
    io::retry_on_intr,
    process::{
        Pid, PidfdFlags, Signal, WaitOptions, kill_process, pidfd_open, pidfd_send_signal, waitpid,
    },
};

use crate::{panics, sys, task_limits};

/// Name of the process in `ps -o comm`, and of its thread.
const NAME: &str = "pod-init";

/// Stack of the thread, which makes a few calls.
const STACK: usize = 128 << 10;

/// Handle of the process. Dropping it ends the process, and with it all others in its namespace.
#[derive(Debug)]
pub(super) struct PodInit {
    pid: u32,
    pidfd: OwnedFd,
    namespace: File,
}

impl PodInit {
    /// Starts it. Blocks as long as it takes to start a thread and a program.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, started) = mpsc::sync_channel(1);
        let work = move || panics::fatal(|| serve(&sender));
        let thread = thread::Builder::new().name(NAME.into()).stack_size(STACK).spawn(work);
        // Dropped: the thread ends with the process.
        thread.map_err(task_limits::named)?;
        // An error: a panic of the thread, which ends this process.
        started.recv().map_err(io::Error::other)?
    }

    /// Of a process that the calling thread has started and not waited for. `namespaces` is the
    /// directory of the thread's.
    fn of(process: Pid, namespaces: &OwnedFd) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = openat(namespaces, "pid_for_children", flags, Mode::empty())?.into();
        let pidfd = pidfd_open(process, PidfdFlags::empty())?;
        Ok(Self { pid: process.as_raw_nonzero().get().cast_unsigned(), pidfd, namespace })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Its PID namespace.
    pub(super) fn namespace(&self) -> &File {
        &self.namespace
    }

    /// True if a signal has ended it.
    pub(super) fn has_ended(&self) -> bool {
        sys::has_event(&self.pidfd, PollFlags::IN).unwrap_or(false)
    }
}

impl Drop for PodInit {
    fn drop(&mut self) {
        // An error: it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// The thread, from the start of the process to its end.
fn serve(started: &mpsc::SyncSender<io::Result<PodInit>>) {
    let (process, namespaces) = match sys::start_first() {
        Ok(first) => first,
        Err(error) => {
            // An error: the starter has gone.
            let _ = started.send(Err(task_limits::named(error)));
            return;
        }
    };
    let handle = PodInit::of(process, &namespaces);
    drop(namespaces);
    if handle.is_err() {
        // An error: it has ended.
        let _ = kill_process(process, Signal::KILL);
    }
    // An error: the starter has gone. The handle that comes back ends the process.
    drop(started.send(handle));
    if let Err(error) = retry_on_intr(|| waitpid(Some(process), WaitOptions::empty())) {
        tracing::error!(%error, pid = %process.as_raw_nonzero(), "pod-init is not reaped");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::process::CommandExt,
        path::Path,
        process::Command,
        sync::atomic::{AtomicU32, Ordering},
        time::{Duration, Instant},
    };

    use super::*;

    fn until(what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !reached() {
            assert!(Instant::now() < deadline, "{what}");
            sys::pause(Duration::from_millis(10));
        }
    }

    /// The filter of system calls is the last thing that it sets.
    fn start() -> PodInit {
        let first = PodInit::start().unwrap();
        until("no filter", || status(&first, "Seccomp:") == "2");
        first
    }

    fn file(first: &PodInit, name: &str) -> String {
        format!("/proc/{}/{name}", first.pid())
    }

    fn status(first: &PodInit, key: &str) -> String {
        let all = fs::read_to_string(file(first, "status")).unwrap();
        all.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned()
    }

    /// Runs a shell in a PID namespace, by util-linux.
    fn in_namespace(first: &PodInit, script: &str) {
        let pid = first.pid().to_string();
        let mut command = Command::new("nsenter");
        let status = command.args(["-t", &pid, "-p", "sh", "-c", script]).status().unwrap();
        assert!(status.success());
    }

    /// Processes of the same PID namespace, by their pids outside.
    fn members(first: &PodInit) -> Vec<String> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let wanted = namespace(&first.pid().to_string()).unwrap();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
        // A zombie has no namespaces any more, but its parent.
        let parent = format!("PPid:\t{}\n", first.pid());
        let is_zombie = |pid: &str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.contains("State:\tZ") && status.contains(&parent)
        };
        names
            .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .filter(|pid| namespace(pid).as_ref() == Some(&wanted) || is_zombie(pid))
            .collect()
    }

    #[test]
    fn it_reaps_and_ends_all_others() {
        let first = start();
        assert_eq!(members(&first).len(), 1);
        // The shell is no parent that waits for these: they end before and after it.
        for script in ["(true &)", "(sleep 0.2 &)", "(sleep 0.1 & sleep 0.05 &)"] {
            in_namespace(&first, script);
        }
        until("orphans are left", || members(&first).len() == 1);
        in_namespace(&first, "sleep 1000 >/dev/null 2>&1 &");
        let all = members(&first);
        assert_eq!(all.len(), 2, "{all:?}");
        drop(first);
        until("processes are left", || {
            !all.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists())
        });
    }

    #[test]
    fn it_shows_programs_of_the_pod_nothing_of_the_host() {
        let first = start();
        assert_eq!(fs::read_to_string(file(&first, "comm")).unwrap(), "pod-init\n");
        for place in ["root", "root/..", "cwd", "fd"] {
            let files = fs::read_dir(file(&first, place)).unwrap();
            let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
            assert!(files.is_empty(), "{files:?}");
        }
        assert!(fs::write(file(&first, "root/file"), "").is_err());
        let mounts = fs::read_to_string(file(&first, "mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        let program = fs::read_link(file(&first, "exe")).unwrap();
        assert_eq!(program, Path::new("/memfd:pod-init (deleted)"));
        assert!(fs::File::options().write(true).open(file(&first, "exe")).is_err());
        let memory = fs::read_to_string(file(&first, "maps")).unwrap();
        let names = memory.lines().filter_map(|line| line.split_whitespace().nth(5));
        let foreign: Vec<_> =
            names.filter(|name| !name.starts_with('[') && *name != "/memfd:pod-init").collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        for kind in ["mnt", "net", "ipc", "uts", "pid"] {
            let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(fs::read_link(file(&first, &format!("ns/{kind}"))).unwrap(), own);
        }
    }

    #[test]
    fn its_start_is_no_fork() {
        static FORKS: AtomicU32 = AtomicU32::new(0);
        // Other tests start programs meanwhile, by forks of other threads.
        extern "C" fn fork() {
            let is_ours = thread::current().name() == Some(NAME);
            FORKS.fetch_add(u32::from(is_ours), Ordering::Relaxed);
        }
        // SAFETY: the handler stays, and takes no lock.
        assert_eq!(unsafe { libc::pthread_atfork(Some(fork), None, None) }, 0);
        drop(start());
        assert_eq!(FORKS.load(Ordering::Relaxed), 0);
        let mut command = Command::new("true");
        // SAFETY: the closure does nothing.
        unsafe { command.pre_exec(|| Ok(())) };
        let forking = move || command.status();
        let status = thread::Builder::new().name(NAME.into()).spawn(forking).unwrap();
        assert!(status.join().unwrap().unwrap().success());
        assert_eq!(FORKS.load(Ordering::Relaxed), 1, "the handler is not called");
    }

    #[test]
    fn it_has_no_privileges_and_no_signal_of_the_pod_ends_it() {
        let first = start();
        for key in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(status(&first, key), "0000000000000000", "{key}");
        }
        assert_eq!(status(&first, "NoNewPrivs:"), "1");
        for signal in ["TERM", "SEGV", "QUIT", "STOP", "CONT"] {
            let pid = first.pid().to_string();
            let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
            assert!(sent.unwrap().success());
        }
        in_namespace(&first, "(true &); kill -KILL 1; true");
        until("orphans are left", || members(&first).len() == 1);
        assert!(!first.has_ended());
    }
}
