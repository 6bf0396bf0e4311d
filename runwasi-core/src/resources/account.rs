//! Counters of a container's memory, at an address that stays valid.
//!
//! Allocations name the account that they are charged to and can outlive its container. So an
//! account is never freed. A retired one serves a new container once its last allocation is gone.

use std::{
    collections::VecDeque,
    sync::atomic::{
        AtomicBool, AtomicI64, AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
};

use crate::lock::Mutex;

/// Host memory of a container that is not charged, in bytes.
// A guest has some in any case: its instance, its connections. And what a process makes once, like
// the list of trusted certificates, is allocated by the first guest that needs it.
pub(super) const FREE: u64 = 4 << 20;

/// All accounts, for their sum. They are never removed.
static ALL: Mutex<Vec<&'static Account>> = Mutex::new(Vec::new());

/// Accounts without a container, in the order of their retirement.
static RETIRED: Mutex<VecDeque<&'static Account>> = Mutex::new(VecDeque::new());

/// Retired accounts that a new container looks at, at most.
// Some allocations never go, like the entry of a cache: their accounts must not be looked at by
// each later start.
const LOOKS: usize = 8;

/// A growth beyond the limit of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{wanted} bytes more than the {used} in use are beyond the container's memory limit of {limit} \
     (resources.memory.limit)"
)]
pub struct BeyondLimit {
    /// The requested growth, in bytes.
    pub wanted: u64,
    /// The container's usage, in bytes.
    pub used: u64,
    /// The container's limit, in bytes.
    pub limit: u64,
}

/// Counters of one container. Relaxed: no other data depends on them.
#[derive(Debug)]
pub(super) struct Account {
    /// Bytes that were reserved.
    used: AtomicU64,
    /// In bytes; `u64::MAX` stands for no limit.
    limit: AtomicU64,
    /// Bytes that the host has allocated for the container's guests. Briefly negative, since
    /// threads add their part with a delay.
    host: AtomicI64,
    /// Highest value of `host` since it was last asked for.
    host_peak: AtomicI64,
    /// Part of `host` that is in `used`, too.
    reserved_host: AtomicI64,
    /// An allocation beyond the limit has been announced and not yet been looked at.
    announced: AtomicBool,
}

