//! Numbers that many threads change: counters, gauges, histograms of durations.
//!
//! All loads and additions are relaxed: no other memory depends on them. So a scrape may see one of
//! two numbers before the other.

use std::{
    cell::Cell,
    sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(crate) fn add(&self, number: u64) {
        self.0.fetch_add(number, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number of things that exist now.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(crate) const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Counts one thing for as long as the returned value lives.
    pub(crate) fn hold(&'static self) -> Present {
        self.0.fetch_add(1, Relaxed);
        Present(self)
    }

    pub(crate) fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// One thing that a `Gauge` counts, until it is dropped.
#[derive(Debug)]
pub struct Present(&'static Gauge);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// Most buckets of a histogram, without the last one, which has no bound.
const BUCKETS: usize = 16;

/// Distribution of durations.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [Duration],
    /// One number for each bound, and one for what is beyond the last.
    counts: [AtomicU64; BUCKETS + 1],
    nanos: AtomicU64,
}

/// Bounds from a tenth of a millisecond to ten seconds: starts and requests.
pub(crate) const FAST: &[Duration] = &[
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Bounds from five milliseconds to two minutes: compilations.
pub(crate) const SLOW: &[Duration] = &[
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(120),
];

/// A histogram as it is exposed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Distribution {
    /// Sum in seconds.
    pub(crate) sum: f64,
    pub(crate) count: u64,
    /// Upper bound in seconds, and the number of what is between the bound before and this one.
    pub(crate) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// An empty histogram; of the bounds, [`BUCKETS`] at most.
    pub(crate) const fn new(bounds: &'static [Duration]) -> Self {
        assert!(bounds.len() <= BUCKETS);
        let counts = [const { AtomicU64::new(0) }; BUCKETS + 1];
        Self { bounds, counts, nanos: AtomicU64::new(0) }
    }

    pub(crate) fn observe(&self, time: Duration) {
        let bucket = self.bounds.partition_point(|bound| *bound < time);
        self.counts[bucket].fetch_add(1, Relaxed);
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    pub(crate) fn get(&self) -> Distribution {
        let mut distribution = Distribution::default();
        distribution.add(self);
        distribution
    }
}

impl Distribution {
    /// Adds the numbers of a histogram with the same bounds.
    pub(crate) fn add(&mut self, histogram: &Histogram) {
        let Self { sum, count, buckets } = self;
        let bounds = histogram.bounds.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        if buckets.is_empty() {
            buckets.extend(bounds.map(|bound| (bound, 0)));
        }
        for ((_, total), number) in buckets.iter_mut().zip(&histogram.counts) {
            let number = number.load(Relaxed);
            *total += number;
            // Not a counter of its own: count and buckets must agree, whatever is added meanwhile.
            *count += number;
        }
        *sum += Duration::from_nanos(histogram.nanos.load(Relaxed)).as_secs_f64();
    }
}

/// Shards of a number. More workers than shards share some.
const SHARDS: usize = 16;

/// One `T` for each of a few groups of threads: workers that count at the same time do not wait for
/// one another's cache line.
#[derive(Debug)]
pub(crate) struct Sharded<T>([Padded<T>; SHARDS]);

/// A value on cache lines of its own: processors fetch two of 64 bytes at once.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

thread_local! {
    /// Shard of this thread; [`SHARDS`] until it has one.
    static SHARD: Cell<usize> = const { Cell::new(SHARDS) };
}

/// Number of threads that have a shard.
static THREADS: AtomicUsize = AtomicUsize::new(0);

impl<T> Sharded<T> {
    /// The shard of this thread.
    pub(crate) fn local(&self) -> &T {
        let shard = SHARD.with(|shard| {
            if shard.get() == SHARDS {
                shard.set(THREADS.fetch_add(1, Relaxed) % SHARDS);
            }
            shard.get()
        });
        &self.0[shard].0
    }

    /// All shards.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|Padded(value)| value)
    }
}

impl Sharded<Counter> {
    pub(crate) const fn counter() -> Self {
        Self([const { Padded(Counter::new()) }; SHARDS])
    }

    pub(crate) fn add(&self, number: u64) {
        self.local().add(number);
    }

    pub(crate) fn get(&self) -> u64 {
        self.all().map(Counter::get).sum()
    }
}

impl<const N: usize> Sharded<[Counter; N]> {
    pub(crate) const fn counters() -> Self {
        Self([const { Padded([const { Counter::new() }; N]) }; SHARDS])
    }

    pub(crate) fn sum_of(&self, index: usize) -> u64 {
        self.all().map(|counters| counters[index].get()).sum()
    }
}

impl Sharded<Histogram> {
    pub(crate) const fn of_fast() -> Self {
        Self([const { Padded(Histogram::new(FAST)) }; SHARDS])
    }

    pub(crate) fn observe(&self, time: Duration) {
        self.local().observe(time);
    }

    pub(crate) fn get(&self) -> Distribution {
        let mut distribution = Distribution::default();
        self.all().for_each(|histogram| distribution.add(histogram));
        distribution
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn durations_are_in_the_bucket_of_their_bound() {
        let histogram = Histogram::new(FAST);
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let Distribution { sum, count, buckets } = histogram.get();
        assert_eq!((count, buckets.len()), (5, FAST.len() + 1));
        assert_eq!((buckets[0], buckets[1]), ((0.0001, 2), (0.00025, 1)));
        assert_eq!((buckets[15], buckets[16]), ((10.0, 1), (f64::INFINITY, 1)));
        assert!((sum - 20.000_202).abs() < 1e-6, "{sum}");
    }

    #[test]
    fn shards_of_all_threads_add_up() {
        static COUNTER: Sharded<Counter> = Sharded::counter();
        static TIMES: Sharded<Histogram> = Sharded::of_fast();
        let count = || {
            for _ in 0..1000 {
                COUNTER.add(2);
                TIMES.observe(Duration::from_millis(1));
            }
        };
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(count);
            }
        });
        assert_eq!((COUNTER.get(), TIMES.get().count), (40_000, 20_000));
    }

    #[test]
    fn gauge_counts_what_is_held() {
        static GAUGE: Gauge = Gauge::new();
        let one = GAUGE.hold();
        let other = GAUGE.hold();
        drop(one);
        assert_eq!(GAUGE.get(), 1);
        drop(other);
        assert_eq!(GAUGE.get(), 0);
    }
}
