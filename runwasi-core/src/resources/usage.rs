//! Resource usage of a container, and its sum over containers.

use std::iter::Sum;

use super::memory::MemoryUsage;
pub use crate::scheduler::group::CpuUsage;

/// Resources used by a container.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// By all its processes, also those that have ended.
    pub cpu: CpuUsage,
    /// By all its processes.
    pub memory: MemoryUsage,
    /// Number of running processes.
    pub processes: u64,
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            cpu: CpuUsage {
                time: sum.cpu.time + one.cpu.time,
                periods: sum.cpu.periods + one.cpu.periods,
                throttled: sum.cpu.throttled + one.cpu.throttled,
                throttled_time: sum.cpu.throttled_time + one.cpu.throttled_time,
            },
            memory: MemoryUsage {
                used: sum.memory.used + one.memory.used,
                uncharged: sum.memory.uncharged + one.memory.uncharged,
                peak: sum.memory.peak + one.memory.peak,
                // Every container has a limit of its own; the sum has no limit.
                limit: None,
                failures: sum.memory.failures + one.memory.failures,
                kills: sum.memory.kills + one.memory.kills,
            },
            processes: sum.processes + one.processes,
        })
    }
}
