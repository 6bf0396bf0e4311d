//! How much CPU time a lane may use in a period: pure bookkeeping, the queue asks it after every turn.
//!
//! A turn ends when it ends, so a lane can use more than it has; the debt is paid in the periods that follow, and what was not
//! used is not saved up. Over several periods the lane gets its quota exactly.

use std::time::{Duration, Instant};

use crate::bundle::resources::Quota;

/// How often and how long a lane has waited for its next period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which it has used anything.
    pub periods: u64,
    /// How often it was throttled.
    pub throttled: u64,
    /// For how long, all in all.
    pub time: Duration,
}

/// A lane's quota and what is left of it.
#[derive(Debug, Default)]
pub(super) struct Bandwidth {
    quota: Option<Quota>,
    /// Nanoseconds left in this period; less than 0 is a debt.
    left: i128,
    /// The end of this period; none has begun yet.
    ends: Option<Instant>,
    throttled_since: Option<Instant>,
    throttling: Throttling,
}

impl Bandwidth {
    /// Another quota, from now on; debts are forgotten.
    pub(super) fn set(&mut self, quota: Option<Quota>, now: Instant) {
        self.wake(now);
        (self.quota, self.ends) = (quota, None);
    }

    /// Books CPU time. The answer is when the lane may go on, unless it may at once.
    pub(super) fn charge(&mut self, used: Duration, now: Instant) -> Option<Instant> {
        let quota = self.quota?;
        self.advance(quota, now);
        self.left -= nanos(used);
        if self.left > 0 {
            return None;
        }
        if self.throttled_since.is_none() {
            self.throttled_since = Some(now);
            self.throttling.throttled += 1;
        }
        self.until(quota)
    }

    /// Looks whether a throttled lane may go on; if not, the answer is when to look again.
    pub(super) fn look(&mut self, now: Instant) -> Option<Instant> {
        if let Some(quota) = self.quota.filter(|_| self.throttled_since.is_some()) {
            self.advance(quota, now);
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

    pub(super) fn throttling(&self) -> Throttling {
        self.throttling
    }

    fn wake(&mut self, now: Instant) {
        if let Some(since) = self.throttled_since.take() {
            self.throttling.time += now.saturating_duration_since(since);
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
        self.left = (self.left + over * nanos(quota.time)).min(nanos(quota.time));
        let periods = u32::try_from(over).unwrap_or(u32::MAX);
        self.ends = Some(ends + quota.period * periods);
        self.throttling.periods += 1;
    }

    /// When the debt is paid.
    fn until(&self, quota: Quota) -> Option<Instant> {
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

    /// Runs turns of `turn` whenever that is allowed, for `rounds` milliseconds; the answer is the CPU time used.
    fn spin(bandwidth: &mut Bandwidth, turn: Duration, start: Instant, rounds: u32) -> Duration {
        let (mut now, mut used, end) = (start, Duration::ZERO, start + MS * rounds);
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
    fn a_spinner_gets_its_quota_whatever_its_turns_last() {
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
    fn what_was_not_used_is_not_saved_up() {
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
