//! A command running in the background, its output collected meanwhile; made by `command`, held by tests and benches.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::command::Output;

/// A command that runs in the background; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    line: String,
    began: Instant,
    deadline: Duration,
    stdout: Collector,
    stderr: Collector,
}

#[derive(Debug)]
struct Collector {
    // Shared with the reading thread; a mutex because tests look at the output while it grows.
    bytes: Arc<Mutex<Vec<u8>>>,
    // Disconnects at end of file.
    ended: Receiver<()>,
}

impl Running {
    /// Takes over a child whose stdout and stderr are pipes.
    pub(crate) fn collect(
        mut child: Child,
        line: String,
        began: Instant,
        deadline: Duration,
    ) -> Result<Self> {
        let stdout = Collector::start(child.stdout.take().context("stdout is piped")?);
        let stderr = Collector::start(child.stderr.take().context("stderr is piped")?);
        Ok(Self { child, line, began, deadline, stdout, stderr })
    }

    /// The OS process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout up to now.
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stdout.bytes)).into_owned()
    }

    /// What it has written to stderr up to now.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&lock(&self.stderr.bytes)).into_owned()
    }

    /// Ends it with SIGKILL; for commands that would run for ever, like `ctr events`.
    pub fn kill(mut self) -> Result<Output> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.line))?;
        self.wait()
    }

    /// Waits for its end, within the deadline.
    pub fn wait(mut self) -> Result<Output> {
        let child = Pid::from_child(&self.child);
        let pidfd = pidfd_open(child, PidfdFlags::empty())
            .with_context(|| format!("pidfd of {}", self.line))?;
        let left = self.deadline.saturating_sub(self.began.elapsed());
        let timeout = left.try_into().context("deadline too long")?;
        let mut ends = [PollFd::new(&pidfd, PollFlags::IN)];
        let ended = poll(&mut ends, Some(&timeout))
            .with_context(|| format!("waiting for {}", self.line))?;
        if ended == 0 {
            let (out, err) = (self.stdout_so_far(), self.stderr_so_far());
            bail!("hung for {:?}: `{}`\nstdout: {out}\nstderr: {err}", self.deadline, self.line);
        }
        let status = self.child.wait()?;
        let took = self.began.elapsed();
        Ok(Output {
            line: self.line.clone(),
            status: status.code().or(status.signal().map(|n| 128 + n)).unwrap_or(-1),
            stdout: self.stdout.finish("stdout", &self.line)?,
            stderr: self.stderr.finish("stderr", &self.line)?,
            took,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (end, ended) = channel();
        let sink = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                lock(&sink).extend_from_slice(&chunk[..n]);
            }
            drop(end);
        });
        Self { bytes, ended }
    }

    /// The whole output. A process left behind that still holds the pipe is an error: containerd, too,
    /// would wait for such a shim's `start` for ever.
    fn finish(&self, name: &str, line: &str) -> Result<Vec<u8>> {
        let grace = Duration::from_secs(20);
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(grace) {
            bail!("`{line}` ended, but its {name} is still held open by a process it left");
        }
        Ok(std::mem::take(&mut *lock(&self.bytes)))
    }
}

fn lock(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}
