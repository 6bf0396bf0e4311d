//! Memory account of a container, with its limit. Engines reserve memory through a [`Charge`] when
//! a guest asks for it.
//!
//! It counts everything that a guest can grow: linear memories, tables and stacks, in bytes of the
//! guest's addresses. A page that was never touched counts, too. The host's own memory for the
//! guests (their instances, buffers, handles) counts beyond its first 4 MiB, if the binary has the
//! [allocator] that sees it.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

pub use super::account::BeyondLimit;
use super::{
    account::Account,
    allocator::{self, Alarm},
};

/// Annotation: effect of a growth beyond the limit. `kill`, the default, ends the process with
/// status 137, as the kernel would. `refuse` lets the guest's `memory.grow` fail.
pub const ON_LIMIT: &str = "io.runwasi.memory.on-limit";

/// Bytes of the host for a guest that are returned to the system when it has ended.
// Less than the memory that a container may have beyond its limit, and more than what guests have
// usually: for those the next one uses it again.
const LARGE_HOST: u64 = 8 << 20;

/// A container's memory. Shared by all its processes.
pub struct Memory {
    refuse: bool,
    account: &'static Account,
    /// Called by the allocator when the host's memory carries the container beyond its limit.
    alarm: OnceLock<Alarm>,
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
    /// Bytes that the host keeps for the container and that do not count against the limit: at most
    /// the first 4 MiB. A server between two requests has only these.
    pub uncharged: u64,
    /// Highest usage until now. Of the host's memory, as far as it was looked at.
    pub peak: u64,
    /// The limit, if there is one.
    pub limit: Option<u64>,
    /// Number of growths beyond the limit.
    pub failures: u64,
    /// Number of processes ended by such a growth.
    pub kills: u64,
}

/// Memory of all containers of this process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TotalMemory {
    /// Memory that guests can grow: linear memories, tables, stacks, collected objects.
    pub guest: u64,
    /// Allocations of the host for them.
    pub host: u64,
}

/// The memory of all containers.
pub fn of_all_containers() -> TotalMemory {
    let (guest, host) = Account::sum();
    TotalMemory { guest, host }
}

impl Memory {
    /// The memory of a container, unlimited without `limit`. `refuse`: a growth beyond the limit
    /// fails in the guest.
    pub fn new(limit: Option<u64>, refuse: bool) -> Self {
        Self {
            refuse,
            account: Account::open(limit.unwrap_or(u64::MAX)),
            alarm: OnceLock::new(),
            peak: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            kills: AtomicU64::new(0),
            unreported_kills: AtomicU64::new(0),
        }
    }

    /// An account for one process. Dropped, it releases everything that it has reserved.
    pub fn charge(self: &Arc<Self>) -> Charge {
        Charge { memory: self.clone(), bytes: 0, host: 0 }
    }

    /// Sets the alarm: it has to make the container's guests yield soon. Their engine sets it once,
    /// for all processes of the container. The allocator calls it in the polls of guests: it
    /// must not block or panic.
    pub fn on_excess(&self, alarm: impl Fn() + Send + Sync + 'static) {
        // A second process sets the same one.
        self.alarm.get_or_init(|| Box::new(alarm));
    }

