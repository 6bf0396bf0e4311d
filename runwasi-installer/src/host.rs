//! Programs of the host: `systemctl`, `sysctl`, `ctr`. A seam: tests record what would run.
//!
//! The installer's container has another root and other programs. `systemctl` ignores requests in a
//! `chroot`, so a program is started in the mount namespace of the host's first process, which
//! needs the host's PID namespace (`hostPID`).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where programs of a host are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Between two looks whether a program has ended.
const STEP: Duration = Duration::from_millis(100);

/// Starts programs of the host.
pub trait Host {
    /// Runs a program to its end; any exit status is an answer.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, HostError>;

    /// The same for a program that may wait for ever: after this time it is killed, and the answer
    /// is none.
    fn run_within(
        &self,
        program: &str,
        arguments: &[&str],
        time: Duration,
    ) -> Result<Option<Answer>, HostError>;

    /// Waits between two questions.
    fn pause(&self, time: Duration);

    /// The time, which bounds how long answers are waited for. A test has a clock of its own.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// The time of the calendar, for what outlives a run.
    fn date(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// How a program of the host ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whether with status 0.
    pub success: bool,
    /// Its output.
    pub output: String,
    /// Its errors.
    pub errors: String,
}

/// A program of the host that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {program} on the host: {source}")]
pub struct HostError {
    program: String,
    source: io::Error,
}

impl HostError {
    /// One for a program's name.
    #[must_use]
    pub fn new(program: &str, source: io::Error) -> Self {
        Self { program: program.to_owned(), source }
    }

    /// Whether the host has no such program.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The host on which a process runs.
#[derive(Debug, Clone, Copy)]
pub struct HostOf {
    /// The process; the host's first one has its mounts.
    pub process: u32,
}

impl Default for HostOf {
    fn default() -> Self {
        Self { process: 1 }
    }
}

impl HostOf {
    /// A program in the mounts of the process.
    fn command(&self, program: &str, arguments: &[&str]) -> io::Result<Command> {
        let namespace = File::open(format!("/proc/{}/ns/mnt", self.process))?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null());
        // SAFETY: between fork and exec the closure makes one system call on an open descriptor,
        // and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                let namespace = namespace.as_fd();
                move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
                Ok(())
            });
        }
        Ok(command)
    }
}

impl Host for HostOf {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, HostError> {
        let output = self.command(program, arguments).and_then(|mut command| command.output());
        output.map(Answer::from).map_err(|source| HostError::new(program, source))
    }

    fn run_within(
        &self,
        program: &str,
        arguments: &[&str],
        time: Duration,
    ) -> Result<Option<Answer>, HostError> {
        let fail = |source| HostError::new(program, source);
        let mut command = self.command(program, arguments).map_err(fail)?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(fail)?;
        let deadline = self.now() + time;
        // Not read meanwhile: what it says has room in the pipes.
        while child.try_wait().map_err(fail)?.is_none() {
            if self.now() >= deadline {
                child.kill().map_err(fail)?;
                child.wait().map_err(fail)?;
                return Ok(None);
            }
            self.pause(STEP);
        }
        let output = child.wait_with_output().map_err(fail)?;
        Ok(Some(Answer::from(output)))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that sleeps: there is no runtime whose worker it could block"
    )]
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
