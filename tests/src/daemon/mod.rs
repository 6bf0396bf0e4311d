//! A private node daemon: started, signalled, replaced and ended; held by `containerd` and `shim_driver`, and by tests.
//!
//! It has a state directory of its own in the fixture's directory and a configuration file of its own, so that nothing of
//! the machine's own daemon is read or reached. It is ended when dropped, also by a panic.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::command::{Command, Output};
use crate::poll::poll_until;
use crate::proc;
use crate::runtime;

mod settings;
mod state;

pub use settings::Settings;
pub use state::{Sandbox, State};

/// The variable that tells daemon and thin shim another manager socket than the machine's.
pub const SOCKET_VARIABLE: &str = "CONTAINERD_WASMTIMED_SOCKET";
/// The same of the daemon with an interpreter.
pub const INTERPRETER_SOCKET_VARIABLE: &str = "CONTAINERD_WASMID_SOCKET";
/// How long a daemon may take to come up, or to leave without guests, on a busy machine.
const UP_OR_DOWN: Duration = Duration::from_secs(20);
/// How long one that does not start may take to say why.
const SAYS_WHY: Duration = Duration::from_secs(5);

/// A daemon, running or ended.
#[derive(Debug)]
pub struct Daemon {
    home: PathBuf,
    state: State,
    settings: Settings,
    // None once its end was seen.
    process: Option<Child>,
    // Whether it was asked to leave, and so had to take everything with it.
    crashed: bool,
}

impl Daemon {
    /// Starts one for the fixture or shim driver in `home` and waits until it says that it is ready.
    pub fn start(home: &Path, settings: Settings) -> Result<Self> {
        let mut daemon = Self::prepared(home, settings)?;
        daemon.start_again()?;
        Ok(daemon)
    }

    /// The same with a listening socket as its descriptor 3, as a service manager hands one over.
    pub fn activated(home: &Path, settings: Settings, socket: impl Into<OwnedFd>) -> Result<Self> {
        // The variables name the process that may use it: the shell's pid, which becomes the daemon's.
        let taking =
            "LISTEN_FDS=1 LISTEN_PID=$$; export LISTEN_FDS LISTEN_PID; exec 3<&0 </dev/null";
        let mut daemon = Self::prepared(home, settings.before(taking))?;
        daemon.spawn(Stdio::from(socket.into()))?;
        Ok(daemon)
    }

    fn prepared(home: &Path, settings: Settings) -> Result<Self> {
        let program = settings.program();
        ensure!(program.exists(), "{} is missing: `make build` makes it", program.display());
        let (home, state) = (home.to_owned(), State::of(home));
        fs::write(home.join("daemon.toml"), &settings.config)?;
        Ok(Self { home, state, settings, process: None, crashed: false })
    }

    /// Starts it once more after its end, in the same state directory.
    pub fn start_again(&mut self) -> Result<()> {
        self.is_over()?;
        self.spawn(Stdio::null())
    }

    /// Starts another one with the same settings on the same manager socket, which takes over.
    pub fn successor(&self) -> Result<Self> {
        Self::start(&self.home, self.settings.clone())
    }

