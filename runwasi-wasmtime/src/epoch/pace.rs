//! Pure decisions of the ticker's thread: how it waits, and when it ticks.
//!
//! ```text
//!             a guest is polled           all workers poll guests
//!   Asleep ──────────────────▶ Relaxed ──────────────────────────▶ Busy
//!      ▲                       │ ▲   ▲                               │
//!      │                       │ └───┘ interval over: tick           │
//!      └───────────────────────┘ ▲                                   │
//!        no guest at QUIET ticks └───────── quantum over: tick ──────┘
//! ```

use std::time::Duration;

/// Interval between ticks while a worker is free, unless the quantum is longer.
const RELAXED_INTERVAL: Duration = Duration::from_millis(5);

/// Number of ticks without a polled guest after which the thread sleeps.
// A server polls for microseconds, thousands of times a second. Waking the thread for each poll
// would cost more than the polls.
const QUIET: u32 = 4;

/// More guests than are ever polled at once: the thread is not woken.
pub(super) const NEVER: usize = usize::MAX;

/// Pace of the ticks.
#[derive(Debug)]
pub(super) struct Pace {
    quantum: Duration,
    phase: Phase,
    /// Ticks in a row without a polled guest.
    quiet: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No guest is polled. The wait has no timeout.
    Asleep,
    /// A worker may be free: its interval ends early when the last worker polls a guest.
    Relaxed,
    /// Every worker polled a guest at the beginning of this quantum.
    // Further polls do not wake the thread: a computing guest begins one after each yield.
    Busy,
}

/// A wait until that number of guests is polled at once, or the timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) wanted: usize,
    /// Absent: no timeout.
    pub(super) timeout: Option<Duration>,
}

impl Pace {
    pub(super) fn new(quantum: Duration) -> Self {
        Self { quantum, phase: Phase::Asleep, quiet: 0 }
    }

    /// The next wait, on a runtime of that many workers.
    pub(super) fn wait(&self, workers: usize) -> Wait {
        match self.phase {
            Phase::Asleep => Wait { wanted: 1, timeout: None },
            Phase::Relaxed => {
                Wait { wanted: workers, timeout: Some(self.quantum.max(RELAXED_INTERVAL)) }
            }
            Phase::Busy => Wait { wanted: NEVER, timeout: Some(self.quantum) },
        }
    }

    /// Handles the end of the last wait, with `active` guests being polled. Returns true for a
    /// tick.
    pub(super) fn advance(&mut self, timed_out: bool, active: usize) -> bool {
        match (self.phase, timed_out) {
            (Phase::Asleep, _) => {
                self.phase = Phase::Relaxed;
                self.quiet = 0;
                false
            }
            (Phase::Relaxed, false) => {
                self.phase = Phase::Busy;
                false
            }
            (Phase::Relaxed, true) | (Phase::Busy, _) => self.tick(active),
        }
    }

