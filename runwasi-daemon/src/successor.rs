//! The host's end of a reload: the request to the guard for a successor, and what a successor must
//! not change.

use std::{
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

use runwasi_core::shutdown::Tasks;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
};

use crate::readiness::{Sign, Supervisor};

/// Prefix of the guard's line about a successor that has failed to start.
const FAILED: &str = "failed ";

/// Variable by which a guard tells its hosts the manager socket of the first one.
// Not a flag: after a reload a host may be of an earlier version, which would refuse it.
pub(crate) const GUARD_SOCKET: &str = "RUNWASI_GUARD_SOCKET";

/// The settings have another manager socket than those that the guard was started with.
// The successor would serve beside its predecessor: it looks for others in its own state directory.
// And thin shims that know one of the sockets would not find the sandboxes of the other daemon.
#[derive(Debug, thiserror::Error)]
#[error(
    "socket: a reload does not move the manager socket from {} to {}: end the containers, stop the \
     daemon, and start it again",
    from.display(),
    to.display()
)]
pub(crate) struct MovedSocket {
    from: PathBuf,
    to: PathBuf,
}

/// Checks the socket of the settings against that of the guard, if there is one.
pub(crate) fn check_socket(guard: Option<&OsStr>, settings: &Path) -> Result<(), MovedSocket> {
    match guard.map(Path::new) {
        Some(from) if from != settings => {
            Err(MovedSocket { from: from.to_owned(), to: settings.to_owned() })
        }
        // Absent: a guard of an earlier version does not tell.
        _ => Ok(()),
    }
}

/// The guard, as the process that starts successors.
pub(crate) struct Successors {
    supervisor: Supervisor,
    /// Reason of the last failure. Closed when the guard has exited.
    failures: watch::Receiver<String>,
}

impl Successors {
    /// Starts the task that reads the guard's lines. No result without a guard.
    pub(crate) fn of(supervisor: &Supervisor, tasks: &Tasks) -> io::Result<Option<Self>> {
        let Supervisor::Guard(guard) = supervisor else { return Ok(None) };
        let (sender, failures) = watch::channel(String::new());
        let socket = guard.try_clone()?;
        // Tokio requires it. The copy shares the flag with the socket that signs are written to: a
        // write to a full socket fails there instead of blocking.
        socket.set_nonblocking(true)?;
        let lines = tokio::net::UnixStream::from_std(socket)?;
        let stopping = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = read(lines, sender) => {}
                () = stopping.stopped() => {}
            }
        });
        Ok(Some(Self { supervisor: supervisor.clone(), failures }))
    }

    /// Asks for a successor. Resolves if it fails to start, with the reason.
    pub(crate) async fn failure(&self) -> String {
        // Before the request: an earlier failure does not count, and an early one is not lost.
        let mut failures = self.failures.clone();
        failures.mark_unchanged();
        if let Err(error) = self.supervisor.tell(Sign::Reload) {
            return format!("the guard has left: {error}");
        }
        match failures.changed().await {
            Ok(()) => failures.borrow().clone(),
            Err(_) => "the guard has left".to_owned(),
        }
    }
}

/// Reads the guard's lines until its socket is closed.
async fn read(socket: tokio::net::UnixStream, failures: watch::Sender<String>) {
    let mut lines = BufReader::new(socket).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(reason) = line.strip_prefix(FAILED) {
            failures.send_replace(reason.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successor_with_another_socket_is_refused() {
        let check = |guard: Option<&str>| {
            let checked = check_socket(guard.map(OsStr::new), Path::new("/run/new/m.sock"));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!((check(None), check(Some("/run/new/m.sock"))), (Ok(()), Ok(())));
        let refused = check(Some("/run/old/m.sock")).unwrap_err();
        assert!(refused.contains("from /run/old/m.sock to /run/new/m.sock: "), "{refused}");
    }
}