    /// Charges the allocations of this thread, until the drop of the returned value. Polls of the
    /// container's futures are charged without it; other threads that work for a guest call it.
    pub fn enter(&self) -> impl Drop + '_ {
        allocator::enter(self.account, self.alarm.get())
    }

    /// An error if the host's memory for the guests has carried the container beyond its limit. To
    /// be called by the engine after each poll that leaves a guest running: that guest must end.
    pub fn check(&self) -> Result<(), BeyondLimit> {
        allocator::flush();
        let total = self.account.total();
        // Not written in each poll: the pollers of a container share it.
        if total > self.peak.load(Relaxed) {
            self.peak.fetch_max(total, Relaxed);
        }
        self.account.check().inspect_err(|_| {
            self.failures.fetch_add(1, Relaxed);
        })
    }

    /// By how much the host's memory for the guests has carried the container beyond its limit.
    pub fn excess(&self) -> Option<BeyondLimit> {
        allocator::flush();
        self.account.check().err()
    }

    /// Bytes left below the limit. To be asked before one call of the host allocates much.
    pub fn room(&self) -> u64 {
        allocator::flush();
        self.account.limit().saturating_sub(self.account.total())
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

    /// True if the host's memory for the guests was so much, since the last call, that the
    /// allocator may keep a large part of it after their end.
    pub(crate) fn take_large_host(&self) -> bool {
        self.account.take_host_peak() > LARGE_HOST
    }

    /// Number of kills counted since the last call.
    pub(crate) fn take_unreported_kills(&self) -> u64 {
        self.unreported_kills.swap(0, Relaxed)
    }

    /// Sets another limit. Memory in use stays, even beyond the limit.
    pub(crate) fn set_limit(&self, limit: Option<u64>) {
        self.account.set_limit(limit.unwrap_or(u64::MAX));
    }

    /// The present counts.
    pub fn usage(&self) -> MemoryUsage {
        // One load after the other: the values need not be of the same moment.
        let limit = self.account.limit();
        let used = self.account.total();
        MemoryUsage {
            used,
            uncharged: self.account.uncharged_host(),
            peak: self.peak.load(Relaxed).max(used),
            limit: (limit != u64::MAX).then_some(limit),
            failures: self.failures.load(Relaxed),
            kills: self.kills.load(Relaxed),
        }
    }

    /// Counts `bytes` more, unless they exceed the limit by more than `slack`.
    fn reserve(&self, bytes: u64, slack: u64) -> Result<(), BeyondLimit> {
        match self.account.reserve(bytes, slack) {
            Ok(total) => {
                self.peak.fetch_max(total, Relaxed);
                Ok(())
            }
            Err(beyond) => {
                self.failures.fetch_add(1, Relaxed);
                Err(beyond)
            }
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.account.retire();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

/// Memory reserved by one process.
#[derive(Debug)]
pub struct Charge {
    memory: Arc<Memory>,
    bytes: u64,
    /// Part of `bytes` that the host has allocated, and so counts already.
    host: i64,
}

impl Charge {
    /// Reserves `bytes` more.
    pub fn reserve(&mut self, bytes: u64) -> Result<(), BeyondLimit> {
        self.reserve_with_slack(bytes, 0)
    }

    /// Reserves `bytes` more, also if they exceed the limit by `slack` at most. The guest gets
    /// nothing more then.
    pub fn reserve_with_slack(&mut self, bytes: u64, slack: u64) -> Result<(), BeyondLimit> {
        self.memory.reserve(bytes, slack)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Reserves bytes that a guest has made the host allocate and that the host keeps: for data
    /// that stays with the container and has an error of its own if it does not fit.
    pub fn reserve_host(&mut self, bytes: u64) -> Result<(), BeyondLimit> {
        // First, or the bytes count twice and do not fit.
        self.mark_host(signed(bytes));
        self.reserve(bytes).inspect_err(|_| self.mark_host(-signed(bytes)))
    }

    /// Releases bytes of [`Charge::reserve_host`], which the host frees now.
    pub fn release_host(&mut self, bytes: u64) {
        self.mark_host(-signed(bytes));
        self.release(bytes);
    }

    fn mark_host(&mut self, bytes: i64) {
        self.host += bytes;
        self.memory.account.add_reserved_host(bytes);
    }

    /// Releases bytes that were reserved in vain.
    pub fn release(&mut self, bytes: u64) {
        // At most the bytes of this process: the rest of the account belongs to other processes.
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.memory.account.release(bytes);
    }

    /// The container's memory.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.mark_host(-self.host);
        self.release(self.bytes);
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
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
            MemoryUsage {
                used: 100,
                uncharged: 0,
                peak: 100,
                limit: Some(100),
                failures: 1,
                kills: 0
            }
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
    fn slack_is_given_beyond_the_limit_and_nothing_after_it() {
        let memory = memory(Some(100));
        let mut charge = memory.charge();
        charge.reserve(50).unwrap();
        assert!(charge.reserve_with_slack(61, 10).is_err());
        charge.reserve_with_slack(60, 10).unwrap();
        assert!(charge.reserve(1).is_err());
        assert_eq!((memory.usage().used, memory.room()), (110, 0));
    }

    #[test]
    fn host_data_that_stays_is_counted_once_and_refused_beyond_the_limit() {
        let memory = memory(Some(100));
        let mut charge = memory.charge();
        charge.reserve_host(70).unwrap();
        assert!(charge.reserve_host(31).is_err());
        charge.release_host(30);
        assert_eq!((memory.usage().used, memory.room()), (40, 60));
        drop(charge);
        assert_eq!(memory.usage().used, 0);
        assert_eq!(memory.check(), Ok(()));
    }

    #[test]
    fn a_kill_is_reported_once() {
        let memory = memory(Some(1));
        memory.kill();
        assert_eq!((memory.take_unreported_kills(), memory.take_unreported_kills()), (1, 0));
        assert_eq!(memory.usage().kills, 1);
    }
}
