//! Signs of a daemon to its supervisor: ready, alive, stopping. A supervisor is systemd, by
//! `sd_notify(3)`, or the guard, by lines on a socket; a person has a file descriptor.
//!
//! ```text
//! host ── "ready" ──────▶ guard ── READY=1 ────▶ systemd
//! host ── "alive" ──────▶ guard ── WATCHDOG=1 ─▶ systemd      every half WatchdogSec=
//! host ── "reload" ─────▶ guard                               starts another host
//! host ◀─ "failed …" ──── guard                               the other host has ended before it was ready
//! ```

use std::{
    env,
    fs::File,
    io::{self, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::Arc,
    time::Duration,
};

use runwasi_core::sys;
use sd_notify::NotifyState;

/// Interval in microseconds that systemd demands of the process whose pid is in [`WATCHDOG_PID`].
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// Absent where the guard has passed the interval on.
pub(crate) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// A line of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// It serves.
    Ready,
    /// Both of its runtimes have just answered.
    Alive,
    /// It asks for a successor with the settings of now.
    Reload,
}

impl Sign {
    const ALL: [Self; 3] = [Self::Ready, Self::Alive, Self::Reload];

    /// Without its line feed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Alive => "alive",
            Self::Reload => "reload",
        }
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sign| sign.word() == line)
    }
}

/// Receiver of a daemon's signs.
#[derive(Clone)]
pub(crate) enum Supervisor {
    /// systemd, or nothing where `NOTIFY_SOCKET` is not set.
    Systemd,
    /// The guard, at the other end of this socket.
    Guard(Arc<UnixStream>),
}

impl Supervisor {
    /// The guard behind the descriptor of `--guard-fd`; systemd without one.
    pub(crate) fn of(guard_fd: Option<i32>) -> io::Result<Self> {
        let Some(fd) = guard_fd else { return Ok(Self::Systemd) };
        Ok(Self::Guard(Arc::new(UnixStream::from(sys::adopt_fd(fd)?))))
    }

    /// An error: the guard has left, as it does at a restart.
    pub(crate) fn tell(&self, sign: Sign) -> io::Result<()> {
        match (self, sign) {
            (Self::Guard(guard), sign) => {
                (&**guard).write_all(format!("{}\n", sign.word()).as_bytes())
            }
            (Self::Systemd, Sign::Ready) => sd_notify::notify(false, &[NotifyState::Ready]),
            (Self::Systemd, Sign::Alive) => sd_notify::notify(false, &[NotifyState::Watchdog]),
            (Self::Systemd, Sign::Reload) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }

    /// Half of the time after which systemd takes the service for dead; `None` if it does not watch.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        let interval = env::var(WATCHDOG_USEC).ok()?.parse().ok().filter(|usec| *usec > 0)?;
        let watched = env::var(WATCHDOG_PID).map_or(Ok(std::process::id()), |pid| pid.parse());
        (watched == Ok(std::process::id())).then(|| Duration::from_micros(interval) / 2)
    }

    /// systemd learns of a stop from the guard where there is one.
    pub(crate) fn stopping(&self) {
        if matches!(self, Self::Systemd) {
            tell_systemd(&[NotifyState::Stopping]);
        }
    }
}

/// Writes `ready\n` to the descriptor of `--ready-fd` and closes it.
pub(crate) fn write_ready(fd: OwnedFd) {
    if let Err(error) = File::from(fd).write_all(b"ready\n") {
        tracing::warn!(%error, "the reader of --ready-fd is gone");
    }
}

/// Fine where there is no systemd.
pub(crate) fn tell_systemd(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::warn!(%error, "systemd does not listen");
    }
}

/// The sockets that systemd has opened for this very process, the first of which is the manager's.
pub(crate) fn activated() -> io::Result<Option<OwnedFd>> {
    let mut fds = Vec::new();
    for fd in sd_notify::listen_fds()? {
        fds.push(sys::adopt_fd(fd)?);
    }
    let extra = fds.len().saturating_sub(1);
    if extra > 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{extra} sockets too many: one is needed"),
        ));
    }
    Ok(fds.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_single_words() {
        for sign in Sign::ALL {
            assert_eq!(Sign::parse(sign.word()), Some(sign));
        }
        assert_eq!(Sign::parse("failed"), None);
    }
}
