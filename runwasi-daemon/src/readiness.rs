//! Tells whoever waits for it that the daemon serves: systemd by `sd_notify(3)`, others by a file descriptor.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::OwnedFd,
};

use sd_notify::NotifyState;

/// Who waits.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Gets `ready\n`, then its end.
    pub(crate) fd: Option<OwnedFd>,
    /// Whether systemd is told by this process; with a guard it is the guard that tells.
    pub(crate) systemd: bool,
}

impl Waiting {
    /// Tells them, once.
    pub(crate) fn ready(self) {
        if let Some(fd) = self.fd
            && let Err(error) = File::from(fd).write_all(b"ready\n")
        {
            tracing::warn!(%error, "nobody reads --ready-fd");
        }
        if self.systemd {
            tell_systemd(&[NotifyState::Ready]);
        }
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
        fds.push(runwasi_core::sys::adopt_fd(fd)?);
    }
    let extra = fds.len().saturating_sub(1);
    if extra > 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{extra} sockets too many: one is needed")));
    }
    Ok(fds.pop())
}
