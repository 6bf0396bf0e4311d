//! File descriptors of this OS process: the part for guests, and the reserve that stays for
//! containerd's requests.
//!
//! ```text
//!   0 ───────────── guests open files ─────────────▶ ◀─────────── reserve ───────────▶ RLIMIT_NOFILE
//!                                                      new containers ─▶ ◀─ the rest ─▶
//! ```
//!
//! The kernel gives the lowest free number to each new descriptor. So that number tells how many
//! are in use at least, whichever part of the program has opened them.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use rustix::process::{Resource, getrlimit};

/// Reserve of a process with enough descriptors.
const RESERVE: u64 = 1000;
/// Part of few descriptors that is reserved, as a divisor.
const RESERVED_PART: u64 = 4;
/// Part of the reserve that new containers leave to requests about others, as a divisor.
const KEPT_PART: u64 = 2;
/// Openings of guests between two looks at the numbers, at most. Far below the reserve of a process
/// that has so many left.
const OPENINGS: u32 = 64;
/// Part of the descriptors left that may be opened until the next look, as a divisor.
const UNSEEN_PART: u64 = 8;

/// Openings of guests that need no look at the numbers.
static UNSEEN: AtomicU32 = AtomicU32::new(0);

/// Too few file descriptors for one more container.
#[derive(Debug, thiserror::Error)]
#[error(
    "{used} in use leave too few of this process's {limit}, which RLIMIT_NOFILE (of a unit, \
     LimitNOFILE=) raises"
)]
pub struct TooFew {
    used: u64,
    limit: u64,
}

/// True if a guest may open a file or a socket, or accept a connection.
pub fn left_for_guests() -> bool {
    // A look costs two system calls, so most openings do without.
    if UNSEEN.fetch_update(Relaxed, Relaxed, |unseen| unseen.checked_sub(1)).is_ok() {
        return true;
    }
    let left = within_limits().saturating_sub(lowest_free());
    let unseen = u32::try_from(left.div_ceil(UNSEEN_PART)).unwrap_or(OPENINGS).min(OPENINGS);
    // The opening that has looked is one of them. Another thread may look at the same time: then
    // both allow a few, which the reserve has room for.
    UNSEEN.store(unseen.saturating_sub(1), Relaxed);
    left > 0
}

/// Number of file descriptors that all guests of this process can have.
pub fn within_limits() -> u64 {
    let limit = limit();
    limit - reserve(limit)
}

/// Checks that one more container leaves enough descriptors to requests about others.
pub fn check_start() -> Result<(), TooFew> {
    let limit = limit();
    let used = lowest_free();
    if used < limit - reserve(limit) / KEPT_PART { Ok(()) } else { Err(TooFew { used, limit }) }
}

/// Soft limit of open files.
fn limit() -> u64 {
    // No maximum stands for an infinite limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn reserve(limit: u64) -> u64 {
    RESERVE.min(limit / RESERVED_PART)
}

/// The number of the next descriptor.
fn lowest_free() -> u64 {
    static ANY: OnceLock<io::Result<File>> = OnceLock::new();
    let any = ANY.get_or_init(|| File::open("/dev/null"));
    // An error: no descriptor is free.
    let copy = any.as_ref().ok().and_then(|any| any.try_clone().ok());
    copy.map_or(u64::MAX, |copy| u64::try_from(copy.as_raw_fd()).unwrap_or(u64::MAX))
}

/// File descriptors of one container.
#[derive(Debug)]
pub struct Descriptors {
    limit: u32,
    used: AtomicU32,
}

/// Descriptors of one process or connection. Dropped, it gives them back.
#[derive(Debug)]
pub struct Held {
    of: Arc<Descriptors>,
    number: u32,
}

impl Descriptors {
    /// At most `limit` descriptors at once.
    pub fn new(limit: u32) -> Self {
        Self { limit, used: AtomicU32::new(0) }
    }

    /// Number that the container may still open.
    pub fn left(&self) -> u32 {
        self.limit.saturating_sub(self.used.load(Relaxed))
    }

    /// A count for one process or connection, which begins with none.
    pub fn hold(self: &Arc<Self>) -> Held {
        Held { of: self.clone(), number: 0 }
    }
}

impl Held {
    /// Counts one more, unless the container is at its limit.
    pub fn add(&mut self) -> bool {
        let limit = self.of.limit;
        let one_more = |used: u32| (used < limit).then_some(used + 1);
        let added = self.of.used.fetch_update(Relaxed, Relaxed, one_more).is_ok();
        self.number += u32::from(added);
        added
    }

    /// Counts one less.
    pub fn remove(&mut self) {
        self.set(self.number.saturating_sub(1));
    }

    /// Sets the number of descriptors that are open already.
    pub fn set(&mut self, number: u32) {
        // Beyond the limit, too: it is checked before an opening.
        if number >= self.number {
            self.of.used.fetch_add(number - self.number, Relaxed);
        } else {
            self.of.used.fetch_sub(self.number - number, Relaxed);
        }
        self.number = number;
    }

    /// Number that the container may still open.
    pub fn left(&self) -> u32 {
        self.of.left()
    }

    /// Number of descriptors that are counted here.
    pub fn number(&self) -> u32 {
        self.number
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserve_is_a_part_of_few_descriptors() {
        assert_eq!([64, 1024, 4096, 20_000, u64::MAX].map(reserve), [16, 256, 1000, 1000, 1000]);
    }

    #[test]
    fn next_descriptor_has_the_lowest_free_number() {
        // Other tests of this process open and close files as well.
        let seen = lowest_free();
        assert!((3..limit()).contains(&seen), "{seen}");
        check_start().unwrap();
        assert!(left_for_guests());
    }

    #[test]
    fn processes_of_a_container_share_its_descriptors() {
        let container = Arc::new(Descriptors::new(3));
        let mut one = container.hold();
        let mut other = container.hold();
        assert!(one.add() && one.add() && other.add());
        assert!(!other.add(), "beyond the limit");
        one.remove();
        assert!(other.add());
        assert_eq!((one.number(), other.number(), container.left()), (1, 2, 0));
        other.set(5);
        assert_eq!(container.left(), 0);
        drop(other);
        assert_eq!(container.left(), 2);
    }
}
