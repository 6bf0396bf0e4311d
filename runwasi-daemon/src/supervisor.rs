//! The guard: a small parent process for systemd, which `--guard` starts.
//!
//! systemd counts a service as stopped when its main process has ended, and a restart begins with a
//! stop. Sandboxes must outlive a restart. So the main process is the guard. It starts daemons
//! (hosts) as child processes and waits:
//!
//! | signal to the guard | hosts | guard |
//! |---|---|---|
//! | SIGTERM, SIGINT (stop) | all get SIGTERM and drain | exits with the current one's status |
//! | SIGUSR2 (restart) | the current one gets SIGUSR2 and retires | exits at once |
//! | SIGHUP, or a host's "reload" | a new one starts and retires the current one | goes on |
//! | SIGABRT (watchdog) | current and starting one get SIGKILL | exits with a failure |
//! | SIGUSR1 (containerd's for a dump of its stacks) | | goes on |
//!
//! A new host that fails changes nothing. Hosts are started by the path of the program, so a reload
//! also brings in a new version. `KillMode=process` makes systemd leave the hosts of an exited
//! guard alone; the next host takes over from them.

use std::{
    env,
    ffi::OsString,
    future::pending,
    io::{self, Write},
    mem,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::PathBuf,
    process::{Child, Command, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use runwasi_core::task_limits;
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

use crate::{
    manager::RELOAD_PATIENCE,
    readiness::{self, Sign, WATCHDOG_PID, tell_systemd},
    successor::GUARD_SOCKET,
};

/// Age from which a host that is not ready gives way to the next one.
// The callers of its reload have given up by then.
const LONGEST_START: Duration = RELOAD_PATIENCE;

/// Start parameters of the hosts.
pub(crate) struct Plan {
    /// The manager socket, which no reload moves.
    pub(crate) socket: PathBuf,
    /// The command line of every host, without the program and the arguments that the guard adds.
    pub(crate) arguments: Vec<OsString>,
    /// The listening manager socket, if this process has got it from its parent.
    pub(crate) manager: Option<OwnedFd>,
    /// File descriptor that gets `ready` when the first host is ready.
    pub(crate) ready: Option<OwnedFd>,
}

/// A host: a daemon that is a child of this process.
struct Host {
    process: Child,
    /// The lines that it sends.
    signs: Lines<BufReader<tokio::net::UnixStream>>,
    /// The same socket, for writing.
    socket: UnixStream,
    /// Time of its start.
    started: Instant,
}

struct Guard {
    plan: Plan,
    /// The newest host that is ready, which takes new sandboxes. Absent until the first one is
    /// ready.
    current: Option<Host>,
    /// A host that has been started and is not ready yet.
    starting: Option<Host>,
    /// Replaced hosts, which serve their sandboxes to the end, and killed ones that have not ended.
    retired: Vec<Host>,
    /// A reload was asked for after the start of the starting host, which may have read the settings
    /// before.
    again: bool,
    /// Set by the first SIGTERM or SIGINT.
    stopping: bool,
    /// Exit status of the current host, or of one that ended before it could become current. Absent
    /// while there is a current host.
    ended: Option<ExitStatus>,
}

/// A line of the starting host or of the current one. Without a sign if the line is unknown.
enum Message {
    Starting(Option<Sign>),
    Current(Option<Sign>),
}

/// Runs the guard. Returns the exit code of the process.
pub(crate) fn run(plan: Plan) -> io::Result<ExitCode> {
    // One thread without timers: the guard only waits, and lives as long as the service.
    let runtime = Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut guard = Guard {
            plan,
            current: None,
            starting: None,
            retired: Vec::new(),
            again: false,
            stopping: false,
            ended: None,
        };
        guard.run().await
    })
}

