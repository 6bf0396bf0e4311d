//! The guard: a small parent process for systemd's sake.
//!
//! systemd counts a service as stopped when its main process has ended, and a restart begins with a stop. Sandboxes must
//! outlive it. So the main process is the guard, which does nothing but wait:
//!
//! ```text
//! systemd ── SIGTERM (stop) ────▶ guard ── SIGTERM ──▶ host: drains         guard leaves with the host's status
//! systemd ── SIGUSR2 (restart) ─▶ guard ── SIGUSR2 ──▶ host: retires        guard leaves at once, the host goes on
//! ```
//!
//! With `KillMode=process` systemd leaves the retired host alone; the next one takes over from it.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    process::ExitCode,
};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};
use sd_notify::NotifyState;
use signal_hook::{
    consts::{SIGCHLD, SIGINT, SIGTERM, SIGUSR2},
    iterator::Signals,
};

use runwasi_core::sys;

use crate::readiness::{Waiting, tell_systemd};

/// Which of the two processes this is now.
pub(crate) enum Side {
    /// The guard, at its end.
    Guard(ExitCode),
    /// The host, which is to tell the guard when it serves.
    Host(Waiting),
}

/// Becomes guard and host. To be called before any thread exists.
pub(crate) fn split(fd: Option<OwnedFd>) -> io::Result<Side> {
    let (ready, tell) = io::pipe()?;
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR2, SIGCHLD])?;
    match sys::fork_with_pid()? {
        None => {
            signals.handle().close();
            drop((ready, fd));
            Ok(Side::Host(Waiting { fd: Some(tell.into()), systemd: false }))
        }
        Some(host) => {
            drop(tell);
            if becomes_ready(ready.into()) {
                Waiting { fd, systemd: true }.ready();
            }
            Ok(Side::Guard(guard(host, &mut signals)))
        }
    }
}

/// Whether the host serves, or has failed. Signals wait meanwhile; a host that starts takes a fraction of a second.
fn becomes_ready(pipe: OwnedFd) -> bool {
    let mut said = String::new();
    File::from(pipe).read_to_string(&mut said).is_ok() && !said.is_empty()
}

fn guard(host: Pid, signals: &mut Signals) -> ExitCode {
    // One that ended before we waited for signals has sent its own already.
    for signal in signals.forever() {
        match signal {
            SIGTERM | SIGINT => {
                tell_systemd(&[NotifyState::Stopping]);
                let _ = kill_process(host, Signal::TERM);
            }
            SIGUSR2 => {
                let _ = kill_process(host, Signal::USR2);
                return ExitCode::SUCCESS;
            }
            _ => match waitpid(Some(host), WaitOptions::NOHANG) {
                Ok(None) => {}
                Ok(Some((_, status))) => return exit_code(status),
                Err(_) => return ExitCode::FAILURE,
            },
        }
    }
    ExitCode::FAILURE
}

fn exit_code(status: WaitStatus) -> ExitCode {
    match status.exit_status().map(u8::try_from) {
        Some(Ok(code)) => ExitCode::from(code),
        _ => ExitCode::FAILURE,
    }
}
