//! CPU time of turns, with few reads of the thread's CPU clock.
//!
//! The clock is a system call, and many turns of a server are shorter than ten of them. The
//! monotonic clock is not. So a short turn counts from its begin to its end: the kernel rarely
//! takes a thread off its CPU within so short a time, and then the turn counts at most [`SHORT`]
//! too much. A long turn may have waited, or others may have had its CPU. It counts what the thread
//! has computed since the last reading of its clock, less the turns that were counted since, and at
//! most from its begin to its end. What is between turns is so counted for [`OLD`] at most.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::sys;

/// Longest turn that is measured by the monotonic clock alone.
// Most turns of a server are shorter, and those of guests that compute are far longer.
const SHORT: Duration = Duration::from_micros(100);
/// Age at which a reading is renewed at the begin of a turn.
// A long turn is charged with what the thread did since, so the reading must not be much older.
const OLD: Duration = Duration::from_millis(1);

thread_local! {
    static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
}

/// A reading of this thread's CPU clock.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    cpu: Duration,
    /// Turns that were counted since.
    counted: Duration,
}

/// The clock of one turn, on one thread.
pub(super) struct TurnClock {
    begin: Instant,
}

impl TurnClock {
    pub(super) fn begin() -> Self {
        let begin = Instant::now();
        let is_old = |last: Reading| begin.duration_since(last.at) >= OLD;
        if LAST.get().is_none_or(is_old) {
            renew(begin);
        }
        Self { begin }
    }

    /// Time since the begin.
    pub(super) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Ends the turn. Returns the time since its begin and the CPU time to count.
    pub(super) fn end(&self) -> (Duration, Duration) {
        let elapsed = self.elapsed();
        let Some(mut last) = LAST.get() else { return (elapsed, elapsed) };
        if elapsed <= SHORT {
            last.counted += elapsed;
            LAST.set(Some(last));
            return (elapsed, elapsed);
        }
        let now = renew(self.begin + elapsed);
        let computed = now.cpu.saturating_sub(last.cpu + last.counted);
        (elapsed, computed.min(elapsed))
    }
}

fn renew(at: Instant) -> Reading {
    let reading = Reading { at, cpu: sys::thread_cpu_time(), counted: Duration::ZERO };
    LAST.set(Some(reading));
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Computes for that long.
    fn compute(time: Duration) {
        let start = sys::thread_cpu_time();
        while sys::thread_cpu_time() - start < time {}
    }

    fn measured(turn: impl FnOnce()) -> (Duration, Duration) {
        let clock = TurnClock::begin();
        turn();
        clock.end()
    }

    #[test]
    fn long_turn_counts_what_it_computes() {
        let (elapsed, used) = measured(|| compute(5 * MS));
        assert!(used >= 5 * MS && used <= elapsed, "{used:?} of {elapsed:?}");
    }

    #[test]
    fn wait_within_a_long_turn_is_not_counted() {
        let (elapsed, used) = measured(|| std::thread::park_timeout(20 * MS));
        assert!(elapsed >= 20 * MS && used < 5 * MS, "{used:?} of {elapsed:?}");
    }

    #[test]
    fn sum_of_turns_of_all_lengths_is_what_the_thread_computes() {
        let start = sys::thread_cpu_time();
        let mut counted = Duration::ZERO;
        for n in 0..400 {
            counted += measured(|| compute(n % 7 * MS / 25)).1;
        }
        let all = sys::thread_cpu_time() - start;
        // Other programs may interrupt short turns, which then count too much.
        assert!(counted <= all + 10 * MS && counted >= all - all / 5, "{counted:?} of {all:?}");
    }
}
