//! Wish of a host for a successor, which its guard starts: the host's end of a reload.

use std::io;

use runwasi_core::shutdown::Tasks;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::watch,
};

use crate::readiness::{Sign, Supervisor};

/// Begins a line of the guard about a successor that has not come up.
const FAILED: &str = "failed ";

/// The guard as who starts successors.
pub(crate) struct Successors {
    supervisor: Supervisor,
    /// The last failure; closed when the guard has left.
    failures: watch::Receiver<String>,
}

impl Successors {
    /// `None` without a guard.
    pub(crate) fn of(supervisor: &Supervisor, tasks: &Tasks) -> io::Result<Option<Self>> {
        let Supervisor::Guard(guard) = supervisor else { return Ok(None) };
        let (sender, failures) = watch::channel(String::new());
        let socket = guard.try_clone()?;
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

    /// Asks for a successor. Resolves with the reason if there will be none.
    pub(crate) async fn failure(&self) -> String {
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

async fn read(socket: tokio::net::UnixStream, failures: watch::Sender<String>) {
    let mut lines = BufReader::new(socket).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(reason) = line.strip_prefix(FAILED) {
            failures.send_replace(reason.to_owned());
        }
    }
}
