//! Pods of the CRI in the log; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::ContainerState;
use runwasi_tests::log::{Line, has, text};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Pod, Pods, poll_until};

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
    pods.becomes_clean()?;
    // It has a life of its own.
    let Ok(daemon) = pods.fixture.daemon() else { return Ok(()) };
    let of_pod = |line: &Line| line.get("sandbox").is_some_and(|sandbox| *sandbox == pod.id);
    let messages = || {
        let lines = daemon.log().lines().filter_map(text).filter(of_pod).collect::<Vec<_>>();
        let messages = lines.into_iter().filter_map(|mut line| line.remove("msg"));
        messages.filter(|message| message.starts_with("sandbox ")).collect::<Vec<_>>()
    };
    let told = poll_until("the end of the sandbox", LIMIT, || (messages().len() > 1).then_some(()));
    told.with_context(|| format!("{:?}", messages()))?;
    ensure!(messages() == ["sandbox created", "sandbox ended"], "{:?}", messages());
    Ok(())
}
