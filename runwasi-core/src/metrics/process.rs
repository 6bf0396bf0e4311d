//! The OS process, as the kernel sees it.

use std::{fs, time::Duration};

use rustix::{
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

use crate::sys::status_field;

/// Figures of this process. What cannot be read is absent.
#[derive(Debug, Default)]
pub(super) struct ProcessFigures {
    pub(super) cpu: Duration,
    /// Bytes of memory in use.
    pub(super) resident: Option<u64>,
    /// Bytes of address space.
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) open_files: Option<u64>,
    /// Absent without a limit.
    pub(super) most_files: Option<u64>,
}

impl ProcessFigures {
    /// Asks the kernel. Blocks for some milliseconds before Linux 6.2 if very many files are open.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        let kib = |key| Some(status_field(&status, key)? << 10);
        Self {
            cpu: Duration::new(seconds, nanos),
            resident: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            threads: status_field(&status, "Threads:"),
            open_files: open_files(),
            most_files: getrlimit(Resource::Nofile).current,
        }
    }
}

fn open_files() -> Option<u64> {
    // Linux 6.2 and later tell their number by the size of the directory.
    match fs::metadata("/proc/self/fd").ok()?.len() {
        0 => u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok(),
        number => Some(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_tells_all_figures() {
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let figures = ProcessFigures::now();
        assert!(figures.cpu > Duration::ZERO);
        assert!(figures.resident.unwrap() > 1 << 20);
        assert!(figures.virtual_bytes >= figures.resident);
        assert!(figures.threads.unwrap() >= 1);
        assert!(figures.open_files.unwrap() >= files.len() as u64);
        assert!(figures.most_files.is_none_or(|most| most >= figures.open_files.unwrap()));
    }
}
