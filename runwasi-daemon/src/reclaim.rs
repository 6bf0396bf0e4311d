//! Returns unused memory to the system, after starts and after sandboxes have ended.
//!
//! The engine keeps resources of ended guests, so that the next guest starts faster. Without a next
//! guest they are a waste. Some seconds after the end of the last sandbox, the engine and the
//! allocator therefore free all that is unused. Then, and some seconds after the start of the
//! daemon and of containers, the code of the daemon leaves its resident set. No timer runs while
//! nothing starts or ends.

use std::{sync::Arc, time::Duration};

use runwasi_core::{
    Engine,
    blocking::{self, blocking},
    shutdown::Tasks,
    start_memory::return_after_starts,
    sys,
};
use tokio::{runtime::Handle, sync::Notify, time::timeout};

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
                () = reclaim_after_ends(&waiting, &engine) => {}
                () = return_after_starts(QUIET, unmap_program) => {}
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
async fn reclaim_after_ends(ended: &Notify, engine: &Arc<dyn Engine>) {
    loop {
        ended.notified().await;
        // Both outcomes lead to the return: a quiet period, or no such period for `LONGEST`.
        let _ = timeout(LONGEST, async { while timeout(QUIET, ended.notified()).await.is_ok() {} })
            .await;
        let engine = engine.clone();
        // On the blocking pool: this takes milliseconds or more.
        let released = blocking(
            move || {
                // In this order: the allocator can return only the memory that the engine has
                // freed.
                engine.release_unused();
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
}

/// On the blocking pool: other threads may map and unmap meanwhile, which waits.
fn unmap_program() {
    blocking::eventually(&Handle::current(), sys::unmap_program);
}
