//! Memory maps of this OS process: their number, and the limit of the kernel.
//!
//! A process at the limit gets no memory for a thread's stack or a large allocation, and aborts. So
//! what guests cause has to stay below the limit by a reserve.

use std::{
    fs::{self, File},
    io::{self, Read},
    sync::LazyLock,
};

/// Maps that are kept for everything but guests.
pub const RESERVE: u64 = 1000;

/// The kernel's default of `vm.max_map_count`.
const DEFAULT: u64 = 65_530;
/// Bytes of one read.
const BUFFER: usize = 64 << 10;

/// `vm.max_map_count`: the limit of memory maps of one process. It is read once: the shares of each
/// container depend on it.
pub fn limit() -> u64 {
    static LIMIT: LazyLock<u64> = LazyLock::new(|| {
        let read = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
        // The kernel's default where the file cannot be read.
        read.and_then(|count| count.trim().parse().ok()).unwrap_or(DEFAULT)
    });
    *LIMIT
}

/// Maps that guests may cause: the limit less the reserve.
pub fn limit_for_guests() -> u64 {
    limit().saturating_sub(RESERVE)
}

/// Counts the maps of this process. Blocks: some 10 ms for the usual limit.
pub fn count() -> io::Result<u64> {
    let mut maps = File::open("/proc/self/maps")?;
    let mut buffer = vec![0; BUFFER];
    let mut lines = 0;
    loop {
        let length = maps.read(&mut buffer)?;
        if length == 0 {
            return Ok(lines);
        }
        lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_has_maps_below_the_limit() {
        let maps = count().unwrap();
        assert!((10..limit()).contains(&maps), "{maps} of {}", limit());
    }
}