    /// The process that was started: the daemon, or with `--guard` its guard.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the daemon has ended")?.id())
    }

    /// Its state directory.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// `containerd-wasmtimed list`, which asks whoever has the manager socket.
    pub fn list(&self) -> Result<Output> {
        self.state.list(&self.state.socket())
    }

    /// `containerd-wasmtimed reload` with its settings of now; the exit status is an answer.
    pub fn reload(&self) -> Result<Output> {
        let config = self.config_file();
        let socket = self.state.socket();
        let reload = Command::new(runtime::daemon_file()).args([
            "reload",
            "--config",
            &config.to_string_lossy(),
        ]);
        reload.args(["--socket", &socket.to_string_lossy()]).run()
    }

    /// Changes the settings in its file, for its next start.
    pub fn reconfigure(&self, toml: &str) -> Result<()> {
        Ok(fs::write(self.config_file(), toml)?)
    }

    fn config_file(&self) -> PathBuf {
        self.home.join("daemon.toml")
    }

    /// What all daemons of this directory logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Sends a signal to the process that was started, and to no other.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(pid(self.pid()?)?, signal)
            .with_context(|| format!("cannot signal the daemon with {signal:?}"))
    }

    /// Waits for its end; gives its exit status, 128+n if a signal ended it.
    pub fn ends(&mut self, limit: Duration) -> Result<i32> {
        let child = self.process.as_mut().context("the daemon has ended")?;
        let status = poll_until("end of the daemon", limit, || child.try_wait().ok().flatten())?;
        self.process = None;
        let status = status.code().or(status.signal().map(|n| 128 + n)).unwrap_or(-1);
        self.crashed = status != 0;
        Ok(status)
    }

    /// Ends it by SIGKILL, as a crash would.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let status = self.ends(UP_OR_DOWN)?;
        ensure!(status == 137, "status {status} after SIGKILL");
        Ok(())
    }

    /// Asks it to leave and gives its exit status.
    pub fn terminate(&mut self) -> Result<i32> {
        self.signal(Signal::TERM)?;
        self.ends(UP_OR_DOWN)
    }

    /// At the end of a fixture: asks it to leave, and tells what of it is left.
    pub(crate) fn end(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.is_over().is_err() {
            match self.terminate() {
                Ok(0) => {}
                Ok(status) => faults.push(format!("the daemon left with status {status}")),
                Err(error) => faults.push(format!("the daemon stays: {error:#}")),
            }
        }
        // What a killed one leaves is its successor's to remove, not that of its sandboxes.
        let of_crashed = |line: &String| self.crashed && !line.starts_with("record");
        faults.extend(self.state.left().into_iter().filter(|line| !of_crashed(line)));
        faults.extend(self.processes().into_iter().map(|pid| format!("daemon process {pid}")));
        if !faults.is_empty() && !std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}---", self.log());
        }
        faults
    }

    /// Notes an end that nobody waited for; an error while it runs.
    fn is_over(&mut self) -> Result<()> {
        ensure!(!self.is_running(), "the daemon runs already");
        if self.process.is_some() {
            self.ends(UP_OR_DOWN)?;
        }
        Ok(())
    }

    fn spawn(&mut self, stdin: Stdio) -> Result<()> {
        let log = self.settings.stderr.clone().unwrap_or_else(|| self.log_file());
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = std::process::Command::new("sh");
        // The shell becomes the daemon, so the pid is the daemon's. Readiness comes on its stdout, by a number of
        // its own, since 3 and following may be sockets handed over.
        command.arg("-c").arg(format!("{}exec \"$@\" 9>&1 >&2", self.settings.before)).arg("sh");
        command.arg(self.settings.program().canonicalize()?);
        command
            .arg("--config")
            .arg(self.home.join("daemon.toml"))
            .arg("--socket")
            .arg(self.state.socket());
        command.args(["--bundle-root", "/tmp", "--ready-fd", "9"]).args(&self.settings.flags);
        command.envs(self.settings.env.iter().cloned());
        command.stdin(stdin).stdout(Stdio::piped()).stderr(log);
        self.settings.restrictions.put_on(&mut command);
        let mut child = command.spawn().context("cannot start the daemon")?;
        let ready = child.stdout.take().context("stdout is piped")?;
        // Kept also if it never answers: dropping it ends it.
        let child = self.process.insert(child);
        let answer = is_ready(ready);
        if answer.is_err() {
            // It closes the descriptor before it says why. One that hangs says nothing more.
            poll_until("end of a daemon that does not start", SAYS_WHY, || {
                child.try_wait().ok().flatten()
            })
            .ok();
        }
        answer.with_context(|| format!("the daemon does not start:\n{}", self.log()))
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("daemon.log")
    }

    /// OS processes of this directory's daemons, guards included.
    fn processes(&self) -> Vec<u32> {
        proc::with_argument(&self.state.socket().to_string_lossy())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            // Both fail only when it is gone already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Kills every daemon of this directory; for what no handle knows, like the process behind a guard.
pub(crate) fn sweep(state: &State) {
    for number in proc::with_argument(&state.socket().to_string_lossy()) {
        if let Ok(pid) = pid(number) {
            // Fails only if it ended by itself in between.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// Waits for the line `ready` and for the end of what it came by.
fn is_ready(pipe: ChildStdout) -> Result<()> {
    let (sender, line) = channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(pipe).lines();
        let said = lines.next().transpose().map(Option::unwrap_or_default);
        // A second line, or none and no end, would be a fault: the descriptor is to be closed.
        let more = lines.next().is_some();
        drop(sender.send((said, more)));
    });
    let (said, more) = line.recv_timeout(UP_OR_DOWN).context("it does not say that it is ready")?;
    match said?.as_str() {
        "ready" if !more => Ok(()),
        "" => bail!("it ended"),
        other => bail!("it said {other:?} instead of ready"),
    }
}

fn pid(number: u32) -> Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).context("no pid")
}
