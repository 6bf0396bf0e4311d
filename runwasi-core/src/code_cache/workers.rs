//! Compiler threads: bounded in number, of low priority, and present only while there are jobs.
//!
//! Tokio's blocking pool is not suitable. All its threads are equal, so a hundred compilations
//! would delay the file accesses of all guests. Compiler threads are started from the control side.
//! So they have its credentials and belong to no container's cgroup.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{getpriority_process, setpriority_process};

use crate::{panics, sys};

/// Niceness of the threads.
// Linux gives it about a tenth of the weight of nice 0. A thread gets a tenth of a contended core
// and all of an idle one.
const NICE: i32 = 10;

/// Pool of a bounded number of threads. All clones share it.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
}

/// Result of one turn of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The job is finished.
    Done,
    /// The job needs another turn after this pause. Other jobs may run meanwhile.
    Again(Duration),
}

struct Shared {
    max_threads: usize,
    state: Mutex<State>,
    /// Notified of a new job.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Number of threads that take jobs.
    // Changed under the lock of the queue: see `submit` and `next`.
    threads: usize,
}

struct Job {
    not_before: Instant,
    run: Box<dyn FnMut() -> Turn + Send>,
}

impl Workers {
    /// A pool of at most this number of threads. It starts them when jobs arrive.
    pub fn new(max_threads: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                // Without a thread no job would ever run.
                max_threads: max_threads.max(1),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// Queues a job. A job that panics is dropped. On an error there is no thread at all, and the
    /// job is dropped as well.
    pub fn submit(&self, run: impl FnMut() -> Turn + Send + 'static) -> io::Result<()> {
        // The lock is held from the push to the count. A thread that finds the queue empty leaves
        // under the same lock, so a queued job always has a thread.
        let mut state = self.shared.lock();
        state.waiting.push_back(Job { not_before: Instant::now(), run: Box::new(run) });
        if state.threads == self.shared.max_threads {
            // One is enough: every thread searches the whole queue when it wakes up.
            self.shared.changed.notify_one();
            return Ok(());
        }
        let shared = self.shared.clone();
        match thread::Builder::new()
            .name("compile".into())
            .spawn(move || panics::fatal(|| shared.work()))
        {
            Ok(_) => state.threads += 1,
            Err(error) if state.threads == 0 => {
                // The job from above, since the lock was held. Its drop may take other locks, so
                // it happens without this one.
                let dropped = state.waiting.pop_back();
                drop(state);
                drop(dropped);
                return Err(error);
            }
            // The existing threads run the job later.
            Err(error) => tracing::warn!(%error, "one thread fewer compiles"),
        }
        Ok(())
    }
}

impl Shared {
    fn work(&self) {
        if let Err(error) = lower_priority() {
            tracing::warn!(%error, "compiling has the usual priority");
        }
        while let Some(mut job) = self.next() {
            // The panic hook logs the panic, and the waiters of the job are told by its drop. No
            // other code sees the state of a job that panicked, so `AssertUnwindSafe` holds.
            let turn = catch_unwind(AssertUnwindSafe(|| (job.run)())).unwrap_or(Turn::Done);
            if let Turn::Again(pause) = turn {
                job.not_before = Instant::now() + pause;
                // Without a notification: this thread looks at the queue next.
                self.lock().waiting.push_back(job);
            }
        }
        // The compiler's freed megabytes would otherwise stay with the allocator, in a pod that may
        // run for months without another compilation.
        sys::trim_memory();
    }

    /// Waits for the next due job. Without any job it uncounts the calling thread, which then ends.
    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if let Some(place) = state.waiting.iter().position(|job| job.not_before <= now) {
                return state.waiting.remove(place);
            }
            let Some(earliest) = state.waiting.iter().map(|job| job.not_before).min() else {
                state.threads -= 1;
                return None;
            };
            // No underflow: every job that is left is due after `now`.
            let waited = self.changed.wait_timeout(state, earliest - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Jobs run without the lock, so a panic cannot leave a half-made change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lowers the priority of the calling thread.
fn lower_priority() -> io::Result<()> {
    // Linux has a niceness for each thread, contrary to POSIX. Never reduced: that would need
    // CAP_SYS_NICE.
    let nice = getpriority_process(None)?.max(NICE);
    Ok(setpriority_process(None, nice)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc::{channel, sync_channel},
        },
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[test]
    fn at_most_the_given_number_of_jobs_runs_at_once() {
        let workers = Workers::new(2);
        let running = Arc::new(AtomicUsize::new(0));
        let (seen, most) = channel();
        for _ in 0..20 {
            let running = running.clone();
            let seen = seen.clone();
            let job = move || {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                seen.send(now).unwrap();
                Turn::Done
            };
            workers.submit(job).unwrap();
        }
        let all: Vec<_> = (0..20).map(|_| most.recv_timeout(LIMIT).unwrap()).collect();
        assert!(all.iter().all(|now| *now <= 2), "{all:?}");
    }

    #[test]
    fn paused_job_and_panicked_job_do_not_delay_others() {
        let workers = Workers::new(1);
        let (order, heard) = channel();
        let mut turns = 0;
        let first = order.clone();
        let waits = move || {
            turns += 1;
            first.send(format!("turn {turns}")).unwrap();
            if turns == 1 { Turn::Again(Duration::from_millis(500)) } else { Turn::Done }
        };
        workers.submit(waits).unwrap();
        workers.submit(|| panic!("on purpose")).unwrap();
        workers
            .submit(move || {
                order.send("other".to_owned()).unwrap();
                Turn::Done
            })
            .unwrap();
        let all: Vec<_> = (0..3).map(|_| heard.recv_timeout(LIMIT).unwrap()).collect();
        assert_eq!(all, ["turn 1", "other", "turn 2"]);
        assert!(heard.recv_timeout(LIMIT).is_err(), "jobs are dropped when they are done");
    }

    #[test]
    fn threads_have_low_priority_and_end_without_jobs() {
        let workers = Workers::new(4);
        let (told, nice) = sync_channel(0);
        let job = move || {
            let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
            let nice = stat.rsplit_once(") ").unwrap().1.split(' ').nth(19 - 3).unwrap().to_owned();
            told.send(nice).unwrap();
            Turn::Done
        };
        workers.submit(job).unwrap();
        assert!(nice.recv_timeout(LIMIT).unwrap().parse::<i32>().unwrap() >= NICE);
        let deadline = Instant::now() + LIMIT;
        while workers.shared.lock().threads != 0 {
            assert!(Instant::now() < deadline, "a thread stays");
            thread::yield_now();
        }
    }
}
