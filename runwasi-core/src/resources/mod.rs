//! What containerd's `Stats` is answered with. containerd decodes only its own two messages, and one of another type breaks
//! the listing of all containers: v1 on hosts whose controllers are mounted the old way, v2 otherwise.

use std::{path::Path, time::Duration};

use containerd_shim_protos::{
    cgroups::metrics as v1,
    cgroups_v2::metrics as v2,
    protobuf::{MessageField, well_known_types::any::Any},
    ttrpc,
};

use crate::service::convert;

/// How the host's cgroup controllers are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroups {
    /// A hierarchy for every controller.
    V1,
    /// The unified hierarchy.
    V2,
}

/// The host's mode, as containerd finds it: v2 if the root of the hierarchy is a cgroup2 file system.
pub fn host_cgroups() -> Cgroups {
    cgroups_at(Path::new("/sys/fs/cgroup"))
}

fn cgroups_at(root: &Path) -> Cgroups {
    if root.join("cgroup.controllers").exists() { Cgroups::V2 } else { Cgroups::V1 }
}

/// The metrics message: CPU in nanoseconds for v1 and in microseconds for v2; one process.
pub(crate) fn metrics(cgroups: Cgroups, cpu: Duration) -> ttrpc::Result<Any> {
    match cgroups {
        Cgroups::V1 => convert::any_named("io.containerd.cgroups.v1.Metrics", &metrics_v1(cpu)),
        Cgroups::V2 => convert::any_named("io.containerd.cgroups.v2.Metrics", &metrics_v2(cpu)),
    }
}

fn metrics_v1(cpu: Duration) -> v1::Metrics {
    let total = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
    let usage = v1::CPUUsage { total, user: total, ..Default::default() };
    let cpu = v1::CPUStat { usage: MessageField::some(usage), ..Default::default() };
    let pids = v1::PidsStat { current: 1, ..Default::default() };
    v1::Metrics { cpu: MessageField::some(cpu), pids: MessageField::some(pids), ..Default::default() }
}

fn metrics_v2(cpu: Duration) -> v2::Metrics {
    let usage_usec = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
    let cpu = v2::CPUStat { usage_usec, user_usec: usage_usec, ..Default::default() };
    let pids = v2::PidsStat { current: 1, ..Default::default() };
    v2::Metrics { cpu: MessageField::some(cpu), pids: MessageField::some(pids), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::Message;

    use super::*;

    #[test]
    fn cpu_is_in_nanoseconds_for_v1_and_in_microseconds_for_v2() {
        let cpu = Duration::from_millis(1500);
        let any = metrics(Cgroups::V1, cpu).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        assert_eq!(v1::Metrics::parse_from_bytes(&any.value).unwrap().cpu.usage.total, 1_500_000_000);
        let any = metrics(Cgroups::V2, cpu).unwrap();
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        assert_eq!(v2::Metrics::parse_from_bytes(&any.value).unwrap().cpu.usage_usec, 1_500_000);
    }

    #[test]
    fn the_mode_is_read_off_the_hierarchys_root() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(cgroups_at(root.path()), Cgroups::V1);
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        assert_eq!(cgroups_at(root.path()), Cgroups::V2);
    }
}