impl Guard {
    async fn run(&mut self) -> io::Result<ExitCode> {
        // Before the first host: its SIGCHLD, or an early stop, must find a handler.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut restart = signal(SignalKind::user_defined2())?;
        let mut reload = signal(SignalKind::hangup())?;
        let mut dump = signal(SignalKind::user_defined1())?;
        let mut watchdog = signal(SignalKind::from_raw(libc::SIGABRT))?;
        let mut children = signal(SignalKind::child())?;
        self.starting = Some(self.start()?);
        loop {
            tokio::select! {
                // A host that has become ready is no longer one that a reload may replace.
                biased;
                message = message(&mut self.starting, &mut self.current) => self.take(message),
                _ = terminate.recv() => self.stop(),
                _ = interrupt.recv() => self.stop(),
                _ = restart.recv() => return Ok(self.leave_hosts()),
                _ = watchdog.recv() => return Ok(self.kill_current()),
                _ = reload.recv() => self.reload(),
                _ = dump.recv() => {}
                _ = children.recv() => {
                    if let Some(code) = self.reap() {
                        return Ok(code);
                    }
                }
            }
        }
    }

    /// Starts a host, which inherits one end of a new socket and the manager socket.
    fn start(&self) -> io::Result<Host> {
        let (ours, theirs) = UnixStream::pair()?;
        let program = env::args_os().next().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        // `WATCHDOG_PID` names the guard. Without it the host takes the interval for its own.
        command.args(&self.plan.arguments).env_remove(WATCHDOG_PID);
        command.env(GUARD_SOCKET, &self.plan.socket);
        // `LISTEN_PID` names the guard as the only process that may use the sockets. The host gets
        // the number of its descriptor as an argument instead.
        command.env_remove("LISTEN_PID").env_remove("LISTEN_FDS").env_remove("LISTEN_FDNAMES");
        // These copies are closed at the end of this function: no later child inherits them.
        let theirs = inherited(&theirs)?;
        command.arg("--guard-fd").arg(theirs.as_raw_fd().to_string());
        let manager = self.plan.manager.as_ref().map(inherited).transpose()?;
        if let Some(manager) = &manager {
            command.arg("--listen-fd").arg(manager.as_raw_fd().to_string());
        }
        let process = command.spawn().map_err(task_limits::named)?;
        let socket = ours.try_clone()?;
        ours.set_nonblocking(true)?;
        let signs = BufReader::new(tokio::net::UnixStream::from_std(ours)?).lines();
        Ok(Host { process, signs, socket, started: Instant::now() })
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Starting(Some(Sign::Ready)) => self.promote(),
            // Ignored until the host is ready: the guard reports the current one to systemd.
            Message::Starting(Some(_)) => {}
            // An unknown line: after a reload the host may be of a newer version than the guard.
            Message::Starting(None) => {}
            Message::Current(Some(Sign::Alive)) => tell_systemd(NotifyState::Watchdog),
            Message::Current(Some(Sign::Reload)) => self.reload(),
            Message::Current(Some(Sign::Ready) | None) => {}
        }
    }

    /// Makes the starting host the current one.
    fn promote(&mut self) {
        let ready = self.starting.take();
        match self.current.take() {
            // Without a signal: the new host itself tells its predecessors to retire.
            Some(replaced) => self.retired.push(replaced),
            None => {
                // With the first host the service is ready, and stays so over every reload.
                tell_systemd(NotifyState::Ready);
                if let Some(descriptor) = self.plan.ready.take() {
                    readiness::write_ready(descriptor);
                }
            }
        }
        self.current = ready;
        // If the host before has ended meanwhile: this one has taken its place, so its end is no
        // longer a reason to exit.
        self.ended = None;
        self.reload_again();
    }

    fn reload(&mut self) {
        if self.stopping {
            return;
        }
        if let Some(starting) = self.starting.take_if(|host| host.started.elapsed() > LONGEST_START)
        {
            // It hangs: without this, no reload would ever start another one.
            tracing::error!("the new daemon is not ready, killed for the next one");
            starting.signal(Signal::KILL);
            self.retired.push(starting);
        }
        // At most one host starts at a time. Its outcome answers this request as well, and one more
        // start takes the settings of now.
        if self.starting.is_some() {
            self.again = true;
            return;
        }
        match self.start() {
            Ok(host) => self.starting = Some(host),
            Err(error) => self.tell_failure(&error.to_string()),
        }
    }

    /// Starts a host for the requests that came during the last start.
    fn reload_again(&mut self) {
        if mem::take(&mut self.again) {
            self.reload();
        }
    }

    /// Logs the failure of a new host and sends the reason to the current one, for the callers of
    /// `reload`.
    fn tell_failure(&self, reason: &str) {
        tracing::error!(reason, "not reloaded: the new daemon does not start");
        if let Some(current) = &self.current {
            // An error: the current host is ending, and the connections of these callers with it.
            let _ = (&current.socket).write_all(format!("failed {reason}\n").as_bytes());
        }
    }

    /// Passes a stop on to all hosts.
    fn stop(&mut self) {
        self.stopping = true;
        tell_systemd(NotifyState::Stopping);
        // Every time and not only the first time: a second SIGTERM makes a host exit undrained.
        for host in self.hosts() {
            host.signal(Signal::TERM);
        }
    }

    /// Leaves the hosts to the next guard.
    fn leave_hosts(&mut self) -> ExitCode {
        // Retired, it serves its sandboxes to the end.
        if let Some(current) = &self.current {
            current.signal(Signal::USR2);
        }
        // The next guard starts a host of its own. The same signal: this one may serve sandboxes
        // already, and ends by it if it does not.
        if let Some(starting) = &self.starting {
            starting.signal(Signal::USR2);
        }
        ExitCode::SUCCESS
    }

    /// Kills the current and the starting host after systemd has missed the signs of life.
    fn kill_current(&mut self) -> ExitCode {
        tracing::error!("killed by the watchdog: the daemon gave no sign of life");
        // SIGKILL: a host that hangs may not handle any other signal. Retired hosts are not
        // watched.
        for host in self.current.iter().chain(&self.starting) {
            host.signal(Signal::KILL);
        }
        ExitCode::FAILURE
    }

    /// Reaps the hosts that have ended. Returns an exit code if the guard must end, too.
    fn reap(&mut self) -> Option<ExitCode> {
        // All hosts are asked: SIGCHLD is not queued, so one signal may stand for several of them.
        self.retired.retain_mut(|host| host.end().is_none());
        if let Some(status) = self.starting.as_mut().and_then(Host::end) {
            self.starting = None;
            match &self.current {
                // A failed reload is no end: the current host serves as before.
                Some(_) => {
                    self.tell_failure(&status.to_string());
                    self.reload_again();
                }
                None => self.ended = self.ended.or(Some(status)),
            }
        }
        if let Some(status) = self.current.as_mut().and_then(Host::end) {
            self.current = None;
            self.ended = Some(status);
        }
        let ended = self.ended?;
        // In a stop the guard waits for the retired hosts, since their guests drain as well.
        // Otherwise it leaves them: systemd starts the next guard only after the end of this one.
        let over = self.starting.is_none() && (!self.stopping || self.retired.is_empty());
        // SIGTERM kills a host that has not installed its handler yet. In a stop this is no
        // failure.
        let stopped_early = self.stopping && ended.signal() == Some(Signal::TERM.as_raw());
        over.then(|| if stopped_early { ExitCode::SUCCESS } else { exit_code(ended) })
    }

    fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.current.iter().chain(&self.starting).chain(&self.retired)
    }
}

