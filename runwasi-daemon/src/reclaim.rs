//! Gives memory back to the system when sandboxes have ended.
//!
//! What a guest has used is kept for the next one, which then starts faster. Where no next one comes it is a waste: so some seconds
//! after the last sandbox's end the engine and the allocator give back what nobody uses. Between such ends nothing wakes up.

use std::{sync::Arc, time::Duration};

use runwasi_core::{Engine, shutdown::Tasks, sys};
use tokio::{sync::Notify, task::spawn_blocking, time::timeout};

/// How long no sandbox may end before it is worth the work.
const QUIET: Duration = Duration::from_secs(5);

/// How long it may be put off.
const LONGEST: Duration = Duration::from_secs(60);

/// A task that waits for sandboxes' ends.
pub(crate) struct Reclaim {
    ended: Arc<Notify>,
}

impl Reclaim {
    pub(crate) fn start(engine: Arc<dyn Engine>, tasks: &Tasks) -> Self {
        let ended = Arc::new(Notify::new());
        let (waiting, stopping) = (ended.clone(), tasks.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = reclaim_after_ends(&waiting, &engine) => {}
                () = stopping.stopped() => {}
            }
        });
        Self { ended }
    }

    /// A sandbox is gone.
    pub(crate) fn sandbox_ended(&self) {
        self.ended.notify_one();
    }
}

async fn reclaim_after_ends(ended: &Notify, engine: &Arc<dyn Engine>) {
    loop {
        ended.notified().await;
        // Where they end all the time it is done now and then all the same.
        let _ = timeout(LONGEST, async { while timeout(QUIET, ended.notified()).await.is_ok() {} })
            .await;
        let engine = engine.clone();
        let tidied = spawn_blocking(move || {
            engine.release_unused();
            sys::trim_memory();
        });
        if let Err(error) = tidied.await {
            tracing::error!(%error, "memory is not given back");
        }
    }
}
