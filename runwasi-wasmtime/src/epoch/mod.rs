//! Epoch ticker: one OS thread that advances the engine's epoch while a guest is being polled, so
//! that guests yield.
//!
//! It is not a Tokio task: with a guest on every worker such a task would never run, and no guest
//! would ever yield. While no guest is polled the thread sleeps without a timer, so an idle process
//! causes no wakeups.
//!
//! The pace of the ticks is decided in `pace`, a pure state. Here are its thread, the count of
//! polls and the wakeups between the two.
//!
//! While all workers poll guests a tick comes every quantum, because other tasks may wait for a
//! worker. A free worker takes every woken task, so ticks then come less often. They are not free:
//! one tick each millisecond costs a computing guest 2 to 4 % of a core, most of it for the wakeup
//! of this thread. With a free worker a yield still serves three cases: a request to stop the
//! guest, other work of the guest's own future, and a task that the guest has woken, since Tokio
//! keeps the last woken task for the same worker.
//!
//! A computing guest is polled again immediately after each yield. While the clock ticks, it
//! ignores the beginning and the end of single polls. It ticks for long polls: while all workers
//! run many short ones, as those of a server do, it ticks as with a free worker.

mod pace;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use runwasi_core::{panics, task_limits};
use tokio::runtime::Handle;

use self::pace::{NEVER, Pace, PollState, Wait};

/// Stack size of the thread. It is small, since the thread calls one function.
const STACK: usize = 64 << 10;

/// The clock of one engine. Dropping it ends the thread.
pub struct Ticker {
    shared: Arc<Shared>,
    engines: Arc<Engines>,
    thread: Option<JoinHandle<()>>,
}

/// The engines whose epoch a clock advances. Locked for a tick, and to add one.
struct Engines(Mutex<Vec<wasmtime::Engine>>);

