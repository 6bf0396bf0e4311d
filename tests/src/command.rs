//! A child process with captured output and a deadline; every `ctr` and shim call of the tests and benches is one.
//!
//! A call that outlives its deadline is killed and becomes an error with the command line in it: a hung
//! call is a finding, never a hung test run.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::console::{self, Console};
use crate::running::Running;

/// Long enough for a loaded 2-core machine, short enough that a hang is reported while one still watches.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A command to run; like `std::process::Command`, with stdin bytes and a deadline.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    line: String,
    stdin: Vec<u8>,
    deadline: Duration,
}

/// What an ended command left: its command line, exit status and output.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// Exit code, or 128+n when a signal ended the command.
    pub status: i32,
    /// Everything it wrote to stdout.
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr.
    pub stderr: Vec<u8>,
    /// From just before the spawn until the exit was seen.
    pub took: Duration,
}

impl Command {
    /// A command with nothing on stdin and the usual deadline.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            line: program.as_ref().to_string_lossy().into_owned(),
            inner: std::process::Command::new(program),
            stdin: Vec::new(),
            deadline: DEADLINE,
        }
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        for arg in args {
            self.line.push(' ');
            self.line.push_str(&arg.as_ref().to_string_lossy());
            self.inner.arg(arg);
        }
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Sets the working directory.
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.inner.current_dir(dir);
        self
    }

    /// Writes these bytes to stdin, then closes it.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Replaces the deadline.
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit;
        self
    }

    /// Runs to the end; any exit status is an answer, only a missed deadline or a failed spawn is an error.
    pub fn run(self) -> Result<Output> {
        self.spawn()?.wait()
    }

    /// Starts in the background, its three streams a terminal's.
    pub fn spawn_at_terminal(mut self) -> Result<Console> {
        let (master, slave) = console::open(80, 24)?;
        let stream = || slave.try_clone().map(Stdio::from).context("terminal");
        self.inner.stdin(stream()?).stdout(stream()?).stderr(stream()?);
        let child = self.inner.spawn().with_context(|| format!("cannot run {}", self.line))?;
        // Also our copies: the terminal's end is seen when nobody has it open.
        drop(self.inner);
        Console::new(child, self.line, master, slave, self.deadline)
    }

    /// Starts in the background; the deadline counts from here.
    pub fn spawn(mut self) -> Result<Running> {
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        self.inner.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = self.inner.spawn().with_context(|| format!("cannot run {}", self.line))?;
        if let Some(mut pipe) = child.stdin.take() {
            // A thread, because the child may fill its stdout before it has read all of its stdin. A child
            // that ends early breaks the pipe, which is its right.
            std::thread::spawn(move || drop(pipe.write_all(&self.stdin)));
        }
        Running::collect(child, self.line, began, self.deadline)
    }
}

impl Output {
    /// Stdout as text.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Stderr as text.
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Demands exit status 0.
    pub fn ok(self) -> Result<Self> {
        self.status_is(0)
    }

    /// Demands this exit status.
    pub fn status_is(self, wanted: i32) -> Result<Self> {
        ensure!(self.status == wanted, "status {} instead of {wanted} from {self}", self.status);
        Ok(self)
    }

    /// Demands a failure and gives what the command said about it.
    pub fn refused(self) -> Result<String> {
        ensure!(self.status != 0, "succeeded, but should have failed: {self}");
        Ok(format!("{}{}", self.out(), self.err()))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (out, err) = (shortened(&self.stdout), shortened(&self.stderr));
        write!(
            f,
            "`{}` (status {}, {:?})\nstdout: {out}\nstderr: {err}",
            self.line, self.status, self.took
        )
    }
}

fn shortened(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(2000)];
    let mut text = String::from_utf8_lossy(shown).into_owned();
    if shown.len() < bytes.len() {
        text.push_str(&format!("… ({} bytes in all)", bytes.len()));
    }
    text
}
