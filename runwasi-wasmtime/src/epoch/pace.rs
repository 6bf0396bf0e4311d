//! Pure decisions of the ticker's thread: how it waits, and when it ticks.
//!
//! ```text
//!             a guest is polled           all workers poll guests
//!   Asleep ──────────────────▶ Relaxed ──────────────────────────▶ Busy ◀─┐
//!      ▲                       │ ▲   ▲                              │ │   │ quantum over,
//!      │                       │ └───┘ interval over: tick          │ └───┘ polls were short
//!      └───────────────────────┘ ▲                                  │
//!        no guest at QUIET ticks └───────── quantum over: tick ─────┘
//! ```
//!
//! Short polls need no tick: their workers come to other tasks by themselves. Under the load of a
//! server all workers poll guests thousands of times a second, and a wake-up for each of these
//! times would cost more than the polls.

use std::time::Duration;

/// Interval between ticks while a worker is free, unless the quantum is longer.
const RELAXED_INTERVAL: Duration = Duration::from_millis(5);

/// Number of ticks without a polled guest after which the thread sleeps.
// A server polls for microseconds, thousands of times a second. Waking the thread for each poll
// would cost more than the polls.
const QUIET: u32 = 4;

/// Number of polls by each worker in a quantum, above which they are short.
// A computing guest is polled once or twice: it yields at ticks only.
const SHORT: usize = 4;

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
    /// Every worker polled a guest at the beginning of this quantum, or polls are short. With the
    /// number of quanta in a row that had no tick.
    // Further polls do not wake the thread: a computing guest begins one after each yield.
    Busy(u32),
}

/// A wait until that number of guests is polled at once, or the timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) wanted: usize,
    /// Absent: no timeout.
    pub(super) timeout: Option<Duration>,
}