impl Engines {
    fn tick(&self) {
        self.lock().iter().for_each(wasmtime::Engine::increment_epoch);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<wasmtime::Engine>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A begun poll in `Shared::polls`, above the number of those under way.
const POLL: u64 = 1 << 32;

/// State shared by the thread and the pollers.
///
/// No wakeup is lost. The thread, with `stopping` locked, stores `wanted` (1), then loads the
/// number of active polls (2) and sleeps if that is less. A poller increments that number (3), then
/// loads `wanted` (4), and if it is reached takes it back and notifies. All are `SeqCst`, so they
/// have one order:
///
/// * (3) before (2): the thread sees the poll and does not sleep.
/// * (2) before (3), so (1) before (4): the poller, or another one before it, sees `wanted` and
///   takes it back. It locks `stopping` next. The thread holds that lock from (1) until it sleeps,
///   so the notification comes to a thread that sleeps, or that has woken up. It looks at `wanted`
///   before it sleeps again.
///
/// One poller notifies: with all workers in guests the thread may get no core for a long time, in
/// which every poll would notify it once more.
#[derive(Default)]
struct Shared {
    /// Guests being polled right now, and from [`POLL`] on the polls that have begun.
    polls: AtomicU64,
    /// Number of guests polled at once at which the thread wants a wakeup.
    wanted: AtomicUsize,
    /// Number of threads that poll guests. It is 0 until the first poll, since only the polling
    /// runtime knows it.
    workers: AtomicUsize,
    /// True while the ticker is being dropped.
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Ticker {
    /// Starts the thread. The epoch of `engine` advances by one every `quantum` while every worker
    /// polls a guest. While only some workers do, it advances every 5 ms, or every `quantum` if
    /// that is longer.
    pub fn start(engine: &wasmtime::Engine, quantum: Duration) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let ticking = shared.clone();
        let engines = Arc::new(Engines(Mutex::new(vec![engine.clone()])));
        let ticked = engines.clone();
        // Fatal, because without this thread no guest would ever yield.
        let tick = move || panics::fatal(|| ticking.run(quantum, || ticked.tick()));
        let thread = Builder::new().name("epoch".into()).stack_size(STACK).spawn(tick);
        let thread = thread.map_err(task_limits::named)?;
        Ok(Self { shared, engines, thread: Some(thread) })
    }

    /// Advances the epoch of a further engine, too.
    pub(crate) fn also(&self, engine: &wasmtime::Engine) {
        self.engines.lock().push(engine.clone());
    }

    /// Advances the epoch now: guests that compute yield.
    pub(crate) fn tick(&self) {
        self.engines.tick();
    }

    /// Wraps a future that runs guest code, so that the clock ticks while it is polled.
    pub fn during<F>(self: &Arc<Self>, future: F) -> During<F> {
        During { ticker: self.clone(), future: Box::pin(future) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // The join cannot fail: a panic of the thread would have ended the process.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, quantum: Duration, mut tick: impl FnMut()) {
        let mut pace = Pace::new(quantum);
        let mut stopping = self.lock();
        let mut before = self.begun();
        while !*stopping {
            let wait = pace.wait(self.workers.load(Ordering::SeqCst));
            let timed_out;
            (stopping, timed_out) = self.wait(stopping, wait);
            let begun = self.begun();
            let polls = begun.wrapping_sub(before) as usize;
            before = begun;
            let seen = PollState { timed_out, active: self.active(), polls };
            if !*stopping && pace.advance(seen, self.workers.load(Ordering::SeqCst)) {
                tick();
            }
        }
    }

    /// Waits, or until the ticker is dropped. Returns true after a timeout.
    fn wait<'a>(
        &self,
        stopping: MutexGuard<'a, bool>,
        Wait { wanted, timeout }: Wait,
    ) -> (MutexGuard<'a, bool>, bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
        let waits = |stopping: &mut bool| {
            let is_taken = self.wanted.load(Ordering::SeqCst) != wanted;
            !*stopping && !is_taken && self.active() < wanted
        };
        let Some(timeout) = timeout else {
            let waited = self.changed.wait_while(stopping, waits);
            return (waited.unwrap_or_else(PoisonError::into_inner), false);
        };
        let waited = self.changed.wait_timeout_while(stopping, timeout, waits);
        let (stopping, result) = waited.unwrap_or_else(PoisonError::into_inner);
        (stopping, result.timed_out())
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of polls under way.
    fn active(&self) -> usize {
        (self.polls.load(Ordering::SeqCst) % POLL) as usize
    }

    /// Number of polls that have begun. It wraps.
    fn begun(&self) -> u32 {
        (self.polls.load(Ordering::SeqCst) / POLL) as u32
    }

    /// Counts a poll in, and wakes the thread if it waits for this one.
    fn enter(&self) {
        // In this order; the proof is at `Shared`.
        let before = self.polls.fetch_add(POLL + 1, Ordering::SeqCst);
        let active = (before % POLL) as usize + 1;
        let wanted = self.wanted.load(Ordering::SeqCst);
        if active >= wanted
            && self
                .wanted
                .compare_exchange(wanted, NEVER, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    fn leave(&self) {
        self.polls.fetch_sub(1, Ordering::SeqCst);
    }

    /// Initializes `workers` from the polling runtime.
    fn init_workers(&self) {
        if self.workers.load(Ordering::Relaxed) == 0 {
            // Without a runtime only the calling thread polls.
            let workers =
                Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
            self.workers.store(workers, Ordering::SeqCst);
        }
    }
}

/// See [`Ticker::during`].
pub struct During<F> {
    ticker: Arc<Ticker>,
    future: Pin<Box<F>>,
}

impl<F: Future> Future for During<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { ticker, future } = self.get_mut();
        let shared = &ticker.shared;
        shared.init_workers();
        shared.enter();
        // A guard, so that a panicking poll is counted out, too.
        let _leave = Leave(shared);
        future.as_mut().poll(cx)
    }
}

struct Leave<'a>(&'a Shared);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{atomic::AtomicU32, mpsc},
        time::Instant,
    };

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// Ticks for each measurement. The first may be seen late, and others may be late themselves.
    const TICKS: u32 = 8;
    /// Between the time of `TICKS` ticks of 1 ms and that of as many relaxed ones.
    const BOUNDARY: Duration = Duration::from_millis(25);

