//! A container and its usage as JSON, the same in `list`, `inspect` and `debug bundle`.

use serde_json::{Value, json};

use super::text;
use crate::manager::reports::{ContainerReport, UsageReport};

/// A container as JSON.
pub(super) fn container_json(container: &ContainerReport) -> Value {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let execs: Vec<Value> = container
        .execs
        .iter()
        .map(|exec| json!({ "id": exec.id, "state": exec.state, "exit_status": exec.status }))
        .collect();
    json!({
        "id": container.id,
        "kind": container.kind,
        "state": filled(&container.state),
        "pid": container.pid,
        "bundle": filled(&container.bundle),
        "created": text::time_or_none(container.created),
        "started": text::time_or_none(container.started),
        "exited": text::time_or_none(container.exited),
        "exit_status": container.status,
        "artifact": filled(&container.artifact),
        "digest": filled(&container.digest),
        "usage": container.usage.as_ref().map(usage_json),
        "execs": execs,
    })
}

fn usage_json(usage: &UsageReport) -> Value {
    json!({
        "cpu_nanoseconds": usage.cpu,
        "cpu_shares": usage.shares,
        "cpu_quota_microseconds": usage.quota,
        "cpu_period_microseconds": usage.period,
        "cpu_periods": usage.periods,
        "throttled": usage.throttled,
        "throttled_nanoseconds": usage.throttled_time,
        "memory_bytes": usage.memory,
        "memory_uncharged_bytes": usage.uncharged,
        "memory_peak_bytes": usage.peak,
        "memory_limit_bytes": usage.limit,
        "memory_limit_failures": usage.failures,
        "memory_limit_kills": usage.kills,
        "processes": usage.processes,
        "requests": usage.requests,
    })
}
