//! Return of what only starts need: the start of the process, and those of containers.

use std::time::Duration;

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

// Of the process, as is the memory.
static STARTED: Notify = Notify::const_new();

/// Takes note of the start of a container.
pub(crate) fn container_started() {
    // While `return_after_starts` sleeps this only stores a permit: containers that start one after
    // the other wake no task.
    STARTED.notify_one();
}

/// Calls `give_back` when nothing has started for `quiet`, twice that after the last start at the
/// latest. Never returns.
pub async fn return_after_starts(quiet: Duration, give_back: impl Fn()) {
    after_starts(&STARTED, quiet, give_back).await;
}

async fn after_starts(started: &Notify, quiet: Duration, give_back: impl Fn()) {
    loop {
        sleep(quiet).await;
        while timeout(Duration::ZERO, started.notified()).await.is_ok() {
            sleep(quiet).await;
        }
        give_back();
        started.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const QUIET: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn memory_is_given_back_after_starts_in_a_row_and_not_after_each() {
        let (started, count) = (Notify::new(), AtomicU32::new(0));
        let given = || count.load(Ordering::Relaxed);
        let give_back = || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let starts = async {
            sleep(3 * QUIET).await;
            assert_eq!(given(), 1, "after the start of the process");
            for _ in 0..100 {
                started.notify_one();
                sleep(QUIET / 50).await;
            }
            sleep(3 * QUIET).await;
            let after = given();
            // A machine that stands still for a while makes it more than one time.
            assert!((2..20).contains(&after), "{after} times");
            sleep(3 * QUIET).await;
            assert_eq!(given(), after, "nothing has started since");
        };
        tokio::select! {
            () = after_starts(&started, QUIET, give_back) => {}
            () = starts => {}
        }
    }
}
