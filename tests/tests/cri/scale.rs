//! Many pods, pods that are replaced under traffic, and pods whose makers are killed; the cases are listed in `main.rs`. The
//! same with larger numbers: `make scale` and `make chaos`.

use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::Pods;
use runwasi_tests::cri::messages::ContainerState;
use runwasi_tests::pods::container_config;

pub(crate) fn many_pods_at_once_run_and_leave_nothing(pods: &mut Pods) -> Result<()> {
    let names: Vec<String> = (0..24).map(|n| format!("pod{n}")).collect();
    let (image, guest) = (pods.runtime.image().name(), pods.runtime.guest());
    let container = container_config("app", image, &[guest, "sleep", "1000"]);
    let started = pods.start_many(&names, 16, &container)?;
    for one in &started {
        let status = pods.status(&one.container)?;
        ensure!(status.state() == ContainerState::Running, "{status:?}");
        ensure!(pods.network.has(&one.address), "{one:?}");
    }
    pods.finish_many(&started, 16)?;
    ensure!(pods.cri.pods()?.is_empty() && pods.cri.containers()?.is_empty());
    pods.becomes_clean()
}

pub(crate) fn replaced_servers_fail_no_request(pods: &mut Pods) -> Result<()> {
    let rollout = pods.roll_out(6, 2)?;
    ensure!(rollout.failed.is_empty(), "{rollout:#?}");
    ensure!(rollout.before > 0 && rollout.answered > rollout.before, "{rollout:?}");
    pods.becomes_clean()
}

pub(crate) fn wanted_pods_are_there_after_random_kills(pods: &mut Pods) -> Result<()> {
    let kills = pods.kill_at_random(5, Duration::from_secs(8))?;
    ensure!(kills.containerd.min(kills.server) >= 2 && kills.made > 10, "{kills:?}");
    pods.becomes_clean_after_removal()
}
