//! The guard: a small parent process for systemd's sake, which runs with `--guard`.
//!
//! systemd counts a service as stopped when its main process has ended, and a restart begins with a
//! stop. Sandboxes must outlive it. So the main process is the guard, which starts hosts and waits:
//!
//! ```text
//! SIGTERM (stop) ────▶ guard ── SIGTERM ──▶ hosts: drain               it leaves with the status of the current one
//! SIGUSR2 (restart) ─▶ guard ── SIGUSR2 ──▶ current host: retires      it leaves at once, the hosts go on
//! SIGHUP, "reload" ──▶ guard ── starts a host, which retires the current one; one that fails changes nothing
//! SIGABRT (watchdog) ▶ guard ── SIGKILL ──▶ current host               it leaves with a failure
//! ```
//!
//! Hosts are started from the program's path, so that a reload also takes a new version. With
//! `KillMode=process` systemd leaves the hosts of a guard that has left alone; the next host takes over
//! from them.

use std::{
    env,
    ffi::OsString,
    future::pending,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, Command, ExitCode, ExitStatus},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::{Pid, Signal, kill_process},
};
use sd_notify::NotifyState;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

use crate::readiness::{self, Sign, WATCHDOG_PID, tell_systemd};

/// How hosts are started.
pub(crate) struct Plan {
    /// The command line of every host, without the program and without what the guard adds.
    pub(crate) arguments: Vec<OsString>,
    /// The manager's listening socket, if systemd has opened it.
    pub(crate) manager: Option<OwnedFd>,
    /// Descriptor that is told when the first host is ready.
    pub(crate) ready: Option<OwnedFd>,
}

/// A host: a daemon that is a child of this process.
struct Host {
    process: Child,
    signs: Lines<BufReader<tokio::net::UnixStream>>,
    /// The same socket, for writing.
    socket: UnixStream,
}

struct Guard {
    plan: Plan,
    /// The host that has the manager socket; `None` until the first one is ready.
    current: Option<Host>,
    /// Not ready yet.
    starting: Option<Host>,
    /// Replaced, and serving the sandboxes they have.
    retired: Vec<Host>,
    stopping: bool,
    /// Status of the current host after its end.
    ended: Option<ExitStatus>,
}

/// A message of the host that is starting, or of the current one.
enum Message {
    Starting(Option<Sign>),
    Current(Option<Sign>),
}

/// Runs until the last host, or the need for it, is gone.
pub(crate) fn run(plan: Plan) -> io::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut guard = Guard {
            plan,
            current: None,
            starting: None,
            retired: Vec::new(),
            stopping: false,
            ended: None,
        };
        guard.run().await
    })
}