/// State of the polls at the end of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct PollState {
    /// The timeout ended the wait.
    pub(super) timed_out: bool,
    /// Guests being polled.
    pub(super) active: usize,
    /// Polls that began during the wait.
    pub(super) polls: usize,
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
            Phase::Busy(_) => Wait { wanted: NEVER, timeout: Some(self.quantum) },
        }
    }

    /// Handles the end of the last wait, on a runtime of that many workers. Returns true for a
    /// tick.
    pub(super) fn advance(&mut self, seen: PollState, workers: usize) -> bool {
        match self.phase {
            Phase::Asleep => {
                self.phase = Phase::Relaxed;
                self.quiet = 0;
                false
            }
            Phase::Relaxed if !seen.timed_out => {
                self.phase = Phase::Busy(0);
                false
            }
            Phase::Busy(quanta) if seen.polls > SHORT * workers => {
                self.short(quanta + 1, seen.active)
            }
            Phase::Relaxed | Phase::Busy(_) => self.tick(seen.active),
        }
    }

    /// After so many quanta of short polls: they have the ticks of a free worker, for a guest that
    /// computes beside them.
    fn short(&mut self, quanta: u32, active: usize) -> bool {
        self.quiet = 0;
        let due = self.quantum * quanta >= RELAXED_INTERVAL;
        self.phase = Phase::Busy(if due { 0 } else { quanta });
        due && active > 0
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

        /// The same on so many workers: each polls one guest at once.
        fn on(mut self, workers: usize) -> Self {
            self.steps.iter_mut().for_each(|(_, active)| *active = (*active).min(workers));
            self
        }

        /// Number of polls that begin after `from`, until `to`.
        fn polls(&self, from: Duration, to: Duration) -> usize {
            let mut begin = Duration::ZERO;
            let mut before = 0;
            let begun = self.steps.iter().map(|(length, active)| {
                let new =
                    if begin > from && begin <= to { active.saturating_sub(before) } else { 0 };
                begin += *length;
                before = *active;
                new
            });
            begun.sum()
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

    /// End of the wait that begins now, and the state at it. Nothing if the wait has no end.
    fn next(
        pace: &Pace,
        load: &Load,
        now: Duration,
        workers: usize,
    ) -> Option<(Duration, PollState)> {
        let wait = pace.wait(workers);
        let reached = load.reaches(wait.wanted, now).unwrap_or(Duration::MAX);
        let timeout = wait.timeout.map_or(Duration::MAX, |timeout| now + timeout);
        let end = reached.min(timeout);
        let seen = || PollState {
            timed_out: timeout < reached,
            active: load.at(end),
            polls: load.polls(now, end),
        };
        (end < Duration::MAX).then(|| (end, seen()))
    }

    /// Times of the ticks, and the time at which the thread has gone to sleep for good.
    fn simulate(quantum: Duration, workers: usize, load: &Load) -> (Vec<Duration>, Duration) {
        let mut pace = Pace::new(quantum);
        let mut now = Duration::ZERO;
        let mut ticks = Vec::new();
        while let Some((end, seen)) = next(&pace, load, now, workers) {
            now = end;
            if pace.advance(seen, workers) {
                ticks.push(now);
            }
        }
        (ticks, now)
    }

    fn any_load() -> impl Strategy<Value = Load> {
        let steps = |longest| {
            let step = (1..longest, 0..5usize)
                .prop_map(|(micros, active)| (Duration::from_micros(micros), active));
            proptest::collection::vec(step, 0..40)
        };
        // Long polls, and between them series of short ones.
        let parts = proptest::collection::vec(prop_oneof![steps(30_000u64), steps(100)], 0..4);
        parts.prop_map(|parts| Load { steps: parts.concat() })
    }

    proptest! {
        #[test]
        fn any_load_ticks_in_time_and_never_without_a_guest(
            quantum in 1..10u32,
            workers in 1..4usize,
            load in any_load(),
        ) {
            let load = load.on(workers);
            let quantum = MS * quantum;
            let relaxed = quantum.max(RELAXED_INTERVAL);
            let (ticks, asleep) = simulate(quantum, workers, &load);
            for tick in &ticks {
                prop_assert!(load.at(*tick) > 0, "a tick at {tick:?} without a guest");
            }
            for pair in ticks.windows(2) {
                prop_assert!(pair[1] - pair[0] >= quantum, "{pair:?}");
            }
            // Any window of computing guests has a tick: without a free worker after a quantum, or
            // after the next one if polls were short before. With a free worker after a relaxed
            // interval, and another one if polls became short at its end.
            let ticked = |from: Duration, length: Duration| {
                ticks.iter().any(|tick| *tick >= from && *tick <= from + length)
            };
            for micros in (0..load.end().as_micros() as u64).step_by(500) {
                let from = Duration::from_micros(micros);
                for (least, length) in [(workers, quantum * 2), (1, (relaxed + quantum) * 2)] {
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
            let (end, seen) = next(&pace, &load, now, 2).unwrap();
            now = end;
            pace.advance(seen, 2);
            wakeups += 1;
        }
        assert!(wakeups <= 25, "{wakeups} in place of 100");
    }

    #[test]
    fn short_polls_on_all_workers_have_the_ticks_of_a_free_worker() {
        // Each worker is at its own poll, or at two of them, for 50 ms.
        let polls = [(MS / 50, 1), (MS / 50, 2)];
        let load = Load { steps: polls.repeat(1250) };
        let mut pace = Pace::new(MS);
        let mut now = Duration::ZERO;
        let mut notified = 0;
        let mut ticks = 0;
        while now < load.end() {
            let (end, seen) = next(&pace, &load, now, 2).unwrap();
            now = end;
            ticks += u32::from(pace.advance(seen, 2));
            notified += u32::from(!seen.timed_out);
        }
        assert_eq!(notified, 2, "of the first poll, and of the first two at once");
        assert!((8..=11).contains(&ticks), "{ticks}");
    }
}
