//! The clock that makes guests yield: one OS thread that advances the engine's epoch while a guest is being polled.
//!
//! It must not be a Tokio task: if every worker runs a guest, a task would never get to tick, and no guest would ever
//! yield. While nothing is polled it sleeps without a timer, so an idle process makes no wake-ups.
//!
//! ```text
//!            a guest is polled                 its time is over, something is polled
//!   asleep ──────────────────────▶ ticking ──────────────────────────────────────────▶ ticking
//!      ▲                              │
//!      └──────────────────────────────┘  at some ticks one after the other nothing was polled
//! ```
//!
//! While all workers are with guests a tick comes every quantum: others may wait for one. While a worker is free it takes who is woken,
//! and ticks come less often, because they cost who computes: at one a millisecond 2 to 4 % of a core, most of it by the wake-up of
//! this thread. Then a yield is for those who stop a guest, for what its own future does beside it, and for who was woken by
//! it: Tokio keeps the last of these for the same worker.
//!
//! A guest that computes is polled again and again with hardly anything in between: while the clock ticks, neither the beginning
//! nor the end of a poll concerns it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{Builder, JoinHandle},
    time::Duration,
};

use runwasi_core::panics;
use tokio::runtime::Handle;

/// Small: the thread calls one function.
const STACK: usize = 64 << 10;

/// From tick to tick while a worker is free, unless a quantum is longer.
const UNHURRIED: Duration = Duration::from_millis(5);

/// Ticks without a guest after which the thread sleeps. A server polls for microseconds, thousands of times a second: waking the
/// thread for each would cost more than the polls.
const QUIET: u32 = 4;

/// More than are ever polled.
const NEVER: usize = usize::MAX;

