//! The watchdog: proves to systemd that both runtimes of this process work. Nothing runs where systemd
//! does not watch.
//!
//! A sign of life takes a turn on both: this task is one of the control runtime, and what it waits for
//! is done by a worker of the guests. Guests that compute yield every millisecond, so a busy node
//! answers as well.

use std::time::Duration;

use runwasi_core::{scheduler::Guests, shutdown::Tasks};
use tokio::time::{sleep, timeout};

use crate::readiness::{Sign, Supervisor};

/// Starts it if it is wanted; it ends with the other tasks, or with the guard that it reports to.
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

async fn report(supervisor: &Supervisor, guests: &Guests, interval: Duration) {
    loop {
        match timeout(interval, guests.answer()).await {
            // An error: the guard has left, and with it the service that systemd watches.
            Ok(true) if supervisor.tell(Sign::Alive).is_err() => return,
            Ok(true) => {}
            // The runtime is ending with the process.
            Ok(false) => return,
            Err(_) => {
                tracing::error!(seconds = interval.as_secs_f32(), "no worker of the guests answers")
            }
        }
        sleep(interval).await;
    }
}
