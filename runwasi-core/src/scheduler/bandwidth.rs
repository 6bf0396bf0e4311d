//! CPU quota of a lane per period: pure bookkeeping, updated by the queue after every turn.
//!
//! A turn cannot be cut short, so a lane can exceed its quota. The debt is paid in the periods that
//! follow, and unused time is not carried over. Over several periods the lane gets its quota
//! exactly.

use std::{
    ops::{AddAssign, Sub},
    time::{Duration, Instant},
};

use super::long_throttling::LongThrottling;
use crate::{bundle::resources::Quota, observe::Throttled};

/// Throttling counters of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which it has used CPU time.
    pub periods: u64,
    /// Number of times it was throttled.
    pub throttled: u64,
    /// Total time throttled.
    pub time: Duration,
}

impl AddAssign for Throttling {
    fn add_assign(&mut self, more: Self) {
        self.periods += more.periods;
        self.throttled += more.throttled;
        self.time += more.time;
    }
}

/// Increase since an earlier look at the same counters.
impl Sub for Throttling {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            periods: self.periods - before.periods,
            throttled: self.throttled - before.throttled,
            time: self.time - before.time,
        }
    }
}

/// A lane's quota and the time left of it in this period.
#[derive(Debug, Default)]
pub(super) struct Bandwidth {
    quota: Option<Quota>,
    /// Nanoseconds left in this period; a negative value is a debt.
    left: i128,
    /// The end of this period; empty until the first charge.
    ends: Option<Instant>,
    throttled_since: Option<Instant>,
    throttling: Throttling,
    long: LongThrottling,
    /// Result of `long` that was not taken yet.
    found: Option<Throttled>,
}

impl Bandwidth {
    /// Replaces the quota from now on and forgets debts.
    pub(super) fn set(&mut self, quota: Option<Quota>, now: Instant) {
        // Ends a throttling under the old quota, so that its time is counted.
        self.wake(now);
        self.quota = quota;
        // The next charge starts a period of the new quota, with all of its time left.
        self.ends = None;
    }

    /// Books CPU time. Returns the time at which the lane may run again, if it is throttled.
    pub(super) fn charge(&mut self, used: Duration, now: Instant) -> Option<Instant> {
        let quota = self.quota?;
        self.advance(quota, now);
        self.left -= nanos(used);
        if self.left > 0 {
            return None;
        }
        // A lane that is throttled already is charged for turns that were running: one throttling.
        if self.throttled_since.is_none() {
            self.throttled_since = Some(now);
            self.throttling.throttled += 1;
        }
        self.until(quota)
    }

    /// Ends the throttling if the debt is paid; otherwise returns the time of the next check.
    pub(super) fn look(&mut self, now: Instant) -> Option<Instant> {
        if let Some(quota) = self.quota.filter(|_| self.throttled_since.is_some()) {
            self.advance(quota, now);
            // Turns that were running have been charged since: the debt may have grown.
            if self.left <= 0 {
                return self.until(quota);
            }
        }
        self.wake(now);
        None
    }

    pub(super) fn is_throttled(&self) -> bool {
        self.throttled_since.is_some()
    }

    pub(super) fn quota(&self) -> Option<Quota> {
        self.quota
    }

    pub(super) fn throttling(&self) -> Throttling {
        self.throttling
    }

    /// A long throttling that has not been taken yet.
    pub(super) fn take_long(&mut self) -> Option<Throttled> {
        self.found.take()
    }

    fn wake(&mut self, now: Instant) {
        if let Some(since) = self.throttled_since.take() {
            self.throttling.time += now.saturating_duration_since(since);
            let found = self.long.ended(since, now, self.throttling.time);
            self.found = found.or(self.found);
        }
    }

    /// Brings the period up to date.
    fn advance(&mut self, quota: Quota, now: Instant) {
        let Some(ends) = self.ends else {
            (self.left, self.ends) = (nanos(quota.time), Some(now + quota.period));
            self.throttling.periods += 1;
            return;
        };
        if now < ends {
            return;
        }
        let over = nanos(now - ends) / nanos(quota.period) + 1;
        // A debt is carried into the next periods, unused time is not: at most one period's quota.
        self.left = (self.left + over * nanos(quota.time)).min(nanos(quota.time));
        let periods = u32::try_from(over).unwrap_or(u32::MAX);
        self.ends = Some(ends + quota.period * periods);
        self.throttling.periods += 1;
    }

    /// The time at which the debt is paid.
    fn until(&self, quota: Quota) -> Option<Instant> {
        // Each whole quota of debt takes one more period after the end of this one.
        let periods = u32::try_from(-self.left / nanos(quota.time)).unwrap_or(u32::MAX);
        self.ends.map(|ends| ends + quota.period * periods)
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn bandwidth(quota: u32, period: u32, now: Instant) -> Bandwidth {
        let mut bandwidth = Bandwidth::default();
        bandwidth.set(Some(Quota { time: MS * quota, period: MS * period }), now);
        bandwidth
    }

    /// Runs turns of `turn` whenever the quota allows, for `rounds` milliseconds.
    /// Returns the CPU time used.
    fn spin(bandwidth: &mut Bandwidth, turn: Duration, start: Instant, rounds: u32) -> Duration {
        let mut now = start;
        let mut used = Duration::ZERO;
        let end = start + MS * rounds;
        while now < end {
            now += turn;
            used += turn;
            let mut until = bandwidth.charge(turn, now);
            while let Some(at) = until {
                assert!(at > now, "it may go on at once");
                now = at;
                until = bandwidth.look(now);
            }
        }
        used
    }

    #[test]
    fn a_spinner_gets_its_quota_for_any_turn_length() {
        for (quota, period) in [(20, 100), (5, 100), (50, 100), (1, 10), (99, 100)] {
            for turn in [MS / 10, MS, MS * 7] {
                let now = Instant::now();
                let used =
                    spin(&mut bandwidth(quota, period, now), turn, now, 10_000).as_secs_f64();
                let wanted = 10.0 * f64::from(quota) / f64::from(period);
                assert!(
                    (used / wanted - 1.0).abs() < 0.03,
                    "{quota} of {period} in turns of {turn:?}: {used}"
                );
            }
        }
    }

    #[test]
    fn throttling_is_counted() {
        let now = Instant::now();
        let mut bandwidth = bandwidth(20, 100, now);
        spin(&mut bandwidth, MS, now, 1000);
        let Throttling { periods, throttled, time } = bandwidth.throttling();
        assert!(
            (9..=11).contains(&periods) && (9..=11).contains(&throttled),
            "{periods} {throttled}"
        );
        assert!(time > MS * 750 && time < MS * 850, "{time:?}");
    }

    #[test]
    fn unused_time_is_not_carried_over() {
        let now = Instant::now();
        let mut bandwidth = bandwidth(10, 100, now);
        assert_eq!(bandwidth.charge(MS, now), None);
        let later = now + MS * 1000;
        assert_eq!(bandwidth.charge(MS * 9, later), None);
        assert!(bandwidth.charge(MS * 2, later).is_some());
    }

    #[test]
    fn without_a_quota_nothing_is_throttled_and_a_new_one_forgets_debts() {
        let now = Instant::now();
        let mut bandwidth = bandwidth(10, 100, now);
        assert!(bandwidth.charge(MS * 500, now).is_some() && bandwidth.is_throttled());
        bandwidth.set(None, now + MS);
        assert!(!bandwidth.is_throttled());
        assert_eq!(bandwidth.charge(MS * 500, now + MS), None);
        assert_eq!(bandwidth.throttling().time, MS);
    }
}
