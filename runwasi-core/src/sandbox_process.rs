//! The OS process that stands for a sandbox.
//!
//! containerd is told its pid. It has the sandbox's namespaces and an empty root, and runs nothing
//! ([`BareProcess`](sys::BareProcess)). A signal to the pid means the containers of that sandbox:
//! the process reports those that can be blocked and lives on; SIGKILL ends it.
//!
//! One thread, `reaper`, waits for all of these processes. It takes their ends under the lock of
//! the table, so a pid in the table is never that of another process.

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::mpsc;

use crate::{
    lock::{Mutex, get_or_start},
    panics,
    sys::{self, BareProcess, Change},
    task_limits,
};

/// Longest start of a process, whose work takes microseconds.
const LONGEST_START: Duration = Duration::from_secs(10);

/// Stack of the thread `reaper`, which makes short calls. The minimum is 16 KiB.
const STACK: usize = 64 << 10;

/// Numbers of the signals that a sandbox's process has got. Closed when the process has ended.
pub(crate) type Signals = mpsc::UnboundedReceiver<u32>;

/// Handle of a sandbox's process. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct SandboxProcess {
    pid: u32,
    ended: Arc<AtomicBool>,
}

/// The reaper's side of a process.
struct Entry {
    process: BareProcess,
    ended: Arc<AtomicBool>,
    signals: mpsc::UnboundedSender<u32>,
}

/// The processes that have not been reaped, by pid.
static PROCESSES: Mutex<BTreeMap<u32, Entry>> = Mutex::new(BTreeMap::new());

/// The thread `reaper`. Cheap to clone.
// Passed to the start of a process: started by it, the thread would inherit the namespaces of a
// sandbox.
#[derive(Clone, Debug)]
pub(crate) struct Reaper {
    thread: Thread,
}

/// The thread `reaper`, once it is needed.
static REAPER: Mutex<Option<Reaper>> = Mutex::new(None);

impl Reaper {
    /// Starts the thread, in the namespaces of the calling thread, if it does not run.
    pub(crate) fn get() -> io::Result<Self> {
        get_or_start(&mut REAPER.lock(), Self::start).map(|started| started.clone())
    }

    fn start() -> io::Result<Self> {
        let work = || panics::fatal(reap);
        let started = thread::Builder::new().name("reaper".into()).stack_size(STACK).spawn(work);
        Ok(Self { thread: started.map_err(task_limits::named)?.thread().clone() })
    }
}

impl SandboxProcess {
    /// Starts a process in the namespaces of the calling thread. It ends with this thread at the
    /// latest. Returns when it shows no file of the host any more. Blocks.
    pub(crate) fn start(reaper: &Reaper) -> io::Result<(Self, Signals)> {
        // Locked before the start: the reaper finds every process in the table.
        let mut processes = PROCESSES.lock();
        let process = BareProcess::start().map_err(task_limits::named)?;
        let pid = process.pid();
        let starting = process.starting();
        let ended = Arc::<AtomicBool>::default();
        let (signals, received) = mpsc::unbounded_channel();
        processes.insert(pid, Entry { process, ended: ended.clone(), signals });
        drop(processes);
        reaper.thread.unpark();
        let started = Self { pid, ended };
        if !starting.wait(LONGEST_START, || started.has_ended()) {
            let text = format!("process {pid} of the sandbox does not start");
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok((started, received))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// True if a signal has ended it.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// A pidfd of the process.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        // Under the lock: the process cannot be reaped in between, and its pid be used again.
        let _reaping = PROCESSES.lock();
        let gone = || io::Error::other(format!("process {} of the sandbox has ended", self.pid));
        let pid = Pid::from_raw(self.pid.cast_signed()).filter(|_| !self.has_ended());
        Ok(pidfd_open(pid.ok_or_else(gone)?, PidfdFlags::empty())?)
    }
}

impl Drop for SandboxProcess {
    fn drop(&mut self) {
        let processes = PROCESSES.lock();
        if !self.has_ended()
            && let Some(entry) = processes.get(&self.pid)
        {
            entry.process.kill();
        }
    }
}

fn reap() {
    loop {
        match sys::next_change() {
            Ok(Some(Change::Stopped(pid))) => stopped(pid),
            Ok(Some(Change::Ended(pid))) => ended(pid),
            // An `unpark` before this call makes it return at once, so no process is missed.
            Ok(None) => thread::park(),
            // The call has no other failure. Without it no end of a process would be seen.
            Err(error) => panic!("wait for the processes of sandboxes: {error}"),
        }
    }
}

fn stopped(pid: u32) {
    let processes = PROCESSES.lock();
    if let Some(entry) = processes.get(&pid)
        && let Some(signal) = entry.process.take_signal()
    {
        // An error: the sandbox is gone.
        let _ = entry.signals.send(signal);
    }
}

fn ended(pid: u32) {
    let mut processes = PROCESSES.lock();
    // Always present: processes enter the table with their start and leave it here.
    let Some(Entry { process, ended, signals }) = processes.remove(&pid) else { return };
    ended.store(true, Ordering::Release);
    if let Err(error) = process.reap() {
        tracing::error!(%error, pid, "process of a sandbox is not reaped");
    }
    // The sandbox sees the end as the end of its signals, after `ended`.
    drop(signals);
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::Path,
        time::{Duration, Instant},
    };

