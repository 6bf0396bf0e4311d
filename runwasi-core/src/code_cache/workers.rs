//! Threads that compile: few, of low priority, and there only while something is to be done.
//!
//! Not Tokio's blocking pool: its threads cannot be told apart, and a hundred compilations would keep everybody's files
//! waiting. Started from the control side, they have its identity and are in no container's cgroup.

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

/// The threads' niceness: they get a tenth of a core that others want, and all of one that nobody wants.
const NICE: i32 = 10;

/// A bounded number of threads. All clones speak of the same.
#[derive(Clone)]
pub struct Workers {
    shared: Arc<Shared>,
}

/// What a job wants after one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing any more.
    Done,
    /// Another turn when that time has passed; others may have theirs meanwhile.
    Again(Duration),
}

struct Shared {
    most: usize,
    state: Mutex<State>,
    /// There is a new job.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    threads: usize,
}

struct Job {
    not_before: Instant,
    run: Box<dyn FnMut() -> Turn + Send>,
}

impl Workers {
    /// At most so many threads; none yet.
    pub fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most: most.max(1),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// Has a job done when there is a thread for it. One that panics is dropped. An error means that there is no thread at all; then
    /// the job is dropped, too.
    pub fn submit(&self, run: impl FnMut() -> Turn + Send + 'static) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.waiting.push_back(Job { not_before: Instant::now(), run: Box::new(run) });
        if state.threads == self.shared.most {
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
                let dropped = state.waiting.pop_back();
                drop(state);
                drop(dropped);
                return Err(error);
            }
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
            // What a compiler's panic means is told by the hook; whoever waits for the job sees that it is gone.
            let turn = catch_unwind(AssertUnwindSafe(|| (job.run)())).unwrap_or(Turn::Done);
            if let Turn::Again(pause) = turn {
                job.not_before = Instant::now() + pause;
                self.lock().waiting.push_back(job);
            }
        }
        // A compiler takes megabytes, and a pod may live for months without one.
        sys::trim_memory();
    }

    /// The next job whose time has come; `None` when there is none at all, and this thread is no longer counted.
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
            let waited = self.changed.wait_timeout(state, earliest - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Of the calling thread: Linux has a niceness for each.
fn lower_priority() -> io::Result<()> {
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
    fn no_more_run_at_once_than_there_are_threads() {
        let workers = Workers::new(2);
        let running = Arc::new(AtomicUsize::new(0));
        let (seen, most) = channel();
        for _ in 0..20 {
            let (running, seen) = (running.clone(), seen.clone());
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
    fn who_waits_keeps_nobody_waiting_and_who_panics_neither() {
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
    fn threads_are_nice_and_leave_when_nothing_is_left() {
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
