//! Pods whose containerd, shim or node daemon went away under them; the cases are listed in `main.rs`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::cri::messages::{ContainerState, PodState};
use runwasi_tests::{Pods, poll_until, proc};

use crate::life::is_ready;

pub(crate) fn restarted_containerd_still_knows_a_pod(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("restart")?;
    let (sleeper, brief) = (
        pods.start_in(&pod, "sleeper", &["sleep", "100"])?,
        pods.start_in(&pod, "brief", &["exit", "7"])?,
    );
    pods.becomes(&brief, ContainerState::Exited)?;
    let pid = pods.pid(&sleeper)?;
    pods.fixture.stop()?;
    pods.fixture.start_again()?;
    pods.cri.becomes_ready()?;
    let status = pods.status(&sleeper)?;
    ensure!(status.state() == ContainerState::Running && pods.pid(&sleeper)? == pid, "{status:?}");
    ensure!(pods.status(&brief)?.exit_code == 7);
    is_ready(pods, &pod)?;
    let late = pods.start_in(&pod, "late", &["exit", "9"])?;
    ensure!(pods.becomes(&late, ContainerState::Exited)?.exit_code == 9);
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn log_has_every_line_over_a_restart_of_containerd(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("ticking")?;
    let container = pods.start_in(&pod, "ticking", &["daemon"])?;
    let log = pods.status(&container)?.log_path;
    let ticks = |least: usize| {
        poll_until(&format!("{least} ticks"), Duration::from_secs(20), || {
            let text = fs::read_to_string(&log).ok()?;
            (text.ends_with('\n') && text.lines().count() >= least).then_some(text)
        })
    };
    ticks(1)?;
    pods.fixture.stop()?;
    let before = fs::read_to_string(&log)?.lines().count();
    pods.fixture.start_again()?;
    pods.cri.becomes_ready()?;
    let text = ticks(before + 2)?;
    for (line, number) in text.lines().zip(1..) {
        ensure!(line.ends_with(&format!(" stdout F tick {number}")), "a line is missing: {text}");
    }
    pods.finish(&pod)?;
    pods.becomes_clean()
}

/// runc's shim loses it.
pub(crate) fn log_has_what_was_printed_at_the_end_while_containerd_was_away(
    pods: &mut Pods,
) -> Result<()> {
    let pod = pods.run("late")?;
    let begin = Instant::now();
    // Prints after five seconds, and ends.
    let container = pods.start_in(&pod, "late", &["timer", "5000", "1"])?;
    let log = pods.status(&container)?.log_path;
    pods.fixture.stop()?;
    poll_until("its end", Duration::from_secs(20), || {
        (begin.elapsed() > Duration::from_secs(7)).then_some(())
    })?;
    pods.fixture.start_again()?;
    pods.cri.becomes_ready()?;
    ensure!(pods.becomes(&container, ContainerState::Exited)?.exit_code == 0);
    let line = poll_until("a line in the log", Duration::from_secs(20), || {
        fs::read_to_string(&log).ok().filter(|log| log.ends_with('\n'))
    })?;
    ensure!(line.lines().count() == 1 && line.contains(" stdout F "), "{line:?}");
    pods.finish(&pod)?;
    pods.becomes_clean()
}

pub(crate) fn pod_is_removed_after_what_served_it_was_killed(pods: &mut Pods) -> Result<()> {
    let pod = pods.run("killed")?;
    let container = pods.start_in(&pod, "app", &["sleep", "100"])?;
    let pid = pods.pid(&container)?;
    if pods.runtime.needs_daemon() {
        pods.fixture.daemon()?.kill9()?;
    } else {
        proc::kill9(pods.pid_of_pod(&pod)?)?;
    }
    let status = pods.becomes(&container, ContainerState::Exited)?;
    // 255 is the CRI's word for a wait that was cut off, which it may see before it hears of the exit.
    ensure!([137, 255].contains(&status.exit_code), "{status:?}");
    poll_until("end of the pod", Duration::from_secs(20), || {
        let status = pods.cri.pod_status(&pod.id).ok()?.status?;
        (status.state() == PodState::NotReady).then_some(())
    })?;
    // Native programs end with the server that has started them.
    poll_until("end of the program", Duration::from_secs(20), || {
        (!proc::alive(pid) && pods.fixture.delegates().is_empty()).then_some(())
    })?;
    // What made it is not needed to remove it.
    pods.finish(&pod)?;
    ensure!(pods.cri.pods()?.is_empty() && pods.cri.containers()?.is_empty());
    ensure!(pods.fixture.mounts().is_empty(), "{:?}", pods.fixture.mounts());

    if pods.runtime.needs_daemon() {
        pods.fixture.daemon()?.start_again()?;
    }
    let next = pods.run("killed")?;
    let brief = pods.start_in(&next, "app", &["exit", "7"])?;
    ensure!(pods.becomes(&brief, ContainerState::Exited)?.exit_code == 7);
    pods.finish(&next)?;
    pods.becomes_clean()
}
