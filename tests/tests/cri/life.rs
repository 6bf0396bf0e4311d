//! A pod's life: containers come, write, end and go; the cases are listed in `main.rs`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::cri::messages::{ContainerState, LinuxContainerResources, PodState};
use runwasi_tests::{Pod, Pods, Runtime, best_of, poll_until};

pub(crate) fn pod_with_two_containers_lives_and_leaves_nothing(pods: &mut Pods) -> Result<()> {
    ensure!(pods.cri.version()?.runtime_name == "containerd");
    let pod = pods.run("two")?;
    is_ready(pods, &pod)?;
    let (sleeper, brief) = (
        pods.create(&pod, "sleeper", &["sleep", "100"])?,
        pods.create(&pod, "brief", &["exit", "7"])?,
    );
    for container in [&sleeper, &brief] {
        let status = pods.status(container)?;
        ensure!(status.state() == ContainerState::Created && status.started_at == 0, "{status:?}");
        pods.cri.start(container)?;
    }
    let ended = pods.becomes(&brief, ContainerState::Exited)?;
    // Not necessarily in this order: containerd takes the time of the start when it has heard of it.
    ensure!(ended.exit_code == 7 && ended.started_at > 0 && ended.finished_at > 0, "{ended:?}");
    let running = pods.status(&sleeper)?;
    ensure!(running.state() == ContainerState::Running && running.finished_at == 0, "{running:?}");
    let mut listed: Vec<_> =
        pods.cri.containers()?.into_iter().map(|one| (one.id, one.pod_sandbox_id)).collect();
    let mut made = [&sleeper, &brief].map(|id| (id.clone(), pod.id.clone()));
    listed.sort();
    made.sort();
    ensure!(listed == made, "{listed:?} instead of {made:?}");

    pods.cri.stop(&sleeper, 10)?;
    let stopped = pods.status(&sleeper)?;
    ensure!(stopped.state() == ContainerState::Exited, "{stopped:?}");
    // By SIGTERM, for which the guest had ten seconds.
    ensure!(stopped.exit_code == 143, "{stopped:?}");
    is_ready(pods, &pod)?;
    pods.cri.stop_pod(&pod.id)?;
    let state = pods.cri.pod_status(&pod.id)?.status.context("no status")?.state();
    ensure!(state == PodState::NotReady, "{state:?}");
    pods.cri.remove_pod(&pod.id)?;
    ensure!(pods.cri.pods()?.is_empty() && pods.cri.containers()?.is_empty());
    pods.becomes_clean()
}

