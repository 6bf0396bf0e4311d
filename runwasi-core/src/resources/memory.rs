//! Memory account of a container, with its limit. Engines reserve memory through a [`Charge`] when
//! a guest asks for it.
//!
//! It counts everything that a guest can grow: linear memories, tables and stacks, in bytes of the
//! guest's addresses. A page that was never touched counts, too. The host's own memory for a guest
//! (its instance, its buffers) does not count.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Annotation: effect of a growth beyond the limit. `kill`, the default, ends the process with
/// status 137, as the kernel would. `refuse` lets the guest's `memory.grow` fail.
pub const ON_LIMIT: &str = "io.runwasi.memory.on-limit";

/// A container's memory. Shared by all its processes.
#[derive(Debug)]
pub struct Memory {
    refuse: bool,
    /// In bytes; `u64::MAX` stands for no limit.
    limit: AtomicU64,
    used: AtomicU64,
    peak: AtomicU64,
    /// Growths beyond the limit.
    failures: AtomicU64,
    /// Processes ended by such a growth.
    kills: AtomicU64,
    /// Kills that have not yet been reported to containerd.
    unreported_kills: AtomicU64,
}

/// Memory usage of a container, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Present usage.
    pub used: u64,
    /// Highest usage until now.
    pub peak: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// Number of growths beyond the limit.
    pub failures: u64,
    /// Number of processes ended by such a growth.
    pub kills: u64,
}

/// A growth beyond the limit of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} bytes more than the {used} in use are beyond the container's memory limit of {limit}"
)]
pub struct BeyondLimit {
    /// The requested growth, in bytes.
    pub wanted: u64,
    /// The container's usage, in bytes.
    pub used: u64,
    /// The container's limit, in bytes.
    pub limit: u64,
}

impl Memory {
    /// The memory of a container, unlimited without `limit`. `refuse`: a growth beyond the limit
    /// fails in the guest.
    pub fn new(limit: Option<u64>, refuse: bool) -> Self {
        Self {
            refuse,
            limit: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            unreported_kills: AtomicU64::new(0),
        }
    }

    /// An account for one process. Dropped, it releases everything that it has reserved.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { memory: self.clone(), bytes: 0 }
    }

    /// True if a growth beyond the limit shall fail in the guest instead of ending it.
    pub fn refuses(&self) -> bool {
        self.refuse
    }

    /// Counts a process that ends because of its growth. To be called before its end: then its
    /// driver reports the kill to containerd.
    pub fn kill(&self) {
        self.kills.fetch_add(1, Relaxed);
        self.unreported_kills.fetch_add(1, Relaxed);
    }

    /// Number of kills counted since the last call.
    pub(crate) fn take_unreported_kills(&self) -> u64 {
        self.unreported_kills.swap(0, Relaxed)
    }

    /// Sets another limit. Memory in use stays, even beyond the limit.
    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Relaxed);
    }

    /// The present counts.
    pub fn usage(&self) -> MemoryUsage {
        // One load after the other: the values need not be of the same moment.
        let limit = self.limit.load(Relaxed);
        MemoryUsage {
            used: self.used.load(Relaxed),
            peak: self.peak.load(Relaxed),
            limit: (limit != u64::MAX).then_some(limit),
            failures: self.failures.load(Relaxed),
            kills: self.kills.load(Relaxed),
        }
    }

    /// Counts `bytes` more, unless they exceed the limit.
    fn reserve(&self, bytes: u64) -> Result<(), BeyondLimit> {
        // One atomic step, so that two processes that grow at once stay within the limit together.
        // Relaxed, since no other data depends on the counters.
        let limit = self.limit.load(Relaxed);
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= limit);
        match self.used.fetch_update(Relaxed, Relaxed, within) {
            Ok(used) => {
                self.peak.fetch_max(used + bytes, Relaxed);
                Ok(())
            }
            Err(used) => {
                self.failures.fetch_add(1, Relaxed);
                Err(BeyondLimit { wanted: bytes, used, limit })
            }
        }
    }
}

/// Memory reserved by one process.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Charge {
    /// Reserves `bytes` more.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), BeyondLimit> {
        self.memory.reserve(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Releases bytes that were reserved in vain.
    pub fn release(&mut self, bytes: u64) {
        // At most the bytes of this process: the rest of the account belongs to other processes.
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.used.fetch_sub(bytes, Relaxed);
    }

    /// The container's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(limit: Option<u64>) -> Arc<Memory> {
        Arc::new(Memory::new(limit, false))
    }

    #[test]
    fn processes_of_a_container_share_its_limit() {
        let memory = memory(Some(100));
        let mut one = memory.charge();
        let mut other = memory.charge();
        one.reserve(60).unwrap();
        let beyond = other.reserve(50).unwrap_err();
        assert_eq!(beyond, BeyondLimit { wanted: 50, used: 60, limit: 100 });
        other.reserve(40).unwrap();
        assert_eq!(
            memory.usage(),
            MemoryUsage { used: 100, peak: 100, limit: Some(100), failures: 1, kills: 0 }
        );
        drop(one);
        assert_eq!(memory.usage().used, 40);
        other.release(40);
        drop(other);
        assert_eq!((memory.usage().used, memory.usage().peak), (0, 100));
    }

    #[test]
    fn a_lower_limit_keeps_memory_in_use_and_refuses_more() {
        let memory = memory(None);
        let mut charge = memory.charge();
        charge.reserve(100).unwrap();
        memory.set_limit(Some(50));
        assert!(charge.reserve(1).is_err());
        assert_eq!((memory.usage().used, memory.usage().limit), (100, Some(50)));
        memory.set_limit(None);
        charge.reserve(1).unwrap();
        assert!(charge.reserve(u64::MAX).is_err(), "more than can be counted");
    }

    #[test]
    fn a_kill_is_reported_once() {
        let memory = memory(Some(1));
        memory.kill();
        assert_eq!((memory.take_unreported_kills(), memory.take_unreported_kills()), (1, 0));
        assert_eq!(memory.usage().kills, 1);
    }
}