/// The clock of one engine. Dropping it ends the thread.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Guests being polled right now.
    active: AtomicUsize,
    /// With how many of them the thread wants to be woken. It says so before it looks at `active` for the last time, and `enter`
    /// counts itself before it looks here: one of the two sees the other.
    wanted: AtomicUsize,
    /// Threads that poll guests; 0 until the first poll. Only the runtime that polls knows.
    workers: AtomicUsize,
    /// `enter` takes it before it notifies: the thread holds it between its last look at `active` and its sleep, so no wake-up
    /// is lost. Holds whether the ticker is being dropped.
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Ticker {
    /// Starts the thread: the epoch of `engine` advances by one every `quantum` while every worker polls a guest, and every 5 ms or,
    /// if it is longer, every `quantum` while some do.
    pub fn start(engine: &wasmtime::Engine, quantum: Duration) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (ticking, engine) = (shared.clone(), engine.clone());
        // Without it no guest would ever yield.
        let tick = move || panics::fatal(|| ticking.run(quantum, || engine.increment_epoch()));
        let thread = Builder::new().name("epoch".into()).stack_size(STACK).spawn(tick)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Wraps a future that runs guest code: the clock ticks while it is polled.
    pub fn during<F>(self: &Arc<Self>, future: F) -> During<F> {
        During { ticker: self.clone(), future: Box::pin(future) }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        *self.shared.lock() = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot fail: a panic would have ended the process.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, quantum: Duration, mut tick: impl FnMut()) {
        let mut stopping = self.lock();
        while !*stopping {
            stopping = self.sleep(stopping);
            let mut quiet = 0;
            while quiet < QUIET {
                stopping = self.wait_for_tick(stopping, quantum);
                if *stopping {
                    break;
                }
                if self.active() == 0 {
                    quiet += 1;
                    continue;
                }
                quiet = 0;
                tick();
            }
        }
    }

    /// Until something is polled.
    fn sleep<'a>(&self, stopping: MutexGuard<'a, bool>) -> MutexGuard<'a, bool> {
        self.wanted.store(1, Ordering::SeqCst);
        let slept = self.changed.wait_while(stopping, |stopping| !*stopping && self.active() == 0);
        slept.unwrap_or_else(PoisonError::into_inner)
    }

    /// A quantum, from when no worker is free; if one stays so, until its time is over.
    fn wait_for_tick<'a>(
        &self,
        stopping: MutexGuard<'a, bool>,
        quantum: Duration,
    ) -> MutexGuard<'a, bool> {
        let workers = self.workers.load(Ordering::SeqCst);
        let (stopping, over) = self.wait_until(stopping, workers, quantum.max(UNHURRIED));
        if over { stopping } else { self.wait_until(stopping, NEVER, quantum).0 }
    }

    /// Until so many are polled, but that long at most; the answer is whether the time is over.
    fn wait_until<'a>(
        &self,
        stopping: MutexGuard<'a, bool>,
        wanted: usize,
        time: Duration,
    ) -> (MutexGuard<'a, bool>, bool) {
        self.wanted.store(wanted, Ordering::SeqCst);
        let waits = |stopping: &mut bool| !*stopping && self.active() < wanted;
        let (stopping, result) = self
            .changed
            .wait_timeout_while(stopping, time, waits)
            .unwrap_or_else(PoisonError::into_inner);
        (stopping, result.timed_out())
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    fn enter(&self) {
        let active = self.active.fetch_add(1, Ordering::SeqCst) + 1;
        if active >= self.wanted.load(Ordering::SeqCst) {
            drop(self.lock());
            self.changed.notify_all();
        }
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    /// Asks the runtime that polls, once. Outside of one there is nobody else.
    fn know_workers(&self) {
        if self.workers.load(Ordering::Relaxed) == 0 {
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

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let shared = self.ticker.shared.clone();
        shared.know_workers();
        shared.enter();
        // Also when the poll panics.
        let _leave = Leave(&shared);
        self.future.as_mut().poll(cx)
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
    /// Ticks that are waited for where time is measured. The first may just not have been seen at once, and others be late.
    const TICKS: u32 = 8;
    /// Lies between that many at one a millisecond and that many unhurried ones.
    const HURRIED: Duration = Duration::from_millis(25);

    /// A ticker that counts.
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
            let (running, counter) = (shared.clone(), ticks.clone());
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

        /// How long that many ticks take, from a tick on.
        fn time_of(&self, number: u32) -> Duration {
            let before = self.now();
            until(|| self.now() > before);
            // In this order: what comes between the two only makes it longer.
            let (begin, first) = (Instant::now(), self.now());
            until(|| self.now() >= first + number);
            begin.elapsed()
        }

        /// A tick may be under way; one that goes on never settles.
        fn settles(&self) {
            let (_sender, receiver) = mpsc::channel::<()>();
            until(|| {
                let before = self.now();
                // Nothing to poll for: a channel that never delivers is the wait of 50 ms.
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
    fn it_ticks_while_something_is_polled_and_never_otherwise() {
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
    fn it_ticks_every_quantum_when_no_worker_is_free_and_less_often_otherwise() {
        let ticker = Counting::start(MS, 2);
        ticker.shared.enter();
        assert!(ticker.time_of(TICKS) > HURRIED);
        ticker.shared.enter();
        // Not at every try on a machine that is busy.
        until(|| ticker.time_of(TICKS) < HURRIED);
        ticker.shared.leave();
        ticker.time_of(1);
        assert!(ticker.time_of(TICKS) > HURRIED);
        ticker.shared.leave();
        ticker.stop();
    }

    #[test]
    fn long_quantum_holds_also_while_a_worker_is_free() {
        let ticker = Counting::start(MS * 20, 2);
        ticker.shared.enter();
        assert!(ticker.time_of(3) > MS * 40);
        ticker.shared.leave();
        ticker.stop();
    }

    #[test]
    fn who_takes_the_last_free_worker_shortens_the_wait() {
        let shared = Arc::<Shared>::default();
        let (waiting, hour) = (shared.clone(), Duration::from_secs(3600));
        let waiter = std::thread::spawn(move || waiting.wait_until(waiting.lock(), 2, hour).1);
        shared.enter();
        shared.enter();
        assert!(!waiter.join().unwrap(), "an hour is over");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn workers_are_those_of_the_runtime_that_polls() {
        let ticker = Arc::new(Ticker::start(&wasmtime::Engine::default(), MS).unwrap());
        ticker.during(async {}).await;
        assert_eq!(ticker.shared.workers.load(Ordering::SeqCst), 3);
    }
}
