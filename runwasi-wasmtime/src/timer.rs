//! Exact timer of the process: sleeps of guests end within microseconds. Tokio's timers count
//! milliseconds.
//!
//! ```text
//! poll of a sleep ─ moment, waker ─▶ queue ─ first moment ─▶ timerfd
//!                                      ▲                        │
//!                                      └───── thread `timer` ◀──┘
//!                                                   │ wakes what is due
//!                                                   ▼
//!                                     fair queue ─▶ poll of the sleep
//! ```
//!
//! The thread waits in the kernel for the first moment of all sleeps. A sleep that comes before it
//! sets the descriptor itself, so the thread wakes only when something is due, or when the first
//! sleep has been dropped. Moments are rounded up to a grid: however many guests sleep for however
//! short a time, the thread wakes once for each point of it. The grid of a long sleep is coarser, a
//! sixty-fourth of it at most and never more than a millisecond: a server whose requests wait has
//! many such sleeps.
//!
//! A woken guest gets its turn by the rules of the scheduler, like after any other wait.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Waker},
    thread::Builder,
    time::{Duration, Instant},
};

use runwasi_core::{lock::Mutex, panics, task_limits};
use rustix::{
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};

/// Finest grid of the moments, in nanoseconds.
const GRID: u64 = 16_000;
/// Largest part of a sleep that is a step of its grid, as a divisor.
// Sleeps of up to 2 ms keep the finest grid, and no guest notices a sixty-fourth of a longer one.
const PART: u64 = 64;
/// Doublings of the grid for the longest sleeps, which end a millisecond late at most.
const MOST_DOUBLED: u32 = 6;
/// Sleeps that are woken at once. Others can begin and end between two such batches.
const BATCH: usize = 128;
/// Stack of the thread. It calls few functions.
const STACK: usize = 64 << 10;

/// The timer of this process.
static TIMER: OnceLock<Arc<Timer>> = OnceLock::new();
/// Held while the timer is made, so that there is one.
static MAKING: Mutex<()> = Mutex::new(());

/// Makes the timer, unless there is one.
// Not by the first sleep: the thread of a guest may be in the cgroup of its container, and with it
// every thread that it starts.
pub(crate) fn start() -> io::Result<()> {
    timer().map(drop)
}

/// Waits until `end`.
pub(crate) async fn sleep_until(end: Instant) {
    match timer() {
        Ok(timer) => Sleep { timer, end, key: None }.await,
        Err(error) => {
            // Late by up to two milliseconds is better than never.
            tracing::debug!(%error, "no exact timer");
            tokio::time::sleep_until(end.into()).await;
        }
    }
}

/// Waits for `time`.
pub(crate) async fn sleep(time: Duration) {
    match Instant::now().checked_add(time) {
        Some(end) => sleep_until(end).await,
        // Further away than the clock can tell.
        None => std::future::pending().await,
    }
}

fn timer() -> io::Result<&'static Arc<Timer>> {
    if let Some(timer) = TIMER.get() {
        return Ok(timer);
    }
    let _making = MAKING.lock();
    match TIMER.get() {
        Some(timer) => Ok(timer),
        None => {
            let timer = Timer::start()?;
            Ok(TIMER.get_or_init(|| timer))
        }
    }
}

struct Timer {
    /// Set to the first moment of the queue, or to an earlier one.
    descriptor: OwnedFd,
    /// Moments count from here.
    begin: Instant,
    /// Locked for one change, or for one batch of sleeps that are due.
    queue: Mutex<Queue>,
}

/// Place of a sleep in the queue: its moment, and a number that no other sleep has.
type Key = (u64, u64);

/// Sleeps that wait, by moment.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Key, Waker>,
    number: u64,
    /// Moment that the descriptor is set to, unless it has passed.
    set: Option<u64>,
}

impl Queue {
    fn add(&mut self, moment: u64, waker: Waker) -> Key {
        self.number += 1;
        let key = (moment, self.number);
        self.waiting.insert(key, waker);
        key
    }

    /// The moment to set the descriptor to, if it is not yet set early enough.
    fn next_setting(&mut self) -> Option<u64> {
        let (first, _) = *self.waiting.keys().next()?;
        if self.set.is_some_and(|set| set <= first) {
            return None;
        }
        self.set = Some(first);
        self.set
    }

    /// Takes sleeps that are due, a batch at most.
    fn take_due(&mut self, now: u64) -> Vec<Waker> {
        if self.set.is_some_and(|set| set <= now) {
            self.set = None;
        }
        let mut due = Vec::new();
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
            && due.len() < BATCH
        {
            due.push(first.remove());
        }
        due
    }
}

impl Timer {
    fn start() -> io::Result<Arc<Self>> {
        let descriptor = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let queue = Mutex::new(Queue::default());
        let timer = Arc::new(Self { descriptor, begin: Instant::now(), queue });
        let waiting = timer.clone();
        // Fatal, because without this thread no sleep would end.
        let run = move || panics::fatal(|| waiting.run());
        let thread = Builder::new().name("timer".into()).stack_size(STACK).spawn(run);
        thread.map_err(task_limits::named)?;
        Ok(timer)
    }

    fn run(&self) {
        let mut expirations = [0; size_of::<u64>()];
        loop {
            match rustix::io::read(&self.descriptor, &mut expirations) {
                Ok(_) | Err(Errno::INTR) => self.wake(),
                Err(error) => panic!("cannot wait for the timer: {error}"),
            }
        }
    }

    /// Wakes all that is due, then sets the descriptor to what comes next.
    fn wake(&self) {
        loop {
            let now = self.nanos(Instant::now());
            let due = {
                let mut queue = self.queue.lock();
                let due = queue.take_due(now);
                if due.len() < BATCH {
                    self.set(&mut queue);
                }
                due
            };
            let is_last = due.len() < BATCH;
            // Without the lock: a waker may run code that drops a sleep.
            due.into_iter().for_each(Waker::wake);
            if is_last {
                return;
            }
        }
    }

