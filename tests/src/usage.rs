//! What `ctr task metrics` says about a container, in either form; and changes of its limits, for which `ctr` 1.6 has no command.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{Empty, UpdateTaskRequest};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use serde_json::Value;

use crate::containers::Containers;
use crate::shim::reason;

/// A data point.
#[derive(Debug)]
pub struct Usage {
    json: Value,
    /// Whether it is the message of cgroup version 1.
    v1: bool,
}

impl Usage {
    /// Asks `ctr task metrics`.
    pub fn of(c: &Containers, id: &str) -> Result<Self> {
        let out = c.fixture.ctr(["task", "metrics", "--format", "json", id])?.ok()?.out();
        let json: Value = serde_json::from_str(&out).with_context(|| out.clone())?;
        let v1 = !json["cpu"]["usage"].is_null();
        ensure!(v1 || !json["cpu"]["usage_usec"].is_null(), "neither version: {out}");
        Ok(Self { json, v1 })
    }

    /// CPU time.
    pub fn cpu(&self) -> Duration {
        self.time(&["usage", "total"], "usage_usec")
    }

    /// Time spent throttled.
    pub fn throttled_time(&self) -> Duration {
        self.time(&["throttling", "throttled_time"], "throttled_usec")
    }

    /// Periods, and those that were throttled.
    pub fn periods(&self) -> (u64, u64) {
        let cpu = &self.json["cpu"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        match self.v1 {
            true => (
                number(&cpu["throttling"]["periods"]),
                number(&cpu["throttling"]["throttled_periods"]),
            ),
            false => (number(&cpu["nr_periods"]), number(&cpu["nr_throttled"])),
        }
    }

    /// Bytes in use, and the limit.
    pub fn memory(&self) -> (u64, u64) {
        let memory = &self.json["memory"];
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        match self.v1 {
            true => (number(&memory["usage"]["usage"]), number(&memory["usage"]["limit"])),
            false => (number(&memory["usage"]), number(&memory["usage_limit"])),
        }
    }

    /// The most bytes that were in use; only version 1 tells.
    pub fn peak(&self) -> Option<u64> {
        self.v1.then(|| self.json["memory"]["usage"]["max"].as_u64().unwrap_or(0))
    }

    /// How often memory was asked for beyond the limit.
    pub fn failures(&self) -> u64 {
        let count = if self.v1 {
            &self.json["memory"]["usage"]["failcnt"]
        } else {
            &self.json["memory_events"]["max"]
        };
        count.as_u64().unwrap_or(0)
    }

    /// Processes ended for memory.
    pub fn oom_kills(&self) -> u64 {
        let event =
            if self.v1 { &self.json["memory_oom_control"] } else { &self.json["memory_events"] };
        event["oom_kill"].as_u64().unwrap_or(0)
    }

    /// Processes.
    pub fn processes(&self) -> u64 {
        self.json["pids"]["current"].as_u64().unwrap_or(0)
    }

    fn time(&self, v1: &[&str], v2: &str) -> Duration {
        let cpu = &self.json["cpu"];
        match self.v1 {
            true => Duration::from_nanos(
                v1.iter().fold(cpu, |value, key| &value[*key]).as_u64().unwrap_or(0),
            ),
            false => Duration::from_micros(cpu[v2].as_u64().unwrap_or(0)),
        }
    }
}

/// `Update` with `resources` as JSON; the error is the shim's words.
pub fn update(c: &Containers, id: &str, resources: &str) -> Result<()> {
    let resources = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: resources.as_bytes().to_vec(),
        ..Any::default()
    };
    let request = UpdateTaskRequest {
        id: id.to_owned(),
        resources: MessageField::some(resources),
        ..Default::default()
    };
    let answer = c.client(id)?.call::<Empty>("Update", &request, Duration::from_secs(10));
    answer.map(drop).map_err(|error| anyhow::Error::msg(reason(&error)))
}