    /// A ticker that counts its ticks.
    struct Counting {
        shared: Arc<Shared>,
        ticks: Arc<AtomicU32>,
        thread: JoinHandle<()>,
    }

    impl Counting {
        fn start(quantum: Duration, workers: usize) -> Self {
            let shared = Arc::<Shared>::default();
            shared.workers.store(workers, Ordering::SeqCst);
            let ticks = Arc::new(AtomicU32::new(0));
            let running = shared.clone();
            let counter = ticks.clone();
            let thread = std::thread::spawn(move || {
                running.run(quantum, || {
                    counter.fetch_add(1, Ordering::SeqCst);
                });
            });
            Self { shared, ticks, thread }
        }

        fn stop(self) {
            *self.shared.lock() = true;
            self.shared.changed.notify_all();
            self.thread.join().unwrap();
        }

        fn now(&self) -> u32 {
            self.ticks.load(Ordering::SeqCst)
        }

        /// Time of that many ticks, beginning at a tick.
        fn time_of(&self, number: u32) -> Duration {
            let before = self.now();
            until(|| self.now() > before);
            // In this order: a delay between the two only makes the result longer.
            let begin = Instant::now();
            let first = self.now();
            until(|| self.now() >= first + number);
            begin.elapsed()
        }

        /// Waits until no tick comes for 50 ms. One may be under way.
        fn settles(&self) {
            let (_sender, receiver) = mpsc::channel::<()>();
            until(|| {
                let before = self.now();
                // A plain wait of 50 ms: the channel never delivers, so the error has no meaning.
                let _ = receiver.recv_timeout(Duration::from_millis(50));
                self.now() == before
            });
        }
    }

    fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn ticks_only_while_a_guest_is_polled() {
        for workers in [1, 2] {
            let ticker = Counting::start(MS, workers);
            for _ in 0..3 {
                ticker.shared.enter();
                ticker.time_of(5);
                ticker.shared.leave();
                ticker.settles();
            }
            ticker.stop();
        }
    }

    #[test]
    fn ticks_every_quantum_without_a_free_worker_and_less_often_with_one() {
        let ticker = Counting::start(MS, 2);
        ticker.shared.enter();
        assert!(ticker.time_of(TICKS) > BOUNDARY);
        ticker.shared.enter();
        // Repeated, because a busy machine delays some of the ticks.
        until(|| ticker.time_of(TICKS) < BOUNDARY);
        ticker.shared.leave();
        ticker.time_of(1);
        assert!(ticker.time_of(TICKS) > BOUNDARY);
        ticker.shared.leave();
        ticker.stop();
    }

    #[test]
    fn a_quantum_above_5_ms_also_holds_with_a_free_worker() {
        let ticker = Counting::start(MS * 20, 2);
        ticker.shared.enter();
        assert!(ticker.time_of(3) > MS * 40);
        ticker.shared.leave();
        ticker.stop();
    }

    #[test]
    fn a_poll_on_the_last_free_worker_ends_the_wait() {
        let shared = Arc::<Shared>::default();
        let waiting = shared.clone();
        let hour = Duration::from_secs(3600);
        let wait = Wait { wanted: 2, timeout: Some(hour) };
        let waiter = std::thread::spawn(move || waiting.wait(waiting.lock(), wait).1);
        shared.enter();
        shared.enter();
        assert!(!waiter.join().unwrap(), "an hour is over");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn workers_are_counted_from_the_polling_runtime() {
        let ticker = Arc::new(Ticker::start(&wasmtime::Engine::default(), MS).unwrap());
        ticker.during(async {}).await;
        assert_eq!(ticker.shared.workers.load(Ordering::SeqCst), 3);
    }
}