    /// Sets the descriptor to the first moment, if it has to be.
    // Under the lock of the queue: a later call would else overtake an earlier one.
    fn set(&self, queue: &mut Queue) {
        let Some(moment) = queue.next_setting() else { return };
        let left = moment.saturating_sub(self.nanos(Instant::now()));
        // 0 would disarm it.
        let left = Duration::from_nanos(left.max(1));
        let tv_sec = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        let value = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec, tv_nsec: left.subsec_nanos().into() },
        };
        if let Err(error) = timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &value) {
            panic!("cannot set the timer to {left:?}: {error}");
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// The point of the grid for the end of a sleep that begins now.
    fn moment(&self, end: Instant, now: Instant) -> u64 {
        let grid = grid(self.nanos(end).saturating_sub(self.nanos(now)));
        self.nanos(end).div_ceil(grid).saturating_mul(grid)
    }
}

/// The grid for a sleep of that length. Each grid has every second point of the next finer one, so
/// that sleeps of different lengths end together.
fn grid(nanos: u64) -> u64 {
    let doubled = (nanos / PART / GRID).max(1).ilog2();
    GRID << doubled.min(MOST_DOUBLED)
}

/// A sleep. Its drop leaves nothing in the queue.
struct Sleep {
    timer: &'static Arc<Timer>,
    end: Instant,
    /// Its place in the queue, from the first poll that has to wait.
    key: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // The thread takes a sleep only when its moment has come, which is not before its end.
        let now = Instant::now();
        if now >= self.end {
            return Poll::Ready(());
        }
        let mut queue = self.timer.queue.lock();
        if let Some(waker) = self.key.and_then(|key| queue.waiting.get_mut(&key)) {
            waker.clone_from(cx.waker());
            return Poll::Pending;
        }
        let key = queue.add(self.timer.moment(self.end, now), cx.waker().clone());
        self.timer.set(&mut queue);
        drop(queue);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // The descriptor stays as it is: at its moment the thread looks for the next one.
            let waker = self.timer.queue.lock().waiting.remove(&key);
            // Without the lock, as in `wake`.
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn waker() -> Waker {
        Arc::new(Woken::default()).into()
    }

    #[test]
    fn the_descriptor_is_set_only_for_a_sleep_that_comes_first() {
        let mut queue = Queue::default();
        assert_eq!(queue.next_setting(), None);
        let late = queue.add(50, waker());
        assert_eq!((queue.next_setting(), queue.next_setting()), (Some(50), None));
        let early = queue.add(20, waker());
        assert_eq!(queue.next_setting(), Some(20));
        // Its sleep is gone, and the thread finds the next one at that moment.
        queue.waiting.remove(&early);
        assert_eq!(queue.next_setting(), None);
        assert!(queue.take_due(20).is_empty());
        assert_eq!(queue.next_setting(), Some(50));
        assert_eq!(queue.take_due(50).len(), 1);
        assert!(!queue.waiting.contains_key(&late));
        assert_eq!(queue.next_setting(), None);
    }

    #[test]
    fn what_is_due_is_taken_in_batches() {
        let mut queue = Queue::default();
        for moment in 0..300 {
            queue.add(moment, waker());
        }
        let taken = [0; 4].map(|_| queue.take_due(280).len());
        assert_eq!(taken, [128, 128, 25, 0]);
        assert_eq!(queue.waiting.len(), 19);
    }

    #[test]
    fn grid_is_fine_for_short_sleeps_and_a_small_part_of_long_ones() {
        for short in [0, 100_000, 1_000_000, 2_000_000] {
            assert_eq!(grid(short), GRID);
        }
        for long in [2_100_000, 20_000_000, 65_000_000] {
            let grid = grid(long);
            assert!(grid <= long / PART && grid > long / PART / 2, "{long}: {grid}");
            assert!((grid / GRID).is_power_of_two() && grid.is_multiple_of(GRID));
        }
        for longest in [1_000_000_000, u64::MAX] {
            assert_eq!(grid(longest), 1_024_000);
        }
    }

    /// Sleeps in the queue of this process that end far from now.
    fn waiting() -> usize {
        let timer = timer().unwrap();
        let now = Instant::now();
        let far = timer.moment(now + Duration::from_secs(1000), now);
        timer.queue.lock().waiting.range((far, 0)..).count()
    }

    #[tokio::test]
    async fn dropped_sleeps_leave_nothing_and_others_end_in_order() {
        let far = Instant::now() + Duration::from_secs(10_000);
        let mut long: Vec<_> = (0..2000).map(|_| Box::pin(sleep_until(far))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for sleep in &mut long {
            assert!(sleep.as_mut().poll(&mut context).is_pending());
            // A second poll takes no second place.
            assert!(sleep.as_mut().poll(&mut context).is_pending());
        }
        assert_eq!(waiting(), 2000);
        let begin = Instant::now();
        let one = sleep(Duration::from_millis(30));
        let other = async {
            sleep(Duration::from_millis(10)).await;
            begin.elapsed()
        };
        let other = tokio::join!(one, other).1;
        assert!(begin.elapsed() >= Duration::from_millis(30));
        assert!(other >= Duration::from_millis(10));
        drop(long);
        assert_eq!(waiting(), 0);
    }

    #[tokio::test]
    async fn a_sleep_that_is_over_or_has_no_end_takes_no_place() {
        let before = waiting();
        sleep(Duration::ZERO).await;
        let mut endless = Box::pin(sleep(Duration::MAX));
        assert!(endless.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(waiting(), before);
    }
}