pub(crate) fn output_of_the_guest_is_in_its_log(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("logs")?;
    let said = pods.start_in(&pod, "said", &["echo", "from", "the", "guest"])?;
    let erred = pods.start_in(&pod, "erred", &["stderr", "to stderr"])?;
    for (container, stream, text) in
        [(said, "stdout", "from the guest"), (erred, "stderr", "to stderr")]
    {
        let status = pods.becomes(&container, ContainerState::Exited)?;
        ensure!(status.exit_code == 0, "{status:?}");
        // containerd closes the log when it has read all, a moment after it heard of the end.
        let line = poll_until("a line in the log", Duration::from_secs(20), || {
            fs::read_to_string(&status.log_path).ok().filter(|log| log.ends_with('\n'))
        })?;
        // TIME STREAM F TEXT, F for a full line.
        let words: Vec<_> = line.trim_end().splitn(4, ' ').collect();
        ensure!(words[1..] == [stream, "F", text], "{line:?} in {}", status.log_path);
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn stats_tell_what_a_guest_computes(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("stats")?;
    let (spinner, sleeper) =
        (pods.start_in(&pod, "spin", &["spin"])?, pods.start_in(&pod, "sleep", &["sleep", "100"])?);
    let first = computed(pods, &spinner)?;
    poll_until("CPU time in the stats", Duration::from_secs(20), || {
        (computed(pods, &spinner).ok()? > first + 100_000_000).then_some(())
    })?;
    // A tenth of a second is far more than its start takes, and what the spinner has used must not be its too.
    let asleep = computed(pods, &sleeper)?;
    ensure!(asleep < 100_000_000, "a sleeping guest used {asleep} ns");
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn limits_are_changed_while_a_guest_runs(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("limits")?;
    let spinner = pods.start_in(&pod, "spin", &["spin"])?;
    let limits = LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        memory_limit_in_bytes: 64 << 20,
    };
    pods.cri.update(&spinner, limits)?;
    best_of(5, || {
        let (before, began) = (computed(pods, &spinner)?, Instant::now());
        // Nothing is to happen for a while.
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_secs(2));
        let used = Duration::from_nanos(computed(pods, &spinner)? - before);
        let part = used.as_secs_f64() / began.elapsed().as_secs_f64();
        // Without the limit it would be most of a CPU; a busy machine gives it less.
        ensure!((0.1..0.3).contains(&part), "{part:.2} of a CPU instead of 0.2");
        Ok(())
    })?;
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn container_beyond_its_memory_limit_is_oom_killed(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("oom")?;
    let limits = LinuxContainerResources { memory_limit_in_bytes: 15 << 20, ..Default::default() };
    // Not at once: runc's shim sees only what is killed after it has answered Start.
    let eater = pods.create_limited(&pod, "eater", &["alloc-later", "400"], limits)?;
    let other = pods.start_in(&pod, "other", &["sleep", "100"])?;
    pods.cri.start(&eater)?;
    let status = pods.becomes(&eater, ContainerState::Exited)?;
    ensure!(status.exit_code == 137 && status.reason == "OOMKilled", "{status:?}");
    ensure!(pods.status(&other)?.state() == ContainerState::Running);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn stopped_pod_ends_its_containers(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("stopped")?;
    let containers =
        [pods.start_in(&pod, "a", &["sleep", "100"])?, pods.start_in(&pod, "b", &["spin"])?];
    pods.cri.stop_pod(&pod.id)?;
    for container in &containers {
        let status = pods.status(container)?;
        ensure!(status.state() == ContainerState::Exited && status.exit_code == 137, "{status:?}");
        pods.cri.remove(container)?;
    }
    // Asking twice is allowed: the kubelet does.
    pods.cri.stop_pod(&pod.id)?;
    pods.cri.remove_pod(&pod.id)?;
    pods.cri.remove_pod(&pod.id)?;
    pods.becomes_clean()
}

pub(crate) fn pod_is_removed_with_what_still_runs(pods: &mut Pods) -> Result<()> {
    let (pod, other) = (pods.run("removed")?, pods.run("other")?);
    pods.start_in(&pod, "a", &["sleep", "100"])?;
    pods.create(&pod, "never-started", &["sleep", "100"])?;
    let kept = pods.start_in(&other, "kept", &["sleep", "100"])?;
    pods.cri.remove_pod(&pod.id)?;
    let left: Vec<_> = pods.cri.containers()?.into_iter().map(|one| one.id).collect();
    ensure!(left == [kept.clone()], "{left:?}");
    ensure!(pods.status(&kept)?.state() == ContainerState::Running);
    if pods.runtime != Runtime::Runc {
        // A shim leaves after it has answered `Shutdown`.
        poll_until("the end of the pod's socket", Duration::from_secs(20), || {
            (!pods.socket(&pod.id).exists()).then_some(())
        })?;
        ensure!(pods.socket(&other.id).exists(), "the socket of the other pod was removed");
    }
    pods.cri.remove_pod(&other.id)?;
    pods.becomes_clean()
}

pub(crate) fn refused_container_does_not_disturb_its_pod(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("refused")?;
    let sleeper = pods.start_in(&pod, "sleeper", &["sleep", "100"])?;
    let bad = pods.create_program(&pod, "bad", "/nosuch", &[])?;
    let error = pods.cri.start(&bad).err().context("a missing program was started")?;
    ensure!(format!("{error:#}").contains("/nosuch"), "{error:#}");
    let status = pods.status(&bad)?;
    ensure!(status.state() == ContainerState::Exited && status.exit_code != 0, "{status:?}");
    ensure!(pods.status(&sleeper)?.state() == ContainerState::Running);
    is_ready(pods, &pod)?;
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn ended_container_is_replaced_in_its_pod(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("replaced")?;
    for code in ["3", "4", "5"] {
        let brief = pods.start_in(&pod, &format!("brief{code}"), &["exit", code])?;
        let status = pods.becomes(&brief, ContainerState::Exited)?;
        ensure!(status.exit_code.to_string() == code, "{status:?}");
        pods.cri.remove(&brief)?;
        // Nothing but the pod itself is left, and it must stay.
        is_ready(pods, &pod)?;
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn is_ready(pods: &Pods, pod: &Pod) -> Result<()> {
    let status = pods.cri.pod_status(&pod.id)?.status.context("no status")?;
    ensure!(status.state() == PodState::Ready, "{status:?}");
    Ok(())
}

/// Nanoseconds of CPU time in a container's stats.
fn computed(pods: &Pods, container: &str) -> Result<u64> {
    let stats = pods.cri.stats(container)?;
    let whose = stats.attributes.context("no attributes")?.id;
    ensure!(whose == container, "stats of {whose}, not of {container}");
    let cpu = stats.cpu.context("no CPU")?;
    ensure!(cpu.timestamp > 0, "{cpu:?}");
    Ok(cpu.usage_core_nano_seconds.context("no CPU time")?.value)
}
