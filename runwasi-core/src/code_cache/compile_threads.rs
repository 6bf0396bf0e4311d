//! Threads that compile: of low priority, bounded in number, present only while there is work. They
//! serve programs that cannot compile in a process of its own ([`compile_process`]).
//!
//! [`compile_process`]: super::compile_process
//!
//! The blocking pool of a Tokio runtime of their own provides them. The pool of the control runtime
//! is not suitable: all its threads are equal, so a hundred compilations would delay the file
//! accesses of all guests. A caller on the control side starts the threads, so they have its
//! credentials and belong to no container's cgroup.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use crate::{
    blocking::{self, Running},
    lock::{Mutex, get_or_start},
    panics, sys,
};

/// Idle time after which a thread ends.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A bounded number of threads. All clones share them.
#[derive(Clone)]
pub struct CompileThreads {
    pool: Arc<Pool>,
    slots: Arc<Semaphore>,
}

/// Right to use one of the threads, until its drop.
pub struct Slot {
    pool: Arc<Pool>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// Runtime with the threads in its blocking pool.
struct Pool {
    max_threads: usize,
    /// Present from the first work until the drop: most programs compile in processes only.
    runtime: Mutex<Option<Runtime>>,
}

impl CompileThreads {
    /// Bounds the number of threads, which start with the first work.
    pub fn new(max_threads: usize) -> Self {
        // Without a thread no work would ever run.
        let max_threads = max_threads.max(1);
        let pool = Arc::new(Pool { max_threads, runtime: Mutex::default() });
        Self { pool, slots: Arc::new(Semaphore::new(max_threads)) }
    }

    /// Waits for a free thread. Callers get one in the order of their calls.
    pub async fn slot(&self) -> Slot {
        // Always there: only a closed semaphore refuses, and this one is never closed.
        let permit = self.slots.clone().acquire_owned().await.ok();
        Slot { pool: self.pool.clone(), _permit: permit }
    }
}

impl Slot {
    /// Runs `work` on the thread. Returns nothing if it panics, which the panic hook logs, or if
    /// there can be no thread.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let running = self.pool.spawn(work).inspect_err(|error| {
            tracing::error!(%error, "the threads that compile cannot be had");
        });
        running.ok()?.result().await.ok()
    }
}

impl Pool {
    fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Running<T>> {
        let mut runtime = self.runtime.lock();
        let runtime = get_or_start(&mut runtime, || self.start())?;
        Ok(blocking::start(runtime.handle(), work)?)
    }

    fn start(&self) -> io::Result<Runtime> {
        Builder::new_current_thread()
            .thread_name("compile")
            .max_blocking_threads(self.max_threads)
            .thread_keep_alive(KEEP_ALIVE)
            .on_thread_start(|| panics::fatal(lower_priority))
            // The compiler's freed megabytes would otherwise stay with the allocator, in a pod that
            // may run for months without another compilation.
            .on_thread_stop(sys::trim_memory)
            .build()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.lock().take() {
            // Without a wait, which Tokio forbids on a thread of another runtime.
            runtime.shutdown_background();
        }
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
        time::Instant,
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

    #[tokio::test]
    async fn last_drop_within_a_runtime_does_not_wait_for_the_work() {
        let threads = CompileThreads::new(1);
        let slot = threads.slot().await;
        let begun = Instant::now();
        let work = slot.run(|| sys::pause(Duration::from_secs(2)));
        assert!(timeout(Duration::from_millis(50), work).await.is_err());
        drop(slot);
        drop(threads);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}
