//! Pods of the CRI in the log; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::cri::messages::ContainerState;
use runwasi_tests::log::{Line, has};
use runwasi_tests::{Pod, Pods};

const WHOLE: [&str; 4] =
    ["container created", "container started", "container exited", "container deleted"];

/// Demands the ids and the names of the pod in each line.
fn name(lines: &[Line], pod: &Pod) -> Result<()> {
    for line in lines {
        has(line, &[("namespace", "k8s.io"), ("sandbox", &pod.id)])?;
        has(line, &[("pod", "shop"), ("pod_namespace", "default")])?;
    }
    Ok(())
}

/// Runs a container in a pod to its end, and removes both.
fn run(pods: &mut Pods) -> Result<Pod> {
    let pod = pods.run("shop")?;
    let container = pods.start_in(&pod, "brief", &["exit", "7"])?;
    let ended = pods.becomes(&container, ContainerState::Exited)?;
    ensure!(ended.exit_code == 7, "{ended:?}");
    pods.finish(&pod)?;
    let lines = pods.fixture.whole_life(&container, &WHOLE)?;
    name(&lines, &pod)?;
    has(&lines[0], &[("kind", "wasm")])?;
    has(&lines[2], &[("status", "7"), ("cause", "exit")])?;
    Ok(pod)
}

pub(crate) fn every_line_of_a_pod_names_it(pods: &mut Pods) -> Result<()> {
    let pod = run(pods)?;
    let lines = pods.fixture.whole_life(&pod.id, &WHOLE)?;
    name(&lines, &pod)?;
    has(&lines[0], &[("kind", "pause")])?;
    pods.becomes_clean()
}

pub(crate) fn lines_of_a_managed_pod_name_it(pods: &mut Pods) -> Result<()> {
    let pod = run(pods)?;
    ensure!(pods.fixture.life(&pod.id).is_empty(), "a managed pod has a container");
    pods.becomes_clean()
}
