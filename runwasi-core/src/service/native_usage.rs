//! Usage of a whole sandbox: that of its guests, and that of its native containers, which their
//! delegate tells in containerd's messages.

use std::{collections::HashMap, time::Duration};

use containerd_shim_protos::{
    api::{StatsRequest, StatsResponse},
    cgroups::metrics as v1,
    cgroups_v2::metrics as v2,
    protobuf::{Message, well_known_types::any::Any},
    ttrpc,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    resources::{memory::MemoryUsage, usage::Usage},
    sandbox::{Sandbox, native_container::NativeContainer},
    scheduler::group::CpuUsage,
};

/// Time for the delegate to tell the usage of all its containers. Less than the patience of clients
/// that ask for metrics.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time for the delegate to tell the last usage of one container. Its deletion waits for that.
const LAST: Duration = Duration::from_secs(1);

/// Learns the usage of a container that is about to be deleted, if its delegate tells it.
pub(super) async fn learn(container: &NativeContainer) {
    let asked = timeout_at(Instant::now() + LAST, ask(container)).await;
    container.told.at_least(asked.ok().and_then(Result::ok).as_ref().and_then(usage));
}

/// Summed usage of all containers. Without an answer the last counters of a container count.
pub(super) async fn usage_of_all(sandbox: &Sandbox) -> Usage {
    let (others, natives) = sandbox.usage_beside_natives();
    let mut all = vec![others];
    let deadline = Instant::now() + PATIENCE;
    for container in natives {
        let now = match timeout_at(deadline, ask(&container)).await {
            Ok(Ok(stats)) => usage(&stats),
            // It has ended, and with it its cgroup, or its delegate has.
            Ok(Err(error)) => {
                tracing::debug!(%error, container = %container.id, "its usage is not known");
                None
            }
            // Further ones are not waited for.
            Err(_) => {
                tracing::warn!(container = %container.id, "a native runtime tells no usage");
                None
            }
        };
        all.push(container.told.at_least(now));
    }
    all.into_iter().sum()
}

async fn ask(container: &NativeContainer) -> ttrpc::Result<Any> {
    let request = StatsRequest { id: container.id.to_string(), ..StatsRequest::default() };
    let client = &container.delegate.client;
    let answer: StatsResponse = client.forward("Stats", &request, HashMap::new(), 0).await?;
    Ok(answer.stats.unwrap_or_default())
}

/// The usage in a message of either version. No result for other messages.
fn usage(stats: &Any) -> Option<Usage> {
    // Some versions write a host before the name.
    match stats.type_url.rsplit('/').next()? {
        "io.containerd.cgroups.v1.Metrics" => {
            v1::Metrics::parse_from_bytes(&stats.value).ok().map(|metrics| of_v1(&metrics))
        }
        "io.containerd.cgroups.v2.Metrics" => {
            v2::Metrics::parse_from_bytes(&stats.value).ok().map(|metrics| of_v2(&metrics))
        }
        _ => None,
    }
}

fn of_v1(metrics: &v1::Metrics) -> Usage {
    let throttling = &metrics.cpu.throttling;
    let memory = &metrics.memory.usage;
    Usage {
        cpu: CpuUsage {
            time: Duration::from_nanos(metrics.cpu.usage.total),
            periods: throttling.periods,
            throttled: throttling.throttled_periods,
            throttled_time: Duration::from_nanos(throttling.throttled_time),
        },
        memory: MemoryUsage {
            used: memory.usage,
            peak: memory.max,
            failures: memory.failcnt,
            kills: metrics.memory_oom_control.oom_kill,
            ..MemoryUsage::default()
        },
        processes: metrics.pids.current,
    }
}

fn of_v2(metrics: &v2::Metrics) -> Usage {
    let cpu = &metrics.cpu;
    let used = metrics.memory.usage;
    Usage {
        cpu: CpuUsage {
            time: Duration::from_micros(cpu.usage_usec),
            periods: cpu.nr_periods,
            throttled: cpu.nr_throttled,
            throttled_time: Duration::from_micros(cpu.throttled_usec),
        },
        memory: MemoryUsage {
            used,
            // The message has no field for the peak.
            peak: used,
            failures: metrics.memory_events.max,
            kills: metrics.memory_events.oom_kill,
            ..MemoryUsage::default()
        },
        processes: metrics.pids.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cgroups::version::CgroupVersion, service::metrics::metrics};

    #[test]
    fn usage_of_both_versions_is_read() {
        let told = Usage {
            cpu: CpuUsage {
                time: Duration::from_millis(1500),
                periods: 9,
                throttled: 4,
                throttled_time: Duration::from_millis(70),
            },
            memory: MemoryUsage {
                used: 20,
                peak: 20,
                limit: Some(30),
                failures: 2,
                kills: 1,
                ..MemoryUsage::default()
            },
            processes: 3,
        };
        // A sandbox has no limit of its own.
        let expected = Usage { memory: MemoryUsage { limit: None, ..told.memory }, ..told };
        for version in [CgroupVersion::V1, CgroupVersion::V2] {
            let read = usage(&metrics(version, &told).unwrap()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{expected:?}"), "{version:?}");
        }
    }

    #[test]
    fn other_messages_tell_no_usage() {
        let message = |type_url: &str, value: &[u8]| {
            usage(&Any { type_url: type_url.into(), value: value.into(), ..Any::default() })
        };
        assert!(message("", b"").is_none());
        assert!(message("io.containerd.cgroups.v3.Metrics", b"").is_none());
        assert!(message("io.containerd.cgroups.v2.Metrics", b"\xff").is_none());
        assert!(message("types.example.com/io.containerd.cgroups.v2.Metrics", b"").is_some());
    }
}
