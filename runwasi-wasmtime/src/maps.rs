//! Budget of memory maps: an estimate of what the pool uses, corrected by counts.
//!
//! A linear memory in use splits the map of the pool. Its slot stays split afterwards. wasmtime
//! uses such a slot again, but not before every new one: each thread has a part of the pool, whose
//! new slots come before the used ones of other threads. So in time all slots may be split. By
//! default the pool has no more of them than the maps suffice for. With more, by the settings:
//!
//! ```text
//!   maps = counted at the last look + 4 × memories in use beyond those of that look + new modules
//! ```
//!
//! The estimate is an upper bound as long as no guests end and others begin. Before it would refuse
//! a guest that fits, a start counts again.

use std::{
    io,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use runwasi_core::{lock::Mutex, resources::maps};

/// Maps of one memory: the parts before, in and after the image of its data, and the guard.
pub(crate) const PER_MEMORY: u64 = 4;
/// Maps of a module that is loaded, and of threads that its start needs.
const PER_START: u64 = 6;
/// Part of the limit from which on starts count, in quarters.
const SCARCE_QUARTERS: u64 = 3;
/// Shortest time between two counts.
const PAUSE: Duration = Duration::from_secs(1);

/// Maps of this process and their limit.
#[derive(Debug)]
pub(crate) struct Maps {
    limit: u64,
    /// The limit is that of the kernel, and not of a setting.
    is_kernels: bool,
    /// Maps at the last look, and those of starts since.
    counted: AtomicU64,
    /// Memories in use at the last look.
    memories: AtomicU32,
    /// Time of the last look. Locked to decide which start looks next.
    looked: Mutex<Option<Instant>>,
}

impl Maps {
    /// The budget of this process: what the kernel allows less the reserve, or `most` if that is
    /// less.
    pub(crate) fn of_process(most: Option<u32>) -> Self {
        let kernel = maps::limit_for_guests();
        match most.map(u64::from) {
            Some(most) if most < kernel => Self::new(most, false),
            _ => Self::new(kernel, true),
        }
    }

    fn new(limit: u64, is_kernels: bool) -> Self {
        Self {
            limit,
            is_kernels,
            counted: AtomicU64::new(0),
            memories: AtomicU32::new(0),
            looked: Mutex::default(),
        }
    }

    /// Limit of the maps in use at which no guest starts any more.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// True if `vm.max_map_count` decides, and not a setting.
    pub(crate) fn is_kernels(&self) -> bool {
        self.is_kernels
    }

    /// Estimate with this number of memories in use.
    pub(crate) fn estimate(&self, memories: u32) -> u64 {
        // Relaxed: a look that changes both numbers in between makes the estimate wrong by what has
        // started meanwhile, for which the reserve has room.
        let more = memories.saturating_sub(self.memories.load(Relaxed));
        self.counted.load(Relaxed) + PER_MEMORY * u64::from(more)
    }

    /// Counts a start, with which this number of memories is in use. True if the caller has to
    /// look: maps are scarce, by the estimate.
    pub(crate) fn start(&self, memories: u32) -> bool {
        self.counted.fetch_add(PER_START, Relaxed);
        let mut looked = self.looked.lock();
        let scarce = self.estimate(memories) >= self.limit / 4 * SCARCE_QUARTERS;
        // The first start counts what the pool itself has.
        let due = looked.is_none_or(|at| scarce && at.elapsed() >= PAUSE);
        if due {
            *looked = Some(Instant::now());
        }
        due
    }

    /// Counts again. Blocks. `memories` has the number in use.
    pub(crate) fn look(&self, memories: impl Fn() -> u32) -> io::Result<()> {
        // Read first: memories that are taken during the count may be in it, and count twice.
        let before = memories();
        self.set(maps::count()?, before);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn set_for_tests(&self, counted: u64) {
        self.set(counted, 0);
    }

    fn set(&self, counted: u64, memories: u32) {
        self.memories.store(memories, Relaxed);
        self.counted.store(counted, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_beyond_the_last_look_count_at_most() {
        let maps = Maps::new(1000, true);
        maps.set(100, 10);
        assert_eq!([0, 10, 11, 20].map(|memories| maps.estimate(memories)), [100, 100, 104, 140]);
    }

    #[test]
    fn lower_one_of_both_bounds_decides() {
        let kernel = Maps::of_process(None);
        let bounds = |maps: &Maps| (maps.limit(), maps.is_kernels());
        assert!(kernel.is_kernels());
        assert_eq!(bounds(&Maps::of_process(Some(1))), (1, false));
        assert_eq!(bounds(&Maps::of_process(Some(u32::MAX))), bounds(&kernel));
    }

    #[test]
    fn start_looks_first_and_then_only_if_maps_are_scarce() {
        let maps = Maps::new(1000, true);
        assert!(maps.start(0), "the first look");
        maps.set_for_tests(100);
        assert!(!maps.start(1));
        assert!(!maps.start(500), "too soon for a second look");
        *maps.looked.lock() = Instant::now().checked_sub(PAUSE);
        assert!(!maps.start(1), "enough is left");
        assert!(maps.start(200));
        maps.look(|| 3).unwrap();
        assert!(maps.estimate(3) > 10 && maps.memories.load(Relaxed) == 3);
    }
}
