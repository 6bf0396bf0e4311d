//! Signs of a daemon to its supervisor: ready, alive, stopping.
//!
//! The supervisor is systemd, by `sd_notify(3)`, or the guard, by lines on a socket. Scripts and
//! people get the readiness on a file descriptor.
//!
//! ```text
//! host ── "ready" ──────▶ guard ── READY=1 ────▶ systemd
//! host ── "alive" ──────▶ guard ── WATCHDOG=1 ─▶ systemd      every half WatchdogSec=
//! host ── "reload" ─────▶ guard                               starts another host
//! host ◀─ "failed …" ──── guard                               that host ended before it was ready
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

use crate::notify_socket::notify;

/// Variable of systemd: interval of its watchdog in microseconds.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// Variable of systemd: pid of the process that it watches. The guard removes it for its hosts.
pub(crate) const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// A line of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// The daemon serves.
    Ready,
    /// Both runtimes of the daemon have just answered.
    Alive,
    /// The daemon asks for a successor with the settings of now.
    Reload,
}

impl Sign {
    const ALL: [Self; 3] = [Self::Ready, Self::Alive, Self::Reload];

    /// The line of the sign, without its line feed.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Alive => "alive",
            Self::Reload => "reload",
        }
    }

    /// The sign of a line. No result for an unknown line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sign| sign.word() == line)
    }
}

/// Receiver of a daemon's signs.
#[derive(Clone)]
pub(crate) enum Supervisor {
    /// systemd. Without `NOTIFY_SOCKET` there is no receiver, and signs are dropped.
    Systemd,
    /// The guard, at the other end of this socket.
    Guard(Arc<UnixStream>),
}

impl Supervisor {
    /// The guard at the other end of the descriptor of `--guard-fd`, else systemd.
    pub(crate) fn of(guard_fd: Option<i32>) -> io::Result<Self> {
        let Some(fd) = guard_fd else { return Ok(Self::Systemd) };
        Ok(Self::Guard(Arc::new(UnixStream::from(sys::adopt_fd(fd)?))))
    }

    /// Sends a sign. With a guard, an error means that it has exited, as it does at a restart.
    pub(crate) fn tell(&self, sign: Sign) -> io::Result<()> {
        match (self, sign) {
            (Self::Guard(guard), sign) => {
                (&**guard).write_all(format!("{}\n", sign.word()).as_bytes())
            }
            (Self::Systemd, Sign::Ready) => notify(NotifyState::Ready),
            (Self::Systemd, Sign::Alive) => notify(NotifyState::Watchdog),
            // systemd starts no second daemon beside the first.
            (Self::Systemd, Sign::Reload) => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }

    /// Half of the watchdog's timeout. No result if systemd does not watch this process.
    // Half is the advice of `sd_watchdog_enabled(3)`: one late sign does no harm.
    pub(crate) fn watchdog_interval(&self) -> Option<Duration> {
        let interval = env::var(WATCHDOG_USEC).ok()?.parse().ok().filter(|usec| *usec > 0)?;
        // Without a pid the guard has passed the interval on, so this process is meant.
        let watched = env::var(WATCHDOG_PID).map_or(Ok(std::process::id()), |pid| pid.parse());
        (watched == Ok(std::process::id())).then(|| Duration::from_micros(interval) / 2)
    }

    /// Reports a stop.
    pub(crate) fn stopping(&self) {
        // The guard reports a stop itself, as it gets the signal first.
        if matches!(self, Self::Systemd) {
            tell_systemd(NotifyState::Stopping);
        }
    }
}

/// Writes `ready\n` to the descriptor of `--ready-fd` and closes it.
pub(crate) fn write_ready(fd: OwnedFd) {
    // Only logged: the daemon serves all the same.
    if let Err(error) = File::from(fd).write_all(b"ready\n") {
        tracing::warn!(%error, "the reader of --ready-fd is gone");
    }
}

/// Sends a state to systemd. An error is logged.
pub(crate) fn tell_systemd(state: NotifyState) {
    if let Err(error) = notify(state) {
        tracing::warn!(%error, "systemd does not listen");
    }
}

/// The manager socket, if systemd has opened one for this process. Further sockets are an error.
pub(crate) fn activated() -> io::Result<Option<OwnedFd>> {
    // Adopted one by one, so that an error closes those before it.
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
    fn every_sign_is_parsed_from_its_own_word() {
        for sign in Sign::ALL {
            assert_eq!(Sign::parse(sign.word()), Some(sign));
        }
        assert_eq!(Sign::parse("failed"), None);
    }
}