/// The next line of the starting host or of the current one.
async fn message(starting: &mut Option<Host>, current: &mut Option<Host>) -> Message {
    // A line that has arrived in part is not lost: `next_line` is cancel safe.
    tokio::select! {
        biased;
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
        // The socket is closed, which SIGCHLD follows. A return here would make the caller spin.
        Ok(None) | Err(_) => pending().await,
    }
}

impl Host {
    /// Exit status, once the process has ended.
    fn end(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        // The pid is still the host's: `reap` drops a host when it has collected its process. An
        // error means that the process has ended.
        let _ = kill_process(Pid::from_child(&self.process), signal);
    }
}

/// A copy of a descriptor that the next child inherits.
fn inherited(fd: impl AsFd) -> io::Result<OwnedFd> {
    // The copy has the flag close-on-exec, like every descriptor that std opens.
    let copy = fd.as_fd().try_clone_to_owned()?;
    fcntl_setfd(&copy, FdFlags::empty())?;
    Ok(copy)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    // No code after a signal, and systemd restarts the service only after a failure.
    match status.code().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => {
            tracing::error!(signal = status.signal(), "the daemon was killed");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    /// A child process in the place of a daemon.
    fn host(command: &mut Command) -> Host {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let socket = ours.try_clone().unwrap();
        ours.set_nonblocking(true).unwrap();
        let signs = BufReader::new(tokio::net::UnixStream::from_std(ours).unwrap()).lines();
        Host { process: command.spawn().unwrap(), signs, socket, started: Instant::now() }
    }

    /// A host that has ended, with a failure.
    fn dead() -> Host {
        let mut host = host(&mut Command::new("false"));
        host.process.wait().unwrap();
        host
    }

    /// A host that lives until it is waited for, which closes its stdin.
    fn alive() -> Host {
        host(Command::new("cat").stdin(Stdio::piped()))
    }

    fn guard(current: Host, starting: Option<Host>) -> Guard {
        let socket = PathBuf::new();
        let plan = Plan { socket, arguments: Vec::new(), manager: None, ready: None };
        let current = Some(current);
        let retired = Vec::new();
        Guard { plan, current, starting, retired, again: false, stopping: false, ended: None }
    }

    #[tokio::test]
    async fn the_current_host_may_die_while_its_successor_starts() {
        let mut guard = guard(dead(), Some(alive()));
        assert!(guard.reap().is_none(), "the successor may still become ready");
        guard.promote();
        assert!(guard.reap().is_none(), "the successor lives");
        guard.current.as_mut().unwrap().process.wait().unwrap();
        assert!(guard.reap().is_some(), "it ends like any current host");
    }

    #[tokio::test]
    async fn the_guard_ends_if_the_successor_of_a_dead_host_fails() {
        let mut guard = guard(dead(), Some(alive()));
        assert!(guard.reap().is_none());
        guard.starting.as_mut().unwrap().process.wait().unwrap();
        assert!(guard.reap().is_some());
    }

    #[tokio::test]
    async fn reload_during_a_start_is_followed_by_another_start() {
        for fails in [false, true] {
            let mut guard = guard(alive(), Some(alive()));
            guard.reload();
            let first = guard.starting.as_mut().unwrap().process.id();
            match fails {
                false => guard.promote(),
                true => {
                    guard.starting.as_mut().unwrap().process.wait().unwrap();
                    assert!(guard.reap().is_none());
                }
            }
            // Starts this program, which does not know the arguments.
            let mut second = guard.starting.take().unwrap();
            assert_ne!(second.process.id(), first);
            second.process.wait().unwrap();
            guard.starting = Some(second);
            assert!(guard.reap().is_none() && guard.starting.is_none(), "once");
        }
    }

    #[tokio::test]
    async fn reload_waits_for_a_start_and_replaces_one_that_hangs() {
        let mut guard = guard(alive(), Some(alive()));
        let starting = |guard: &Guard| guard.starting.as_ref().map(|host| host.process.id());
        let first = starting(&guard);
        guard.reload();
        assert_eq!(starting(&guard), first);
        let long_ago = Instant::now().checked_sub(2 * LONGEST_START).unwrap();
        guard.starting.as_mut().unwrap().started = long_ago;
        // Starts this program, which does not know the arguments.
        guard.reload();
        assert!(starting(&guard).is_some() && starting(&guard) != first);
        let killed = guard.retired.pop().unwrap().process.wait().unwrap();
        assert_eq!(killed.signal(), Some(Signal::KILL.as_raw()));
        guard.starting.unwrap().process.wait().unwrap();
    }
}
