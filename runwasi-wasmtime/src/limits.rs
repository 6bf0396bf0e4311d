//! Store limiter: charges the growth of a guest to the memory of its container.
//!
//! It counts linear memories, GC heaps, tables (one pointer for each element) and the guest's
//! stack. What the host allocates for the guest is charged by the allocator; here the guest ends
//! when that is beyond the limit.

use std::{
    future::{Future, poll_fn},
    io,
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use runwasi_core::{
    InstanceSpec,
    resources::{
        growth::Growth,
        memory::{BeyondLimit, Charge, Memory},
    },
};
use wasmtime::{GcHeapOutOfMemory, ResourceLimiter, Store, UpdateDeadline};

use crate::{epoch::Ticker, shares::Memories, stacks::STACK};

/// Size of a table element, in bytes.
const ELEMENT: usize = size_of::<usize>();

/// Bytes by which a memory that doubles may exceed the limit.
const SLACK: u64 = 4 << 20;

/// Memory charge of one store, behind wasmtime's limiter interface.
pub(crate) struct Limits {
    growth: Growth,
    /// Bytes of the largest memory that the engine has room for.
    largest: usize,
    /// True while no memory may grow.
    held: bool,
    /// Count of the memories that the instantiation makes.
    memories: Option<Memories>,
    /// It is over.
    started: bool,
}

/// Data of a store with the limits of its guest.
pub(crate) trait Limited {
    /// The limits.
    fn limits(&mut self) -> &mut Limits;
}

/// Growth beyond the limit that ends the guest.
#[derive(Debug, thiserror::Error)]
#[error("out of memory: {0}")]
// Not its source: a report would have the text twice.
pub(crate) struct OutOfMemory(pub(crate) BeyondLimit);

/// Most bytes that one call of the host takes from a guest, with this memory limit.
// All of it is allocated before the call can look at the limit. Lists may name the same bytes
// several times, so a guest need not have that much. wasmtime's default is 128 MiB.
pub(crate) fn call_bytes(memory: &Memory) -> usize {
    const LEAST: u64 = 8 << 20;
    const MOST: u64 = 128 << 20;
    let bytes = memory.usage().limit.map_or(MOST, |limit| (limit / 4).clamp(LEAST, MOST));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Makes the container's guests yield as soon as the host's memory for them is beyond the limit.
pub(crate) fn watch(spec: &InstanceSpec, ticker: &Arc<Ticker>) {
    // Weak: the container may outlive the engine, though none of its guests does.
    let ticker = Arc::downgrade(ticker);
    spec.memory.on_excess(move || {
        // The deadline of every guest is one tick away.
        if let Some(ticker) = ticker.upgrade() {
            ticker.tick();
        }
    });
}

/// Has a guest yield at the first tick of every poll, so that it computes no longer than from one
/// tick to the next. It ends there if the host's memory for it is beyond the limit.
// Not only after the poll, in `bounded`: the event loop of an asynchronous component polls the
// guest again within one poll of ours, and the guest would grow until the next tick.
pub(crate) fn yield_at_ticks<T: Limited>(store: &mut Store<T>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|mut store| {
        let memory = store.data_mut().limits().growth.memory();
        match memory.excess() {
            Some(beyond) => Err(OutOfMemory(beyond).into()),
            None => Ok(UpdateDeadline::Yield(1)),
        }
    });
}

/// Runs a guest until it returns, or until the host's memory for it is beyond the limit.
// By reference: a future that was moved in here would have its place twice in that of the caller.
pub(crate) async fn bounded<T>(
    memory: &Memory,
    mut guest: Pin<&mut impl Future<Output = wasmtime::Result<T>>>,
) -> wasmtime::Result<T> {
    poll_fn(|cx| {
        let polled = guest.as_mut().poll(cx);
        match (polled.is_pending(), memory.check()) {
            (true, Err(beyond)) => Poll::Ready(Err(OutOfMemory(beyond).into())),
            _ => polled,
        }
    })
    .await
}

impl Limits {
    /// Creates the limiter and charges the stack. `largest`: the size of the engine's memories.
    pub(crate) fn new(charge: Charge, largest: u64) -> Result<Self, BeyondLimit> {
        let largest = usize::try_from(largest).unwrap_or(usize::MAX);
        let growth = Growth::new(charge, STACK as u64)?;
        Ok(Self { growth, largest, held: false, memories: None, started: false })
    }

    /// Reserves the memory of a heap of collected objects, which wasmtime makes in the
    /// instantiation.
    pub(crate) fn count(self, memories: Memories) -> Self {
        Self { memories: Some(memories), ..self }
    }

    /// True if the instantiation has made a heap of collected objects beside the reserved memories.
    pub(crate) fn has_heap(&self) -> bool {
        self.memories.as_ref().is_some_and(Memories::has_heap)
    }

    /// Charges a stack of a further call.
    pub(crate) fn add_stack(&mut self) -> Result<(), OutOfMemory> {
        self.growth.add_stack(STACK as u64).map_err(OutOfMemory)
    }

    /// Releases it at the end of the call.
    pub(crate) fn remove_stack(&mut self) {
        self.growth.remove_stack(STACK as u64);
    }

    /// Marks the end of the instantiation.
    pub(crate) fn started(&mut self) {
        self.growth.started();
        self.started = true;
    }

    /// Lets no memory grow, or again.
    pub(crate) fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Bytes left below the container's limit.
    pub(crate) fn room(&self) -> u64 {
        self.growth.memory().room()
    }

    /// The cause of a guest's end. wasmtime reports a GC heap that the limiter does not let grow as
    /// an allocation that does not fit.
    pub(crate) fn explain(&self, error: wasmtime::Error) -> wasmtime::Error {
        match self.growth.refused() {
            Some(beyond) if error.is::<GcHeapOutOfMemory<()>>() => OutOfMemory(beyond).into(),
            _ => error,
        }
    }

    fn grow(&mut self, bytes: usize, slack: u64) -> wasmtime::Result<bool> {
        // An error of the limiter ends the guest; `exit::status` turns it into a kill.
        Ok(self.growth.grow(bytes, slack).map_err(OutOfMemory)?)
    }
}

/// True for a growth that the system has refused.
fn of_system(error: &wasmtime::Error) -> bool {
    error.is::<io::Error>() || error.is::<rustix::io::Errno>()
}

// A size that no memory or table can have fails in the guest, with a limit and without one: it is
// not charged, and does not end the guest. wasmtime would refuse it only after it was allowed.
impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let most = maximum.map_or(self.largest, |maximum| maximum.min(self.largest));
        if self.held || desired > most {
            return Ok(false);
        }
        // A new one, or one without a page that the guest's own code enlarges in its instantiation:
        // that may count as a heap, too.
        if current == 0
            && !self.started
            && let Some(memories) = &mut self.memories
        {
            memories.make()?;
        }
        // A GC heap only ever doubles. Without a first size that fits (see `gc_heap`), its last
        // doubling would nearly always miss the limit, by the guest's stack at least, and leave
        // half of the memory unused.
        let doubles = current > 0 && desired == current.saturating_mul(2);
        self.grow(desired.saturating_sub(current), if doubles { SLACK } else { 0 })
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(error = format!("{error:#}"), "a memory did not grow");
        // wasmtime also reports growths that it has never asked about: of a size that a type cannot
        // have. The last growth that it has asked about was another one then.
        if of_system(&error) {
            self.growth.failed();
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT), 0)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        // Nothing is released: no growth that was allowed fails. wasmtime has not asked about a
        // size that overflows, and one beyond the maximum was not allowed.
        tracing::debug!(error = format!("{error:#}"), "a table did not grow");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[test]
    fn one_call_takes_a_part_of_the_limit() {
        let bytes = |limit| call_bytes(&Memory::new(limit, false));
        assert_eq!(bytes(Some(64 << 20)), 16 << 20);
        assert_eq!(bytes(Some(1 << 20)), 8 << 20);
        assert_eq!((bytes(Some(4 << 30)), bytes(None)), (128 << 20, 128 << 20));
    }

    fn limits(memory: &Arc<Memory>) -> Limits {
        Limits::new(memory.charge(), 4 << 30).unwrap()
    }

    #[test]
    fn failure_of_a_growth_that_was_not_asked_about_releases_nothing() {
        let memory = Arc::new(Memory::new(Some(64 << 20), false));
        let mut limits = limits(&memory);
        for size in [10, 20, 30, 40, 50, 60].map(|size| size << 20) {
            assert!(limits.memory_growing(size - (10 << 20), size, None).unwrap());
            let used = memory.usage().used;
            for _ in 0..2 {
                limits.table_grow_failed(wasmtime::Error::msg("overflow")).unwrap();
                limits.memory_grow_failed(wasmtime::Error::msg("the type's limits")).unwrap();
            }
            assert_eq!(memory.usage().used, used);
        }
        assert!(limits.memory_growing(60 << 20, 70 << 20, None).is_err());
    }

    #[test]
    fn growth_that_the_system_refuses_is_released_once() {
        let memory = Arc::new(Memory::new(Some(64 << 20), false));
        let mut limits = limits(&memory);
        limits.memory_growing(0, 10 << 20, None).unwrap();
        let used = memory.usage().used;
        let refused = || io::Error::from_raw_os_error(libc::ENOMEM).into();
        limits.memory_growing(10 << 20, 30 << 20, None).unwrap();
        limits.memory_grow_failed(refused()).unwrap();
        limits.memory_grow_failed(refused()).unwrap();
        assert_eq!(memory.usage().used, used);
        limits.memory_growing(10 << 20, 30 << 20, None).unwrap();
        let refused = wasmtime::Error::from(rustix::io::Errno::NOMEM).context("mmap");
        limits.memory_grow_failed(refused).unwrap();
        assert_eq!(memory.usage().used, used);
    }

    #[test]
    fn growth_beyond_a_maximum_fails_in_the_guest_and_is_not_charged() {
        for limit in [None, Some(64 << 20)] {
            let memory = Arc::new(Memory::new(limit, false));
            let mut limits = limits(&memory);
            let before = memory.usage();
            let page = 64 << 10;
            assert!(!limits.memory_growing(page, 100 << 20, Some(2 * page)).unwrap());
            assert!(!limits.memory_growing(page, 5 << 30, None).unwrap(), "the engine's maximum");
            assert!(!limits.memory_growing(page, usize::MAX - page, Some(8 << 30)).unwrap());
            assert!(!limits.table_growing(1, 20 << 20, Some(10)).unwrap());
            assert_eq!(memory.usage(), before, "{limit:?}");
            assert!(limits.memory_growing(page, 2 * page, Some(2 * page)).unwrap());
            assert!(limits.table_growing(1, 10, Some(10)).unwrap());
        }
    }

    #[test]
    fn a_memory_that_doubles_may_miss_the_limit_by_the_slack() {
        let memory = Arc::new(Memory::new(Some(64 << 20), false));
        let mut limits = limits(&memory);
        limits.memory_growing(0, 32 << 20, None).unwrap();
        assert!(limits.memory_growing(32 << 20, 65 << 20, None).is_err());
        limits.memory_growing(32 << 20, 64 << 20, None).unwrap();
        assert!(limits.memory_growing(64 << 20, 128 << 20, None).is_err());
        assert!(limits.table_growing(0, 1, None).is_err());
    }

    #[tokio::test]
    async fn a_guest_within_its_limit_keeps_its_own_result() {
        let memory = Memory::new(Some(1), false);
        assert_eq!(bounded(&memory, pin!(async { Ok(7) })).await.unwrap(), 7);
        let error =
            bounded(&memory, pin!(async { Err::<(), _>(wasmtime::Error::msg("own")) })).await;
        assert_eq!(error.unwrap_err().to_string(), "own");
    }
}