impl Guard {
    async fn run(&mut self) -> io::Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut restart = signal(SignalKind::user_defined2())?;
        let mut reload = signal(SignalKind::hangup())?;
        let mut watchdog = signal(SignalKind::from_raw(libc::SIGABRT))?;
        let mut children = signal(SignalKind::child())?;
        self.starting = Some(self.start()?);
        loop {
            tokio::select! {
                _ = terminate.recv() => self.stop(),
                _ = interrupt.recv() => self.stop(),
                _ = restart.recv() => return Ok(self.leave_hosts()),
                _ = watchdog.recv() => return Ok(self.kill_current()),
                _ = reload.recv() => self.reload(),
                _ = children.recv() => {
                    if let Some(code) = self.reap() {
                        return Ok(code);
                    }
                }
                message = message(&mut self.starting, &mut self.current) => self.take(message),
            }
        }
    }

    /// Starts a host with one end of a new socket and with the manager's.
    fn start(&self) -> io::Result<Host> {
        let (ours, theirs) = UnixStream::pair()?;
        let program = env::args_os().next().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command.args(&self.plan.arguments).env_remove(WATCHDOG_PID);
        // systemd's own way names the pid of the process that may use it, which is ours.
        command.env_remove("LISTEN_PID").env_remove("LISTEN_FDS").env_remove("LISTEN_FDNAMES");
        let theirs = inherited(&theirs)?;
        command.arg("--guard-fd").arg(theirs.as_raw_fd().to_string());
        let manager = self.plan.manager.as_ref().map(inherited).transpose()?;
        if let Some(manager) = &manager {
            command.arg("--listen-fd").arg(manager.as_raw_fd().to_string());
        }
        let process = command.spawn()?;
        let socket = ours.try_clone()?;
        ours.set_nonblocking(true)?;
        let signs = BufReader::new(tokio::net::UnixStream::from_std(ours)?).lines();
        Ok(Host { process, signs, socket })
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Starting(Some(Sign::Ready)) => self.promote(),
            Message::Starting(Some(_)) => {}
            // Its end follows.
            Message::Starting(None) => {}
            Message::Current(Some(Sign::Alive)) => tell_systemd(&[NotifyState::Watchdog]),
            Message::Current(Some(Sign::Reload)) => self.reload(),
            Message::Current(Some(Sign::Ready) | None) => {}
        }
    }

    /// The host that was starting serves: it retires the current one by itself.
    fn promote(&mut self) {
        let ready = self.starting.take();
        match self.current.take() {
            Some(replaced) => self.retired.push(replaced),
            None => {
                tell_systemd(&[NotifyState::Ready]);
                if let Some(descriptor) = self.plan.ready.take() {
                    readiness::write_ready(descriptor);
                }
            }
        }
        self.current = ready;
    }

    fn reload(&mut self) {
        if self.stopping || self.starting.is_some() {
            return;
        }
        match self.start() {
            Ok(host) => self.starting = Some(host),
            Err(error) => self.tell_failure(&error.to_string()),
        }
    }

    /// The current host goes on; its caller of `reload` gets the reason.
    fn tell_failure(&self, reason: &str) {
        tracing::error!(reason, "not reloaded: the new daemon does not start");
        if let Some(current) = &self.current {
            // An error: it is ending.
            let _ = (&current.socket).write_all(format!("failed {reason}\n").as_bytes());
        }
    }

    /// Passed on each time it comes: a second one makes a host leave at once.
    fn stop(&mut self) {
        self.stopping = true;
        tell_systemd(&[NotifyState::Stopping]);
        for host in self.hosts() {
            host.signal(Signal::TERM);
        }
    }

    fn leave_hosts(&mut self) -> ExitCode {
        if let Some(current) = &self.current {
            current.signal(Signal::USR2);
        }
        if let Some(starting) = &self.starting {
            starting.signal(Signal::TERM);
        }
        ExitCode::SUCCESS
    }

    /// systemd has missed the signs of life. What hangs may be deaf to every other signal.
    fn kill_current(&mut self) -> ExitCode {
        tracing::error!("killed by the watchdog: the daemon gave no sign of life");
        for host in self.current.iter().chain(&self.starting) {
            host.signal(Signal::KILL);
        }
        ExitCode::FAILURE
    }

    /// Collects the hosts that have ended; gives the exit code if the guard is to end with them.
    fn reap(&mut self) -> Option<ExitCode> {
        self.retired.retain_mut(|host| host.end().is_none());
        if let Some(status) = self.starting.as_mut().and_then(Host::end) {
            self.starting = None;
            match &self.current {
                Some(_) => self.tell_failure(&status.to_string()),
                None => self.ended = self.ended.or(Some(status)),
            }
        }
        if let Some(status) = self.current.as_mut().and_then(Host::end) {
            self.current = None;
            self.ended = Some(status);
        }
        let ended = self.ended?;
        // Only a stop is over when all have ended.
        let over = self.starting.is_none() && (!self.stopping || self.retired.is_empty());
        // A host that had no handler yet when the stop came.
        let stopped_early = self.stopping && ended.signal() == Some(Signal::TERM.as_raw());
        over.then(|| if stopped_early { ExitCode::SUCCESS } else { exit_code(ended) })
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.current.iter().chain(&self.starting).chain(&self.retired)
    }
}

/// The next sign of either host; a host whose socket is closed has none any more.
async fn message(starting: &mut Option<Host>, current: &mut Option<Host>) -> Message {
    tokio::select! {
        sign = next_sign(starting) => Message::Starting(sign),
        sign = next_sign(current) => Message::Current(sign),
    }
}

async fn next_sign(host: &mut Option<Host>) -> Option<Sign> {
    let line = match host {
        Some(host) => host.signs.next_line().await,
        None => pending().await,
    };
    match line {
        Ok(Some(line)) => Sign::parse(&line),
        // Its end comes as a signal.
        Ok(None) | Err(_) => pending().await,
    }
}

impl Host {
    /// Its status, once it has ended.
    fn end(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        // An error: it has just ended.
        let _ = kill_process(Pid::from_child(&self.process), signal);
    }
}

/// A copy of a descriptor for the next child.
fn inherited(fd: impl AsFd) -> io::Result<OwnedFd> {
    let copy = fd.as_fd().try_clone_to_owned()?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => {
            tracing::error!(signal = status.signal(), "the daemon was killed");
            ExitCode::FAILURE
        }
    }
}
