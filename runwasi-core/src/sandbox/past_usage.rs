//! Usage of containers that have been deleted.
//!
//! Readers of a sandbox's metrics compute rates, so no counter may fall with a container that goes.
//! The cgroup of a pod keeps the time of its dead processes, too.

use crate::{
    lock::Mutex,
    resources::{memory::MemoryUsage, usage::Usage},
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scheduler::group::CpuUsage;

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
