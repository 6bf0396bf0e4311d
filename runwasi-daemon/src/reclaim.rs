//! Returns unused memory to the system, after the daemon has started and after sandboxes have ended.
//!
//! The engine keeps resources of ended guests, so that the next guest starts faster. Without a next
//! guest they are a waste. Some seconds after the end of the last sandbox, the engine and the
//! allocator therefore free all that is unused, and the code of the daemon leaves its resident set.
//! No timer runs while nothing ends.

use std::{sync::Arc, time::Duration};

use runwasi_core::{Engine, blocking::blocking, shutdown::Tasks, sys};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

/// Time without the end of a sandbox after which memory is returned.
// Within it the next guest may well come and use the memory again.
const QUIET: Duration = Duration::from_secs(5);

/// Longest time that further ends of sandboxes delay the return.
// On a node where sandboxes end all the time, a quiet period never comes.
const LONGEST: Duration = Duration::from_secs(60);

/// Handle of the task that returns memory.
pub(crate) struct Reclaim {
    /// Notified at the end of every sandbox.
    ended: Arc<Notify>,
}

impl Reclaim {
    /// Starts the task on `tasks`. It ends with them.
    pub(crate) fn start(engine: Arc<dyn Engine>, tasks: &Tasks) -> Self {
        let ended = Arc::new(Notify::new());
        let waiting = ended.clone();
        let stopping = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = reclaim(&waiting, &engine) => {}
                () = stopping.stopped() => {}
            }
        });
        Self { ended }
    }

    /// Reports the end of a sandbox.
    pub(crate) fn sandbox_ended(&self) {
        // `Notify` stores one permit: an end that comes while memory is being returned is not lost.
        self.ended.notify_one();
    }
}

/// Never returns.
async fn reclaim(ended: &Notify, engine: &Arc<dyn Engine>) {
    // What only the start has needed. The engine has nothing to free.
    sleep(QUIET).await;
    release(|| {}).await;
    loop {
        ended.notified().await;
        // Both outcomes lead to the return: a quiet period, or no such period for `LONGEST`.
        let _ = timeout(LONGEST, async { while timeout(QUIET, ended.notified()).await.is_ok() {} })
            .await;
        let engine = engine.clone();
        // First: the allocator can return only the memory that the engine has freed.
        release(move || engine.release_unused()).await;
    }
}

/// Returns memory to the system, after `first`. On the blocking pool: it takes milliseconds or more.
async fn release(first: impl FnOnce() + Send + 'static) {
    let released = blocking(
        move || {
            first();
            sys::trim_memory();
            sys::unmap_program();
            Ok(())
        },
        |lost| lost,
    );
    if let Err(error) = released.await {
        // A panic or no thread, which fails this return only. The memory is left to the next
        // guests.
        tracing::error!(%error, "memory is not given back");
    }
}
