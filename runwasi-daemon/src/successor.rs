//! The host's end of a reload: the request to the guard for a successor.

use std::io;

use runwasi_core::shutdown::Tasks;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
};

use crate::readiness::{Sign, Supervisor};

/// Prefix of the guard's line about a successor that has failed to start.
const FAILED: &str = "failed ";

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
