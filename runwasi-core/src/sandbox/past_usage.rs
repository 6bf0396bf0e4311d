//! Usage of containers that have been deleted.
//!
//! Readers of a sandbox's metrics compute rates, so no counter may fall with a container that goes.
//! The cgroup of a pod keeps the time of its dead processes, too.

use crate::{
    lock::Mutex,
    resources::{memory::MemoryUsage, usage::Usage},
    scheduler::group::CpuUsage,
};

/// Counters of all containers that have been deleted.
#[derive(Default)]
pub(super) struct PastUsage(Mutex<Usage>);

impl PastUsage {
    /// Adds the counters of a container. What it holds is gone with it.
    pub(super) fn add(&self, last: &Usage) {
        let MemoryUsage { failures, kills, .. } = last.memory;
        let memory = MemoryUsage { failures, kills, ..MemoryUsage::default() };
        let counted = Usage { cpu: last.cpu, memory, processes: 0 };
        let mut past = self.0.lock();
        *past = [*past, counted].into_iter().sum();
    }

    pub(super) fn get(&self) -> Usage {
        *self.0.lock()
    }
}

/// Counters that the delegate of a native container has told last. systemd removes a cgroup with
/// its last process, and with it what they would be read from.
#[derive(Default)]
pub(crate) struct ToldUsage(Mutex<Usage>);

impl ToldUsage {
    /// The usage `now`, absent if it is not known, with counters that are never less than before.
    pub(crate) fn at_least(&self, now: Option<Usage>) -> Usage {
        let now = now.unwrap_or_default();
        let mut told = self.0.lock();
        let before = told.cpu;
        let cpu = CpuUsage {
            time: now.cpu.time.max(before.time),
            periods: now.cpu.periods.max(before.periods),
            throttled: now.cpu.throttled.max(before.throttled),
            throttled_time: now.cpu.throttled_time.max(before.throttled_time),
        };
        let failures = now.memory.failures.max(told.memory.failures);
        let kills = now.memory.kills.max(told.memory.kills);
        *told = Usage { cpu, memory: MemoryUsage { failures, kills, ..now.memory }, ..now };
        *told
    }

    /// The last one.
    pub(super) fn last(&self) -> Usage {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn counters_that_are_told_no_more_stay() {
        let told = ToldUsage::default();
        let cpu = |seconds| CpuUsage { time: Duration::from_secs(seconds), ..CpuUsage::default() };
        let memory = MemoryUsage { used: 7, kills: 1, ..MemoryUsage::default() };
        let now = Usage { cpu: cpu(3), memory, processes: 2 };
        assert_eq!(told.at_least(Some(now)).memory.used, 7);
        for now in [None, Some(Usage { cpu: cpu(1), ..Usage::default() })] {
            let Usage { cpu, memory, processes } = told.at_least(now);
            assert_eq!((cpu.time, memory.kills), (Duration::from_secs(3), 1));
            assert_eq!((memory.used, processes), (0, 0));
        }
    }

    #[test]
    fn counters_stay_and_memory_goes() {
        let past = PastUsage::default();
        let cpu = CpuUsage { time: Duration::from_secs(2), periods: 5, ..CpuUsage::default() };
        let memory = MemoryUsage { used: 7, peak: 8, kills: 1, ..MemoryUsage::default() };
        for _ in 0..2 {
            past.add(&Usage { cpu, memory, processes: 3 });
        }
        let Usage { cpu, memory, processes } = past.get();
        assert_eq!((cpu.time, cpu.periods, memory.kills), (Duration::from_secs(4), 10, 2));
        assert_eq!((memory.used, memory.peak, processes), (0, 0, 0));
    }
}
