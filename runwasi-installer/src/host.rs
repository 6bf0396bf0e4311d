//! Programs of the host: `systemctl`, `sysctl`, `ctr`. A seam: tests record what would run.
//!
//! The installer's container has another root and other programs. `systemctl` ignores requests in a `chroot`, so a program
//! is started in the mount namespace of the host's first process, which needs the host's PID namespace (`hostPID`).

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where programs of a host are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Starts programs of the host.
pub trait Host {
    /// Runs a program to its end; any exit status is an answer.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, HostError>;

    /// Waits between two questions.
    fn pause(&self, time: Duration);

    /// The time, which bounds how long answers are waited for. A test has a clock of its own.
    fn now(&self) -> Instant {
        Instant::now()
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

impl Host for HostOf {
    fn run(&self, program: &str, arguments: &[&str]) -> Result<Answer, HostError> {
        let fail = |source| HostError::new(program, source);
        let namespace = File::open(format!("/proc/{}/ns/mnt", self.process)).map_err(fail)?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null());
        // SAFETY: between fork and exec the closure makes one system call on an open descriptor, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                let namespace = namespace.as_fd();
                move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))?;
                Ok(())
            });
        }
        let output = command.output().map_err(fail)?;
        Ok(Answer {
            success: output.status.success(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that sleeps: there is no runtime whose worker it could block"
    )]
    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
