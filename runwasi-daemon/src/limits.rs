//! What the system lets the daemon have: file descriptors and memory maps, and so guests. Used by `serve`.

use std::{fs, io};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More are never asked for: a pool costs half a kilobyte of memory a slot.
const MOST_SLOTS: u64 = 20_000;
/// Fewer are no daemon.
const LEAST_SLOTS: u64 = 16;
/// Connections to a manager socket at once, where there are file descriptors enough.
const MAX_MANAGER_CONNECTIONS: u64 = 512;
/// Its part of the file descriptors where there are few.
const MANAGER_CONNECTIONS_SHARE: u64 = 16;
/// File descriptors of a running guest: the one of its root file system.
const FDS_PER_GUEST: u64 = 1;
/// Maps of a slot: its stack and that stack's guard.
const MAPS_PER_SLOT: u64 = 2;
/// Maps of a running guest besides: its memory splits the pool's, and the image of its data lies in the middle.
const MAPS_PER_GUEST: u64 = 4;
/// Kept for everything that is no guest.
const RESERVE: u64 = 1000;

/// Raises the soft limit of open files to the hard one. The answer is the limit.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(open_files())
}

/// Open files that this process can have.
fn open_files() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// How many guests fit into the limits of this process.
pub(crate) fn slots() -> u32 {
    slots_within(open_files(), max_map_count())
}

/// How many may be connected to one of the manager sockets.
pub(crate) fn manager_connections(open_files: u64) -> usize {
    usize::try_from((open_files / MANAGER_CONNECTIONS_SHARE).clamp(2, MAX_MANAGER_CONNECTIONS))
        .unwrap_or(2)
}

/// `vm.max_map_count`, maps of one process; the kernel's default where it cannot be read.
fn max_map_count() -> u64 {
    let read = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    read.and_then(|count| count.trim().parse().ok()).unwrap_or(65_530)
}

fn slots_within(open_files: u64, maps: u64) -> u32 {
    let by_files = (open_files - RESERVE.min(open_files / 2)) / FDS_PER_GUEST;
    let by_maps = maps.saturating_sub(RESERVE) / (MAPS_PER_SLOT + MAPS_PER_GUEST);
    let slots = by_files.min(by_maps).clamp(LEAST_SLOTS, MOST_SLOTS);
    u32::try_from(slots).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::slots_within;

    #[test]
    fn slots_follow_the_scarcer_of_files_and_maps() {
        assert_eq!(slots_within(20_000, 65_530), 10_755);
        assert_eq!(slots_within(4096, 65_530), 3096);
        assert_eq!(slots_within(64, 65_530), 32, "a daemon for a handful");
        assert_eq!(slots_within(u64::MAX, 1_048_576), 20_000);
    }
}
