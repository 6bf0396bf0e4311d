//! The metrics of the daemon, from the address of a predecessor to the address of a successor.

use std::sync::Arc;

use runwasi_core::{
    blocking::blocking,
    scrape::{answer::Answers, connections::serve},
    shutdown::Tasks,
};

use super::listener::Metrics;
use crate::daemon::Daemon;

/// Serves metrics until a successor does, or the tasks stop.
pub(crate) fn start(metrics: Metrics, answers: Answers, daemon: Arc<Daemon>, tasks: &Tasks) {
    if matches!(metrics, Metrics::Off) {
        return;
    }
    let stopping = tasks.clone();
    tasks.spawn(async move {
        let ended = async {
            tokio::select! {
                () = daemon.replaced() => {}
                () = stopping.stopped() => {}
            }
        };
        tokio::pin!(ended);
        let listener = tokio::select! {
            listener = metrics.listener() => listener,
            () = &mut ended => return,
        };
        let Some(listener) = listener else { return };
        tokio::select! {
            () = serve(&listener, Arc::new(answers)) => {}
            () = &mut ended => {}
        }
        // On the blocking pool, since it waits for the lock of the directory.
        let removed = blocking(
            move || listener.remove().map_err(|error| error.to_string()),
            |lost| lost.to_string(),
        );
        if let Err(error) = removed.await {
            tracing::error!(%error, "the socket of the metrics stays behind");
        }
    });
}
