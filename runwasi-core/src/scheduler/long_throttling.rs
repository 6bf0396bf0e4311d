//! Detection of a lane that its quota throttles for most of a long time: pure bookkeeping.
//!
//! A container that computes without end is told after 10 s, then after twice that time, and so on
//! to once an hour.

use std::time::{Duration, Instant};

use crate::observe::Throttled;

/// The first time looked at.
const FIRST: Duration = Duration::from_secs(10);
/// The longest time looked at.
const LONGEST: Duration = Duration::from_secs(3600);

/// Throttling of one lane in the present window of time.
#[derive(Debug)]
pub(super) struct LongThrottling {
    length: Duration,
    /// Begin of the window, and the time throttled before it. Absent until the first throttling.
    window: Option<(Instant, Duration)>,
}

impl Default for LongThrottling {
    fn default() -> Self {
        Self { length: FIRST, window: None }
    }
}

impl LongThrottling {
    /// Notes a throttling that began at `since` and ends `now`; `total` is the time throttled with
    /// it. Returns what is to be told.
    pub(super) fn ended(
        &mut self,
        since: Instant,
        now: Instant,
        total: Duration,
    ) -> Option<Throttled> {
        let own = now.saturating_duration_since(since);
        let (begin, before) = *self.window.get_or_insert((since, total.saturating_sub(own)));
        let window = now.saturating_duration_since(begin);
        if window < self.length {
            return None;
        }
        self.window = Some((now, total));
        let throttled = total.saturating_sub(before);
        if throttled < window / 2 {
            return None;
        }
        self.length = (self.length * 2).min(LONGEST);
        Some(Throttled { window, throttled, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Times at which a lane is told that is throttled for `share` of each period of 100 ms.
    fn told(share: u32, seconds: u32) -> Vec<u64> {
        let start = Instant::now();
        let mut long = LongThrottling::default();
        let mut told = Vec::new();
        for period in 0..seconds * 10 {
            let since = start + MS * 100 * period;
            let now = since + MS * share;
            if let Some(throttled) = long.ended(since, now, MS * share * (period + 1)) {
                assert!(throttled.throttled * 2 >= throttled.window, "{throttled:?}");
                assert_eq!(throttled.total, MS * share * (period + 1));
                told.push(now.duration_since(start).as_secs());
            }
        }
        told
    }

    #[test]
    fn lane_that_is_throttled_for_most_of_the_time_is_told_less_and_less_often() {
        assert!(told(90, 9).is_empty());
        assert_eq!(told(90, 80), [10, 30, 70]);
        // 10 to 2560 s, then hours.
        assert_eq!(told(90, 86_400).len(), 9 + 22);
    }

    #[test]
    fn lane_that_is_throttled_seldom_is_not_told() {
        assert!(told(40, 3600).is_empty());
    }
}
