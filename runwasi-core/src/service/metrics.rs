//! Metrics messages for containerd's `Stats`.
//!
//! containerd decodes only its own two messages: v1 on hosts with a cgroup hierarchy for every
//! controller, v2 otherwise. A message of another type breaks the listing of all containers.
//!
//! A part of the message is there also if nothing is in it, as for each cgroup of the kernel.
//! containerd before 2.0 reads the kinds of memory of v1 without a look for them, and ends with the
//! first scrape of its metrics; `nerdctl stats` does so with the disks of both.

use std::time::Duration;

use containerd_shim_protos::{
    cgroups::metrics as v1,
    cgroups_v2::metrics as v2,
    protobuf::{MessageField, well_known_types::any::Any},
    ttrpc,
};

use super::convert;
use crate::{cgroups::version::CgroupVersion, resources::usage::Usage};

/// Encodes `usage`: times in nanoseconds for v1 and in microseconds for v2, memory in bytes.
pub(crate) fn metrics(cgroups: CgroupVersion, usage: &Usage) -> ttrpc::Result<Any> {
    match cgroups {
        CgroupVersion::V1 => {
            convert::any_named("io.containerd.cgroups.v1.Metrics", &metrics_v1(usage))
        }
        CgroupVersion::V2 => {
            convert::any_named("io.containerd.cgroups.v2.Metrics", &metrics_v2(usage))
        }
    }
}

/// Memory that a container holds: a server without a request has no instance, and still its
/// connections and buffers. Never more than the limit, unless the charged part alone is.
fn held(usage: &Usage) -> u64 {
    let memory = &usage.memory;
    // After the last process the rest is the runtime's.
    let uncharged = if usage.processes == 0 { 0 } else { memory.uncharged };
    let limit = memory.limit.unwrap_or(u64::MAX).max(memory.used);
    memory.used.saturating_add(uncharged).min(limit)
}

/// The memory limit, but never less than what is held, as in a cgroup. "No limit" is the largest
/// number.
// The CRI subtracts one from the other without a check, and would tell the kubelet that 16 EiB are
// available. The limit is less after an update below the usage, and after the last growth of a heap
// of collected objects.
fn limit(usage: &Usage) -> u64 {
    usage.memory.limit.unwrap_or(u64::MAX).max(held(usage))
}

fn metrics_v1(usage: &Usage) -> v1::Metrics {
    let Usage { cpu, memory, processes } = usage;
    let held = held(usage);
    let limit = limit(usage);
    let total = nanos(cpu.time);
    // The meter reads thread CPU time, which does not tell user from system time.
    let usage = v1::CPUUsage { total, user: total, ..Default::default() };
    let throttling = v1::Throttle {
        periods: cpu.periods,
        throttled_periods: cpu.throttled,
        throttled_time: nanos(cpu.throttled_time),
        ..Default::default()
    };
    let cpu = v1::CPUStat {
        usage: MessageField::some(usage),
        throttling: MessageField::some(throttling),
        ..Default::default()
    };
    let entry = v1::MemoryEntry {
        usage: held,
        limit,
        max: memory.peak.max(held),
        failcnt: memory.failures,
        ..Default::default()
    };
    // Memory and swap together, of which nothing is in the swap.
    let with_swap = entry.clone();
    let of_kernel = v1::MemoryEntry { limit: u64::MAX, ..Default::default() };
    // No page of it is cache: the CRI has the resident memory from the total.
    let stat = v1::MemoryStat {
        rss: held,
        total_rss: held,
        usage: MessageField::some(entry),
        swap: MessageField::some(with_swap),
        kernel: MessageField::some(of_kernel.clone()),
        kernel_tcp: MessageField::some(of_kernel),
        ..Default::default()
    };
    let oom = v1::MemoryOomControl { oom_kill: memory.kills, ..Default::default() };
    let pids = v1::PidsStat { current: *processes, ..Default::default() };
    v1::Metrics {
        cpu: MessageField::some(cpu),
        memory: MessageField::some(stat),
        memory_oom_control: MessageField::some(oom),
        pids: MessageField::some(pids),
        blkio: MessageField::some(v1::BlkIOStat::default()),
        ..Default::default()
    }
}

