//! HTTP services of containers. Counted by the engine that serves them.
//!
//! Every worker counts requests, so each number has a shard for each.

use std::time::Duration;

use super::{
    labels::label,
    numbers::{Counter, Gauge, Histogram, Present, Sharded},
};

label! {
    /// Class of a status.
    Status {
        /// 1xx
        Informational = "1xx",
        /// 2xx
        Successful = "2xx",
        /// 3xx
        Redirection = "3xx",
        /// 4xx
        ClientError = "4xx",
        /// 5xx, and everything that is no status of HTTP.
        ServerError = "5xx",
    }
}

label! {
    /// Reason why a request has got an answer of the server in place of the guest's.
    Failure {
        /// The request is invalid, or its method is not supported.
        Request = "request",
        /// No instance was free in time.
        Busy = "busy",
        /// No memory was left for an instance.
        NoMemory = "memory",
        /// The guest has not answered in time.
        TimedOut = "timeout",
        /// The guest has failed, or has returned without an answer.
        Failed = "failed",
        /// The guest has answered with an error code.
        Refused = "refused",
    }
}

static ANSWERS: Sharded<[Counter; Status::COUNT]> = Sharded::counters();
static TIMES: Sharded<Histogram> = Sharded::of_fast();
static FAILURES: [Counter; Failure::COUNT] = [const { Counter::new() }; Failure::COUNT];
static CONNECTIONS: Gauge = Gauge::new();
/// Requests that have begun, and that have ended. Not a gauge: all workers would write to one cache
/// line, twice for each request.
static REQUESTS: Sharded<[Counter; 2]> = Sharded::counters();
const BEGUN: usize = 0;
const ENDED: usize = 1;

/// Counts an answered request, and the time until the head of its response.
pub fn answered(status: u16, time: Duration) {
    let class = match status / 100 {
        1 => Status::Informational,
        2 => Status::Successful,
        3 => Status::Redirection,
        4 => Status::ClientError,
        _ => Status::ServerError,
    };
    ANSWERS.local()[class as usize].add(1);
    TIMES.observe(time);
}

/// Counts a request that the server has answered in place of the guest.
pub fn failed(failure: Failure) {
    FAILURES[failure as usize].add(1);
}

/// A request under way, until it is dropped.
#[derive(Debug)]
pub struct UnderWay(());

/// Counts a request under way for as long as the returned value lives.
pub fn request() -> UnderWay {
    REQUESTS.local()[BEGUN].add(1);
    UnderWay(())
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        REQUESTS.local()[ENDED].add(1);
    }
}

/// Counts a connection for as long as the returned value lives.
pub fn connection() -> Present {
    CONNECTIONS.hold()
}

/// The present values, for the exposition.
pub(super) mod values {
    use super::*;
    use crate::metrics::numbers::Distribution;

    pub(in crate::metrics) fn answers(status: Status) -> u64 {
        ANSWERS.sum_of(status as usize)
    }

    pub(in crate::metrics) fn failures(failure: Failure) -> u64 {
        FAILURES[failure as usize].get()
    }

    pub(in crate::metrics) fn times() -> Distribution {
        TIMES.get()
    }

    pub(in crate::metrics) fn requests_under_way() -> i64 {
        // In this order: a request that ends in between is not subtracted before it was added.
        let ended = REQUESTS.sum_of(ENDED);
        i64::try_from(REQUESTS.sum_of(BEGUN).saturating_sub(ended)).unwrap_or(i64::MAX)
    }

    pub(in crate::metrics) fn connections() -> i64 {
        CONNECTIONS.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::labels::Label;

    #[test]
    fn statuses_are_counted_by_their_class() {
        let before: Vec<_> = Status::ALL.iter().map(|class| values::answers(*class)).collect();
        for status in [100, 200, 299, 302, 404, 500, 0, 999] {
            answered(status, Duration::ZERO);
        }
        let after = Status::ALL.iter().map(|class| values::answers(*class));
        let added: Vec<_> = after.zip(before).map(|(after, before)| after - before).collect();
        assert_eq!(added, [1, 2, 1, 1, 3]);
    }

    #[test]
    fn requests_are_under_way_until_they_are_dropped_by_any_thread() {
        let before = values::requests_under_way();
        let held = [request(), request()];
        assert_eq!(values::requests_under_way(), before + 2);
        std::thread::spawn(move || drop(held)).join().unwrap();
        assert_eq!(values::requests_under_way(), before);
    }
}
