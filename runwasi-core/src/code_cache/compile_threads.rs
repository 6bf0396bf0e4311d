//! Slots to compile, and threads for programs without a process that compiles
//! ([`compile_process`]): of low priority, bounded by the slots, each for one step of the work.
//! These programs are tests of engines, and embedders whose `main` has no place for the process.
//! The shim and the daemon use the slots alone, and start no such thread.
//!
//! [`compile_process`]: super::compile_process
//!
//! The blocking pool of the control runtime is not suitable: all its threads are equal, so a
//! hundred compilations would delay the file accesses of all guests. A caller on the control side
//! starts the threads, so they have its credentials and belong to no container's cgroup.

use std::{sync::Arc, thread};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::sys;

/// A bounded number of slots. All clones share them.
#[derive(Clone)]
pub struct CompileThreads(Arc<Semaphore>);

/// Right to compile, until its drop.
pub struct Slot {
    _permit: Option<OwnedSemaphorePermit>,
}

impl CompileThreads {
    /// Bounds the number of slots.
    pub fn new(most: usize) -> Self {
        // Without a slot no work would ever run.
        Self(Arc::new(Semaphore::new(most.max(1))))
    }

    /// Waits for a free slot. Callers get one in the order of their calls.
    pub async fn slot(&self) -> Slot {
        // Always there: only a closed semaphore refuses, and this one is never closed.
        Slot { _permit: self.0.clone().acquire_owned().await.ok() }
    }
}

impl Slot {
    /// Runs `work` on a thread of its own. Returns nothing if it panics, which the panic hook logs,
    /// or if there can be no thread.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let work = move || {
            lower_priority();
            // Without a receiver no caller waits any more.
            let _ = sender.send(work());
            // The compiler's freed megabytes would otherwise stay with the allocator, in a pod that
            // may run for months without another compilation.
            sys::trim_memory();
        };
        let started = thread::Builder::new().name("compile".into()).spawn(work);
        // The thread is detached: its result says that it has ended.
        started
            .map(drop)
            .inspect_err(|error| {
                tracing::error!(%error, "a thread that compiles cannot be had");
            })
            .ok()?;
        receiver.await.ok()
    }
}

/// Lowers the priority of the calling thread.
fn lower_priority() {
    // Linux has a niceness for each thread, contrary to POSIX.
    if let Err(error) = sys::lower_priority() {
        tracing::warn!(%error, "compiling has the usual priority");
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::atomic::{AtomicUsize, Ordering},
        time::{Duration, Instant},
    };

    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn at_most_the_given_number_of_threads_runs_at_once() {
        let threads = CompileThreads::new(2);
        let running = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let threads = threads.clone();
            let running = running.clone();
            tasks.spawn(async move {
                let work = move || {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    sys::pause(Duration::from_millis(1));
                    running.fetch_sub(1, Ordering::SeqCst);
                    now
                };
                threads.slot().await.run(work).await.unwrap()
            });
        }
        let all = timeout(LIMIT, tasks.join_all()).await.unwrap();
        assert!(all.iter().all(|now| *now <= 2), "{all:?}");
    }

    #[tokio::test]
    async fn slot_is_free_after_its_drop_and_after_a_panic() {
        let threads = CompileThreads::new(1);
        let slot = threads.slot().await;
        let short = Duration::from_millis(50);
        assert!(timeout(short, threads.slot()).await.is_err(), "two slots for one thread");
        assert_eq!(slot.run::<()>(|| panic!("on purpose")).await, None);
        drop(slot);
        let slot = timeout(LIMIT, threads.slot()).await.unwrap();
        assert_eq!(slot.run(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn threads_have_low_priority_and_end_without_work() {
        let threads = CompileThreads::new(4);
        let work = || fs::read_to_string("/proc/thread-self/stat").unwrap();
        let stat = threads.slot().await.run(work).await.unwrap();
        let nice = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19 - 3).unwrap();
        assert!(nice.parse::<i32>().unwrap() >= 10, "{stat}");
        let thread = format!("/proc/self/task/{}", stat.split(' ').next().unwrap());
        let deadline = Instant::now() + LIMIT;
        while fs::exists(&thread).unwrap() {
            assert!(Instant::now() < deadline, "a thread stays");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