impl Account {
    /// An account with no bytes on it.
    pub(super) fn open(limit: u64) -> &'static Self {
        let account = Self::unused().unwrap_or_else(Self::leaked);
        account.used.store(0, Relaxed);
        account.limit.store(limit, Relaxed);
        account.host_peak.store(0, Relaxed);
        account.reserved_host.store(0, Relaxed);
        account.announced.store(false, Relaxed);
        account
    }

    fn leaked() -> &'static Self {
        let account: &'static Self = Box::leak(Box::new(Self::new()));
        ALL.lock().push(account);
        account
    }

    /// Bytes of all accounts: of the guests, and of the host for them.
    pub(super) fn sum() -> (u64, u64) {
        let all = ALL.lock();
        let guests = all.iter().map(|account| account.of_guests()).sum();
        let host = all.iter().map(|account| account.of_host()).sum();
        (guests, host)
    }

    /// A retired account whose last allocation is gone.
    fn unused() -> Option<&'static Self> {
        let mut retired = RETIRED.lock();
        for _ in 0..LOOKS {
            let account = retired.pop_front()?;
            if account.host.load(Relaxed) == 0 {
                return Some(account);
            }
            retired.push_back(account);
        }
        None
    }

    const fn new() -> Self {
        Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
            host: AtomicI64::new(0),
            host_peak: AtomicI64::new(0),
            reserved_host: AtomicI64::new(0),
            announced: AtomicBool::new(false),
        }
    }

    /// Returns the account of a container that is gone.
    pub(super) fn retire(&'static self) {
        RETIRED.lock().push_back(self);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Relaxed)
    }

    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Relaxed);
    }

    /// Bytes in use: reserved ones, and those of the host that are charged.
    pub(super) fn total(&self) -> u64 {
        self.used.load(Relaxed).saturating_add(self.charged_host())
    }

    /// Bytes of the host that are not charged.
    pub(super) fn uncharged_host(&self) -> u64 {
        self.own_host().min(FREE)
    }

    /// Bytes that were reserved for what guests can grow.
    fn of_guests(&self) -> u64 {
        let host = u64::try_from(self.reserved_host.load(Relaxed)).unwrap_or(0);
        self.used.load(Relaxed).saturating_sub(host)
    }

    /// Bytes that the host has allocated.
    fn of_host(&self) -> u64 {
        u64::try_from(self.host.load(Relaxed)).unwrap_or(0)
    }

    fn charged_host(&self) -> u64 {
        self.own_host().saturating_sub(FREE)
    }

    /// Bytes of the host that no reservation counts.
    fn own_host(&self) -> u64 {
        let host = self.host.load(Relaxed) - self.reserved_host.load(Relaxed);
        u64::try_from(host).unwrap_or(0)
    }

    /// Counts `bytes` more, unless they exceed the limit by more than `slack`. Returns the total.
    pub(super) fn reserve(&self, bytes: u64, slack: u64) -> Result<u64, BeyondLimit> {
        let limit = self.limit();
        let host = self.charged_host();
        // One atomic step, so that two processes that grow at once stay within the limit together.
        let within = |used: u64| {
            let sum = used.checked_add(bytes)?;
            (sum.saturating_add(host) <= limit.saturating_add(slack)).then_some(sum)
        };
        match self.used.fetch_update(Relaxed, Relaxed, within) {
            Ok(used) => Ok((used + bytes).saturating_add(host)),
            Err(used) => Err(BeyondLimit { wanted: bytes, used: used.saturating_add(host), limit }),
        }
    }

    pub(super) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
    }

    /// Marks bytes of the host as counted by a reservation, or no longer if negative.
    pub(super) fn add_reserved_host(&self, bytes: i64) {
        self.reserved_host.fetch_add(bytes, Relaxed);
    }

    /// Counts bytes that the host has allocated, or freed if negative. Returns true if the
    /// container is beyond its limit now, and nothing has announced it yet.
    // Called by the allocator: neither allocates nor locks.
    pub(super) fn add_host(&self, bytes: i64) -> bool {
        let host = self.host.fetch_add(bytes, Relaxed) + bytes;
        if host > self.host_peak.load(Relaxed) {
            self.host_peak.fetch_max(host, Relaxed);
        }
        bytes > 0 && self.is_beyond() && !self.announced.swap(true, AcqRel)
    }

    /// The most bytes that the host had allocated since the last call. Begins again with the
    /// present ones.
    pub(super) fn take_host_peak(&self) -> u64 {
        let peak = self.host_peak.swap(self.host.load(Relaxed), Relaxed);
        u64::try_from(peak).unwrap_or(0)
    }

    fn is_beyond(&self) -> bool {
        self.charged_host() > 0 && self.total() > self.limit()
    }

    /// An error if the host's allocations have carried the container beyond its limit.
    pub(super) fn check(&self) -> Result<(), BeyondLimit> {
        // The next allocation beyond the limit is announced again.
        if self.announced.load(Relaxed) {
            self.announced.store(false, Relaxed);
        }
        if !self.is_beyond() {
            return Ok(());
        }
        let limit = self.limit();
        Err(BeyondLimit { wanted: self.total().saturating_sub(limit), used: limit, limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_memory_beyond_the_free_part_counts_against_the_limit() {
        let account = Account::open(100);
        assert!(!account.add_host(FREE as i64));
        assert_eq!((account.total(), account.check()), (0, Ok(())));
        assert_eq!(account.uncharged_host(), FREE);
        account.reserve(60, 0).unwrap();
        assert!(!account.add_host(40));
        assert_eq!((account.total(), account.check()), (100, Ok(())));
        assert_eq!(account.uncharged_host(), FREE);
        assert!(account.reserve(1, 0).is_err(), "the host has the rest");
        assert!(account.add_host(2), "beyond");
        assert!(!account.add_host(2), "announced before");
        assert_eq!(account.check(), Err(BeyondLimit { wanted: 4, used: 100, limit: 100 }));
        assert!(account.add_host(2), "looked at since");
        account.add_host(-(FREE as i64) - 46);
        account.release(60);
        assert_eq!((account.total(), account.check()), (0, Ok(())));
        account.retire();
    }

    #[test]
    fn reserved_host_memory_is_counted_once() {
        let account = Account::open(100);
        account.add_host(FREE as i64 + 80);
        account.add_reserved_host(80);
        account.reserve(80, 0).unwrap();
        assert_eq!(account.total(), 80);
        account.add_host(-(FREE as i64) - 80);
        account.add_reserved_host(-80);
        account.release(80);
        account.retire();
    }

    #[test]
    fn peak_of_the_hosts_memory_begins_again_when_it_is_taken() {
        let account = Account::open(u64::MAX);
        account.add_host(50);
        account.add_host(-20);
        assert_eq!(account.take_host_peak(), 50);
        account.add_host(5);
        account.add_host(-35);
        assert_eq!(account.take_host_peak(), 35);
        assert_eq!(account.take_host_peak(), 0);
        account.retire();
    }

    #[test]
    fn a_retired_account_is_used_again_without_its_old_bytes() {
        let account = Account::open(100);
        account.add_host(7);
        account.retire();
        let other = Account::open(100);
        assert!(!std::ptr::eq(account, other), "an allocation still names it");
        account.add_host(-7);
        other.retire();
    }
}
