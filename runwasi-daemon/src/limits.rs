//! Limits of the system: file descriptors and memory maps, and the number of guests within them.

use std::io;

use runwasi_core::resources::maps;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Upper bound of the slots.
// A pool takes half a kilobyte of memory per slot.
const MOST_SLOTS: u64 = 20_000;
/// Lower bound of the slots. A daemon with fewer would be useless.
const LEAST_SLOTS: u64 = 16;
/// Most connections to a manager socket, with enough file descriptors.
const MAX_MANAGER_CONNECTIONS: u64 = 512;
/// Part of few file descriptors that a manager socket may use, as a divisor.
const MANAGER_CONNECTIONS_SHARE: u64 = 16;
/// File descriptors of a running guest.
// One for its root file system.
const FDS_PER_GUEST: u64 = 1;
/// Memory maps of a slot.
// The stack and the guard of the stack, in eighths: the pool has an eighth more stacks than slots.
const EIGHTHS_PER_SLOT: u64 = 2 * 9;
/// Further memory maps of a running guest.
// Its memory splits the map of the pool, and the image of its data lies in the middle.
const MAPS_PER_GUEST: u64 = 4;
/// File descriptors for everything but guests.
const RESERVE: u64 = 1000;

/// Raises the soft limit of open files to the hard one and returns the limit.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(open_files())
}

/// Open files that this process can have.
fn open_files() -> u64 {
    // No maximum stands for an infinite limit.
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Number of guests within the limits of this process.
pub(crate) fn slots() -> u32 {
    slots_within(open_files(), maps::limit())
}

/// Limit of connections to each of the manager sockets.
pub(crate) fn manager_connections(open_files: u64) -> usize {
    usize::try_from((open_files / MANAGER_CONNECTIONS_SHARE).clamp(2, MAX_MANAGER_CONNECTIONS))
        .unwrap_or(2)
}

fn slots_within(open_files: u64, most_maps: u64) -> u32 {
    // With few descriptors the reserve is half of them, so that some remain for guests.
    let by_files = (open_files - RESERVE.min(open_files / 2)) / FDS_PER_GUEST;
    let for_guests = most_maps.saturating_sub(maps::RESERVE);
    let by_maps = for_guests.saturating_mul(8) / (EIGHTHS_PER_SLOT + 8 * MAPS_PER_GUEST);
    let slots = by_files.min(by_maps).clamp(LEAST_SLOTS, MOST_SLOTS);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::slots_within;

    #[test]
    fn slots_follow_the_scarcer_of_files_and_maps() {
        assert_eq!(slots_within(20_000, 65_530), 10_324);
        assert_eq!(slots_within(4096, 65_530), 3096);
        assert_eq!(slots_within(64, 65_530), 32, "a daemon for a handful");
        assert_eq!(slots_within(u64::MAX, 1_048_576), 20_000);
    }
}