    fn tick(&mut self, active: usize) -> bool {
        self.quiet = if active == 0 { self.quiet + 1 } else { 0 };
        self.phase = if self.quiet < QUIET { Phase::Relaxed } else { Phase::Asleep };
        active > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Number of guests being polled over time, in steps.
    #[derive(Clone, Debug)]
    struct Load {
        /// Length of each step and the guests polled in it. Afterwards no guest is polled.
        steps: Vec<(Duration, usize)>,
    }

    impl Load {
        fn end(&self) -> Duration {
            self.steps.iter().map(|(length, _)| *length).sum()
        }

        fn at(&self, time: Duration) -> usize {
            let mut end = Duration::ZERO;
            let here = self.steps.iter().find(|(length, _)| {
                end += *length;
                time < end
            });
            here.map_or(0, |(_, active)| *active)
        }

        /// The first time from `time` on at which so many guests are polled.
        fn reaches(&self, wanted: usize, time: Duration) -> Option<Duration> {
            let mut begin = Duration::ZERO;
            let begins = self.steps.iter().map(|(length, _)| {
                let this = begin;
                begin += *length;
                this
            });
            let later = begins.filter(|begin| *begin > time);
            std::iter::once(time).chain(later).find(|time| self.at(*time) >= wanted)
        }

        /// True if at least that many guests are polled at any time of the window.
        fn holds(&self, least: usize, from: Duration, length: Duration) -> bool {
            let mut begin = Duration::ZERO;
            from + length <= self.end()
                && self.steps.iter().all(|(step, active)| {
                    let end = begin + *step;
                    let outside = end <= from || begin >= from + length;
                    begin = end;
                    outside || *active >= least
                })
        }
    }

    /// Times of the ticks, and the time at which the thread has gone to sleep for good.
    fn simulate(quantum: Duration, workers: usize, load: &Load) -> (Vec<Duration>, Duration) {
        let mut pace = Pace::new(quantum);
        let mut now = Duration::ZERO;
        let mut ticks = Vec::new();
        loop {
            let wait = pace.wait(workers);
            let reached = load.reaches(wait.wanted, now);
            let timeout = wait.timeout.map(|timeout| now + timeout);
            let timed_out = match (reached, timeout) {
                (None, None) => return (ticks, now),
                (Some(reached), Some(timeout)) => timeout < reached,
                (reached, _) => reached.is_none(),
            };
            now = if timed_out { timeout } else { reached }.unwrap();
            if pace.advance(timed_out, load.at(now)) {
                ticks.push(now);
            }
        }
    }

    fn any_load() -> impl Strategy<Value = Load> {
        let step = (1..30_000u64, 0..5usize)
            .prop_map(|(micros, active)| (Duration::from_micros(micros), active));
        proptest::collection::vec(step, 0..40).prop_map(|steps| Load { steps })
    }

    proptest! {
        #[test]
        fn any_load_ticks_in_time_and_never_without_a_guest(
            quantum in 1..10u32,
            workers in 1..4usize,
            load in any_load(),
        ) {
            let quantum = MS * quantum;
            let relaxed = quantum.max(RELAXED_INTERVAL);
            let (ticks, asleep) = simulate(quantum, workers, &load);
            for tick in &ticks {
                prop_assert!(load.at(*tick) > 0, "a tick at {tick:?} without a guest");
            }
            for pair in ticks.windows(2) {
                prop_assert!(pair[1] - pair[0] >= quantum, "{pair:?}");
            }
            // Any window of computing guests has a tick: after a quantum without a free worker,
            // and with one after a relaxed interval, or a quantum that begins at its end.
            let ticked = |from: Duration, length: Duration| {
                ticks.iter().any(|tick| *tick >= from && *tick <= from + length)
            };
            for micros in (0..load.end().as_micros() as u64).step_by(500) {
                let from = Duration::from_micros(micros);
                for (least, length) in [(workers, quantum), (1, relaxed + quantum)] {
                    // Longer by a step: the guests are still polled at the tick.
                    let computing = load.holds(least, from, length + MS / 1000);
                    prop_assert!(!computing || ticked(from, length), "no tick from {from:?} on");
                }
            }
            prop_assert!(asleep <= load.end() + (relaxed + quantum) * (QUIET + 1), "{asleep:?}");
        }
    }

    #[test]
    fn ticks_are_relaxed_with_a_free_worker_and_a_quantum_apart_without() {
        let load = Load { steps: vec![(MS * 21, 1), (MS * 4, 2)] };
        let (ticks, _) = simulate(MS, 2, &load);
        assert_eq!(ticks, [5, 10, 15, 20, 22, 23, 24].map(|ms| MS * ms));
    }

    #[test]
    fn short_polls_do_not_wake_the_thread_each_time() {
        // A poll of 10 µs each millisecond, for 100 ms.
        let poll = [(MS / 100, 1), (MS * 99 / 100, 0)];
        let load = Load { steps: poll.repeat(100) };
        let mut pace = Pace::new(MS);
        let mut now = Duration::ZERO;
        let mut wakeups = 0;
        while now < load.end() {
            let wait = pace.wait(2);
            let timeout = wait.timeout.map_or(Duration::MAX, |timeout| now + timeout);
            let reached = load.reaches(wait.wanted, now).unwrap_or(Duration::MAX);
            now = timeout.min(reached);
            pace.advance(timeout < reached, load.at(now));
            wakeups += 1;
        }
        assert!(wakeups <= 25, "{wakeups} in place of 100");
    }
}
