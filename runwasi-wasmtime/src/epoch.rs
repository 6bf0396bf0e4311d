//! The clock that makes guests yield: one OS thread that advances the engine's epoch while a guest is being polled.
//!
//! It must not be a Tokio task: if every worker runs a guest, a task would never get to tick, and no guest would ever
//! yield. While nothing is polled it sleeps without a timer, so an idle process makes no wake-ups.
//!
//! ```text
//!            enter, which wakes it                   its time is over, something is polled
//!   asleep ────────────────────────▶ ticking ────────────────────────────────────────────────▶ ticking
//!      ▲                                │
//!      └────────────────────────────────┘  a while is over, nothing was polled at its ticks
//! ```
//!
//! It ticks every quantum while all workers are with guests: others may wait for one. While a worker is free nobody waits, and a tick
//! is for those who stop guests; it comes less often, because a tick costs who computes (at one a millisecond 2 to 4 % of a
//! core, most of it by the wake-up of this thread).
//!
//! A guest that computes is polled again and again with hardly anything in between: while the clock ticks, neither the beginning
//! nor the end of a poll concerns it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::{Builder, JoinHandle},
    time::Duration,
};

/// Small: the thread calls one function.
const STACK: usize = 64 << 10;

/// From tick to tick while a worker is free, unless a quantum is longer.
const UNHURRIED: Duration = Duration::from_millis(5);

/// How long without a guest until the thread sleeps. A server polls for microseconds, thousands of times a second: waking the
/// thread for each would cost more than the polls.
const QUIET: Duration = Duration::from_millis(8);

/// The clock of one engine. Dropping it ends the thread.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Guests being polled right now.
    active: AtomicUsize,
    /// Whether the thread sleeps, or is about to. It says so before it looks at `active` for the last time, and `enter` counts
    /// itself before it looks here: one of the two sees the other.
    asleep: AtomicBool,
    /// `enter` takes it before it notifies: the thread holds it between its last look at `active` and its sleep, so no wake-up
    /// is lost. Holds whether the ticker is being dropped.
    stopping: Mutex<bool>,
    changed: Condvar,
}

impl Ticker {
    /// Starts the thread: every `quantum` the epoch of `engine` advances by one while each of the `workers` polls a guest, and
    /// every 5 ms at least, or every quantum if that is longer, while some do.
    pub fn start(engine: &wasmtime::Engine, quantum: Duration, workers: usize) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (ticking, engine) = (shared.clone(), engine.clone());
        let tick = move || ticking.run(quantum, workers, || engine.increment_epoch());
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
        *self.shared.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only panics if a tick does, and has then said so itself.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, quantum: Duration, workers: usize, mut tick: impl FnMut()) {
        let mut stopping = self.stopping.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopping {
            self.asleep.store(true, Ordering::SeqCst);
            let sleeping = self.changed.wait_while(stopping, |stopping| !*stopping && self.active() == 0);
            stopping = sleeping.unwrap_or_else(PoisonError::into_inner);
            self.asleep.store(false, Ordering::SeqCst);
            let mut quiet = Duration::ZERO;
            while quiet < QUIET {
                let time = if self.active() < workers { quantum.max(UNHURRIED) } else { quantum };
                let waited = self.changed.wait_timeout_while(stopping, time, |stopping| !*stopping);
                stopping = waited.unwrap_or_else(PoisonError::into_inner).0;
                if *stopping {
                    break;
                }
                if self.active() == 0 {
                    quiet += time;
                    continue;
                }
                quiet = Duration::ZERO;
                tick();
            }
        }
    }

    fn active(&self) -> usize {
        self.active.load(Ordering::SeqCst)
    }

    fn enter(&self) {
        self.active.fetch_add(1, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            drop(self.stopping.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    fn leave(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
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

    /// A ticker that counts; so many workers there are.
    fn counting(workers: usize) -> (Arc<Shared>, Arc<AtomicU32>, JoinHandle<()>) {
        let shared = Arc::<Shared>::default();
        let ticks = Arc::new(AtomicU32::new(0));
        let (running, counter) = (shared.clone(), ticks.clone());
        let thread = std::thread::spawn(move || {
            running.run(MS, workers, || {
                counter.fetch_add(1, Ordering::SeqCst);
            });
        });
        (shared, ticks, thread)
    }

    fn stop(shared: &Shared, thread: JoinHandle<()>) {
        *shared.stopping.lock().unwrap() = true;
        shared.changed.notify_all();
        thread.join().unwrap();
    }

    fn until(what: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !what() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    /// How long a number of ticks takes, from a tick on.
    fn time_of(ticks: &AtomicU32, number: u32) -> Duration {
        let now = || ticks.load(Ordering::SeqCst);
        let before = now();
        until(|| now() > before);
        let (first, begin) = (now(), Instant::now());
        until(|| now() >= first + number);
        begin.elapsed()
    }

    #[test]
    fn it_ticks_while_something_is_polled_and_never_otherwise() {
        for workers in [1, 2] {
            let (shared, ticks, thread) = counting(workers);
            for _ in 0..3 {
                shared.enter();
                time_of(&ticks, 5);
                shared.leave();
                // A tick may be under way; one that goes on never settles.
                let (_sender, receiver) = mpsc::channel::<()>();
                until(|| {
                    let before = ticks.load(Ordering::SeqCst);
                    // Nothing to poll for: a channel that never delivers is the wait of 50 ms.
                    let _ = receiver.recv_timeout(Duration::from_millis(50));
                    ticks.load(Ordering::SeqCst) == before
                });
            }
            stop(&shared, thread);
        }
    }

    #[test]
    fn it_ticks_every_quantum_when_no_worker_is_free_and_less_often_otherwise() {
        let (shared, ticks, thread) = counting(2);
        shared.enter();
        // The first of the ticks may just not have been seen at once.
        assert!(time_of(&ticks, 4) > UNHURRIED * 3);
        shared.enter();
        // Not at every try on a machine that is busy.
        until(|| time_of(&ticks, 4) < UNHURRIED * 3);
        shared.leave();
        time_of(&ticks, 1);
        assert!(time_of(&ticks, 4) > UNHURRIED * 3);
        shared.leave();
        stop(&shared, thread);
    }
}
