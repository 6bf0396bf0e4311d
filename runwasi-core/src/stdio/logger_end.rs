//! The end of a logger that outlives its streams.
//!
//! Most end with their streams. One that does not gets SIGTERM, as from `containerd-shim-runc-v2`
//! (`pkg/process/io.go` there), and SIGKILL if it goes on. That shim sends SIGTERM at once: what a
//! logger has read and not yet written would be lost. While the sandbox ends there is less time,
//! and no SIGKILL: a logger that heeds SIGTERM may still be writing.
//!
//! ```text
//! streams closed ── 10 s, less at the end of the sandbox ─▶ SIGTERM ── 12 s ─▶ SIGKILL
//! ```

use std::{fs::File, sync::Arc};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::{
    io::unix::AsyncFd,
    time::{Duration, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::owner::Owner;
use crate::{id::Id, shutdown::Tasks, sys};

/// Time for a logger to end by itself.
const FLUSH: Duration = Duration::from_secs(10);
/// Time to end after SIGTERM. That of containerd's own shim.
const TERM: Duration = Duration::from_secs(12);

/// The OS process of a logger.
pub(super) struct Process {
    /// Absent if it has ended, or cannot be told from others.
    pidfd: Option<File>,
    flush: Duration,
    term: Duration,
}

/// The streams of a logger. They are closed with the last clone.
pub(super) type Streams = Arc<DropGuard>;

impl Process {
    /// Opens the process with this pid, which has just been started: the number is no other's yet.
    pub(super) fn open(pid: Option<Pid>) -> Self {
        let opened = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Self { pidfd: opened.map(File::from), flush: FLUSH, term: TERM }
    }

    /// Ends the process, if it does not end by itself, after the drop of the result. To be called
    /// on the control runtime.
    pub(super) fn end_without_streams(self, owner: Owner<'_>) -> Streams {
        let closed = CancellationToken::new();
        let streams = Arc::new(closed.clone().drop_guard());
        // An error: it is not ended.
        if let Some(pidfd) = self.pidfd.and_then(|pidfd| sys::watch(pidfd).ok()) {
            let end = End {
                pidfd,
                closed,
                container: owner.container.clone(),
                tasks: owner.tasks.clone(),
                flush: self.flush,
                term: self.term,
            };
            owner.tasks.spawn(end.follow());
        }
        streams
    }
}

struct End {
    pidfd: AsyncFd<File>,
    /// Set when the streams are closed.
    closed: CancellationToken,
    container: Id,
    tasks: Tasks,
    flush: Duration,
    term: Duration,
}

impl End {
    async fn follow(self) {
        tokio::select! {
            // A pidfd is readable when its process has ended.
            _ = self.pidfd.readable() => {}
            () = self.bring_about() => {}
            // Nothing of the sandbox is left but streams that a thread in the kernel holds.
            () = self.tasks.grace_over() => {}
        }
    }

    async fn bring_about(&self) {
        self.closed.cancelled().await;
        tokio::select! {
            () = sleep(self.flush) => {}
            () = self.nearly_over() => {}
        }
        tracing::warn!(container = %self.container, "a logger has not ended with its streams");
        self.send(Signal::TERM);
        sleep(self.term).await;
        self.send(Signal::KILL);
    }

    /// Resolves in the middle of the end of the sandbox.
    async fn nearly_over(&self) {
        self.tasks.stopped().await;
        sleep(self.tasks.grace() / 2).await;
    }

    fn send(&self, signal: Signal) {
        // An error: it has ended.
        let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::ExitStatusExt,
        process::{Child, Command},
    };

    use tokio::{runtime::Handle, time::timeout};

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(1000);

    /// A logger that does not read its streams.
    fn logger(script: &str) -> Child {
        Command::new("sh").args(["-c", script]).spawn().unwrap()
    }

    fn streams(child: &Child, tasks: &Tasks, (flush, term): (Duration, Duration)) -> Streams {
        let id = Id::parse("id", "test").unwrap();
        let pid = Pid::from_child(child);
        let process = Process { flush, term, ..Process::open(Some(pid)) };
        let guests = &Handle::current();
        process.end_without_streams(Owner { container: &id, namespace: &id, tasks, guests })
    }

    async fn ends(mut child: Child) -> Option<i32> {
        let wait = tokio::task::spawn_blocking(move || child.wait().unwrap());
        timeout(Duration::from_secs(20), wait).await.unwrap().unwrap().signal()
    }

    #[tokio::test]
    async fn logger_lives_as_long_as_its_streams_and_a_little_longer() {
        let tasks = Tasks::new(LONG);
        let mut child = logger("exec sleep 1000");
        let streams = streams(&child, &tasks, (SHORT, LONG));
        let other = streams.clone();
        drop(streams);
        sleep(SHORT * 4).await;
        assert!(child.try_wait().unwrap().is_none());
        drop(other);
        assert_eq!(ends(child).await, Some(libc::SIGTERM));
    }

    #[tokio::test]
    async fn logger_that_ignores_sigterm_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let ready = directory.path().join("ready");
        let child = logger(&format!("trap '' TERM; touch {}; exec sleep 1000", ready.display()));
        while !ready.exists() {
            sleep(SHORT).await;
        }
        drop(streams(&child, &Tasks::new(LONG), (SHORT, SHORT)));
        assert_eq!(ends(child).await, Some(libc::SIGKILL));
    }

    #[tokio::test]
    async fn end_of_the_sandbox_shortens_the_time() {
        let tasks = Tasks::new(Duration::from_secs(4));
        let child = logger("exec sleep 1000");
        drop(streams(&child, &tasks, (LONG, LONG)));
        tasks.stop();
        tasks.drained().await;
        assert_eq!(ends(child).await, Some(libc::SIGTERM));
    }
}