fn metrics_v2(usage: &Usage) -> v2::Metrics {
    let Usage { cpu, memory, processes } = usage;
    let held = held(usage);
    // As in v1: the meter does not tell user from system time.
    let usage_usec = micros(cpu.time);
    let cpu = v2::CPUStat {
        usage_usec,
        user_usec: usage_usec,
        nr_periods: cpu.periods,
        nr_throttled: cpu.throttled,
        throttled_usec: micros(cpu.throttled_time),
        ..Default::default()
    };
    // The message has no field for the peak.
    let stat =
        v2::MemoryStat { usage: held, usage_limit: limit(usage), anon: held, ..Default::default() };
    // A growth beyond the limit both meets it (`max`) and fails (`oom`).
    let events = v2::MemoryEvents {
        max: memory.failures,
        oom: memory.failures,
        oom_kill: memory.kills,
        ..Default::default()
    };
    let pids = v2::PidsStat { current: *processes, ..Default::default() };
    v2::Metrics {
        cpu: MessageField::some(cpu),
        memory: MessageField::some(stat),
        memory_events: MessageField::some(events),
        pids: MessageField::some(pids),
        io: MessageField::some(v2::IOStat::default()),
        ..Default::default()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::Message;

    use super::*;
    use crate::{resources::memory::MemoryUsage, scheduler::group::CpuUsage};

    const USAGE: Usage = Usage {
        cpu: CpuUsage {
            time: Duration::from_millis(1500),
            periods: 9,
            throttled: 4,
            throttled_time: Duration::from_millis(70),
        },
        memory: MemoryUsage {
            used: 10,
            uncharged: 0,
            peak: 20,
            limit: Some(30),
            failures: 2,
            kills: 1,
        },
        processes: 3,
    };

    #[test]
    fn version_1_has_nanoseconds_and_the_peak() {
        let any = metrics(CgroupVersion::V1, &USAGE).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let message = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!(message.cpu.usage.total, 1_500_000_000);
        let throttling = &message.cpu.throttling;
        assert_eq!((throttling.periods, throttling.throttled_periods), (9, 4));
        assert_eq!(throttling.throttled_time, 70_000_000);
        let memory = &message.memory.usage;
        assert_eq!((memory.usage, memory.max, memory.limit, memory.failcnt), (10, 20, 30, 2));
        assert_eq!((message.memory.rss, message.memory.total_rss), (10, 10));
        assert_eq!((message.memory_oom_control.oom_kill, message.pids.current), (1, 3));
    }

    #[test]
    fn version_2_has_microseconds() {
        let any = metrics(CgroupVersion::V2, &USAGE).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let message = v2::Metrics::parse_from_bytes(&any.value).unwrap();
        assert_eq!((message.cpu.usage_usec, message.cpu.throttled_usec), (1_500_000, 70_000));
        assert_eq!((message.cpu.nr_periods, message.cpu.nr_throttled), (9, 4));
        assert_eq!((message.memory.usage, message.memory.usage_limit), (10, 30));
        assert_eq!((message.memory_events.max, message.memory_events.oom_kill), (2, 1));
        assert_eq!(message.pids.current, 3);
    }

    #[test]
    fn parts_that_clients_read_without_a_look_are_there() {
        let any = metrics(CgroupVersion::V1, &USAGE).unwrap();
        let message = v1::Metrics::parse_from_bytes(&any.value).unwrap();
        assert!(message.blkio.is_some() && message.cpu.usage.is_some());
        let memory = message.memory.unwrap();
        let kinds = [&memory.usage, &memory.swap, &memory.kernel, &memory.kernel_tcp];
        assert!(kinds.iter().all(|kind| kind.is_some()), "{memory:?}");
        // Of v1, this counts memory and swap.
        assert_eq!((memory.swap.usage, memory.swap.limit), (10, 30));
        assert_eq!((memory.kernel.usage, memory.kernel.limit), (0, u64::MAX));
        let any = metrics(CgroupVersion::V2, &USAGE).unwrap();
        assert!(v2::Metrics::parse_from_bytes(&any.value).unwrap().io.is_some());
    }

    #[test]
    fn memory_is_what_is_held_within_the_limit() {
        let usage = |used, uncharged, limit, processes| {
            let memory = MemoryUsage { used, uncharged, limit, ..USAGE.memory };
            held(&Usage { memory, processes, ..USAGE })
        };
        assert_eq!(usage(10, 7, None, 1), 17);
        assert_eq!(usage(0, 7, Some(30), 1), 7);
        assert_eq!(usage(28, 7, Some(30), 1), 30);
        assert_eq!(usage(40, 7, Some(30), 1), 40, "an update below the usage");
        assert_eq!(usage(0, 7, None, 0), 0, "without a process");
    }

    #[test]
    fn limit_is_not_less_than_the_usage() {
        let memory = MemoryUsage { used: 40, uncharged: 7, limit: Some(30), ..USAGE.memory };
        let usage = Usage { memory, ..USAGE };
        let v1 = metrics_v1(&usage).memory.usage.clone().unwrap();
        assert_eq!((v1.usage, v1.limit), (40, 40));
        let v2 = metrics_v2(&usage).memory;
        assert_eq!((v2.usage, v2.usage_limit), (40, 40));
        let within = Usage { memory: MemoryUsage { used: 20, ..memory }, ..USAGE };
        assert_eq!(metrics_v2(&within).memory.usage_limit, 30);
    }

    #[test]
    fn no_limit_is_the_largest_number() {
        let unlimited = Usage { memory: MemoryUsage { limit: None, ..USAGE.memory }, ..USAGE };
        assert_eq!(metrics_v1(&unlimited).memory.usage.limit, u64::MAX);
        assert_eq!(metrics_v2(&unlimited).memory.usage_limit, u64::MAX);
    }
}
