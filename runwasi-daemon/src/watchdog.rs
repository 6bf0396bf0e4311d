//! The watchdog: proves to systemd that both runtimes of this process work. Does nothing unless
//! systemd watches the service.
//!
//! Before each sign of life both runtimes must have made progress. This task belongs to the control
//! runtime and waits for a task of the guest runtime. Guests that compute yield every millisecond,
//! so a busy node answers as well.

use std::time::Duration;

use runwasi_core::{scheduler::Guests, shutdown::Tasks};
use tokio::time::{sleep, timeout};

use crate::readiness::{Sign, Supervisor};

/// Starts the watchdog if systemd asks for it. It ends with `tasks`, or with the guard that it
/// reports to.
pub(crate) fn start(supervisor: &Supervisor, guests: Guests, tasks: &Tasks) {
    let Some(interval) = supervisor.watchdog_interval() else { return };
    let supervisor = supervisor.clone();
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            () = report(&supervisor, &guests, interval) => {}
            () = stopping.stopped() => {}
        }
    });
}

/// Sends a sign of life per `interval`, as long as the guest runtime answers.
async fn report(supervisor: &Supervisor, guests: &Guests, interval: Duration) {
    loop {
        // Bounded only for the log entry below: without an answer there is no sign of life.
        match timeout(interval, guests.answer()).await {
            Ok(true) => match (supervisor.tell(Sign::Alive), supervisor) {
                (Ok(()), _) => {}
                // The guard has exited, and with it the service that systemd watches.
                (Err(_), Supervisor::Guard(_)) => return,
                // Such as for lack of a file descriptor: the next sign may come in time.
                (Err(error), Supervisor::Systemd) => {
                    tracing::warn!(%error, "systemd does not get the sign of life");
                }
            },
            // The runtime is ending with the process.
            Ok(false) => return,
            // No reaction here: systemd kills the service if the signs stay away.
            Err(_) => {
                tracing::error!(seconds = interval.as_secs_f32(), "no worker of the guests answers")
            }
        }
        sleep(interval).await;
    }
}