    use super::*;

    fn signal(pid: u32, signal: libc::c_int) {
        let pid = Pid::from_raw(pid.cast_signed()).unwrap();
        let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn received(signals: &mut Signals) -> Option<u32> {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            match signals.try_recv() {
                Ok(signal) => return Some(signal),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    assert!(Instant::now() < deadline, "no signal");
                    thread::yield_now();
                }
            }
        }
    }

    #[test]
    fn process_reports_signals_and_lives_until_sigkill() {
        let (process, mut signals) = SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        let (other, mut others) = SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        for number in [libc::SIGTERM, libc::SIGQUIT, libc::SIGSEGV, libc::SIGTERM, 32, 64] {
            // By the system call: rustix names no real-time signals.
            // SAFETY: takes no pointer.
            assert_eq!(unsafe { libc::kill(process.pid().cast_signed(), number) }, 0);
            assert_eq!(received(&mut signals), Some(number.cast_unsigned()));
        }
        assert!(!process.has_ended());
        signal(process.pid(), libc::SIGKILL);
        assert_eq!(received(&mut signals), None);
        assert!(process.has_ended() && process.open().is_err());
        assert!(!Path::new(&format!("/proc/{}", process.pid())).exists(), "a zombie");
        assert!(!other.has_ended() && others.try_recv().is_err());
    }

    /// Clients take its root for that of a container, as soon as they know the pid.
    #[test]
    fn process_shows_no_file_of_the_host() {
        let (process, _signals) = SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        let at = |name: &str| format!("/proc/{}/{name}", process.pid());
        for place in ["root", "root/..", "cwd"] {
            let files = fs::read_dir(at(place)).unwrap();
            let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
            assert!(files.is_empty(), "{place}: {files:?}");
        }
        let error = fs::write(at("root/file"), "").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!(fs::read_to_string(at("mountinfo")).unwrap(), "");
        // Not that of this process.
        assert!(fs::read_dir("/").unwrap().count() > 0);
    }

    #[test]
    fn stopped_process_reports_after_its_continuation() {
        let (process, mut signals) = SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        signal(process.pid(), libc::SIGSTOP);
        signal(process.pid(), libc::SIGTERM);
        sys::pause(Duration::from_millis(50));
        assert!(signals.try_recv().is_err());
        signal(process.pid(), libc::SIGCONT);
        assert_eq!(received(&mut signals), Some(15));
    }

    #[test]
    fn continuations_of_others_lose_no_signal() {
        let (process, mut signals) = SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        for _ in 0..500 {
            signal(process.pid(), libc::SIGTERM);
            for _ in 0..20 {
                signal(process.pid(), libc::SIGCONT);
            }
            assert_eq!(received(&mut signals), Some(15));
        }
    }

    #[test]
    fn dropped_process_ends_and_is_reaped() {
        let (process, mut signals) = SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        let place = format!("/proc/{}", process.pid());
        drop(process);
        assert_eq!(received(&mut signals), None);
        assert!(!Path::new(&place).exists());
    }

    #[test]
    fn process_ends_with_the_thread_that_started_it() {
        let start = || SandboxProcess::start(&Reaper::get().unwrap()).unwrap();
        let (process, mut signals) = thread::spawn(start).join().unwrap();
        assert_eq!(received(&mut signals), None);
        assert!(process.has_ended());
    }
}
