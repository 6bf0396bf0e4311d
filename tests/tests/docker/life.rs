//! From the start of a container to its end, and over ends of its host; the cases are listed in
//! `main.rs`.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use runwasi_tests::docker::{Engine, LONG, check_docker_with};
use runwasi_tests::{Docker, Runtime, poll_until, proc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

/// A Docker whose containers stay when it leaves.
#[track_caller]
pub(crate) fn check_live_restore(
    runtime: Runtime,
    case: impl FnOnce(&mut Docker) -> Result<()> + Send,
) {
    check_docker_with(Engine::Newest, runtime, &json!({"live-restore": true}), case);
}

pub(crate) fn stop_and_kill_give_the_signals_status(d: &mut Docker) -> Result<()> {
    d.detached("main", &[], &["count"])?;
    d.prints("main", "tick 2\n")?;
    let state = d.state("main")?;
    ensure!(state.status == "running" && proc::alive(state.pid), "{state:?}");
    // The first process of runc's pid namespace is deaf to SIGTERM, and so killed after the
    // time-out.
    let of_stop = if d.runtime.runs_by_runc() { 137 } else { 143 };
    d.says(&["stop", "-t", if of_stop == 137 { "3" } else { "20" }, "main"])?;
    let state = d.state("main")?;
    ensure!(
        (state.status.as_str(), state.exit_code, state.pid) == ("exited", of_stop, 0),
        "{state:?}"
    );
    let before = d.says(&["logs", "main"])?.lines().filter(|line| *line == "tick 1").count();
    d.says(&["start", "main"])?;
    let again = d.becomes("main", "running", |state| state.status == "running")?;
    ensure!(again.pid > 0 && before == 1, "{again:?}, {before}");
    d.says(&["restart", "-t", "0", "main"])?;
    let waiting = d.docker(["wait", "main"]).spawn()?;
    d.says(&["kill", "main"])?;
    ensure!(waiting.wait()?.ok()?.out() == "137\n");
    let state = d.state("main")?;
    ensure!(state.exit_code == 137 && !state.oom_killed, "{state:?}");
    if !d.runtime.runs_by_runc() {
        d.says(&["start", "main"])?;
        d.says(&["kill", "-s", "HUP", "main"])?;
        ensure!(d.becomes("main", "ended", |state| state.status == "exited")?.exit_code == 129);
    }
    let logged = d.says(&["logs", "--tail", "1", "main"])?;
    ensure!(logged.starts_with("tick "), "{logged}");
    d.says(&["rm", "main"])?;
    poll_until("end of all shims", LONG, || d.fixture.shims().is_empty().then_some(()))
}

pub(crate) fn paused_container_stands_still(d: &mut Docker) -> Result<()> {
    d.detached("main", &[], &["count"])?;
    d.prints("main", "tick 2\n")?;
    d.says(&["pause", "main"])?;
    ensure!(d.state("main")?.status == "paused");
    let cpu = |d: &Docker| -> Result<Duration> { proc::cpu_time(d.state("main")?.pid) };
    // What was on its way arrives.
    let last = settled(d)?;
    let before = cpu(d)?;
    let refused = d.exec(&[], "main", &["echo"]).run()?.refused()?;
    ensure!(refused.contains("is paused"), "{refused}");
    let used = cpu(d)?.saturating_sub(before);
    ensure!(used < Duration::from_millis(100), "it computes: {used:?}");
    ensure!(settled(d)? == last);
    d.says(&["unpause", "main"])?;
    d.prints("main", &format!("tick {}\n", last + 2))?;
    Ok(())
}

/// The last tick, once two looks in a row see the same.
fn settled(d: &Docker) -> Result<u64> {
    let mut last = last_tick(d)?;
    for _ in 0..20 {
        let now = last_tick(d)?;
        if now == last {
            return Ok(now);
        }
        last = now;
    }
    anyhow::bail!("it ticks on: {last}")
}

pub(crate) fn on_failure_starts_it_again_so_often(d: &mut Docker) -> Result<()> {
    d.detached("fails", &["--restart", "on-failure:2"], &["exit", "3"])?;
    d.detached("works", &["--restart", "on-failure:2"], &["exit", "0"])?;
    let failed =
        d.becomes("fails", "given up", |state| state.status == "exited" && state.restarts == 2)?;
    ensure!(failed.exit_code == 3, "{failed:?}");
    let worked = d.becomes("works", "ended", |state| state.status == "exited")?;
    ensure!((worked.restarts, worked.exit_code) == (0, 0), "{worked:?}");
    Ok(())
}

pub(crate) fn always_starts_it_again_after_its_process_was_killed(d: &mut Docker) -> Result<()> {
    starts_again_after(d, kill)
}

/// Ends the OS process that Docker knows.
pub(crate) fn kill(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid)?).context("no pid")?;
    kill_process(pid, Signal::KILL).context("kill")
}

pub(crate) fn always_starts_it_again_after_its_shim_was_killed(d: &mut Docker) -> Result<()> {
    starts_again_after(d, proc::kill9)
}

/// A stop of the daemon or of the shim, as at the shutdown of a node.
pub(crate) fn stopped_host_gives_the_programs_own_status(d: &mut Docker) -> Result<()> {
    d.detached("main", &[], &["sleep", "100"])?;
    let servers: BTreeSet<_> = d.fixture.shims().iter().map(|shim| shim.pid).collect();
    ensure!(!servers.is_empty(), "no server");
    for server in servers {
        let server = Pid::from_raw(i32::try_from(server)?).context("no pid")?;
        kill_process(server, Signal::TERM)?;
    }
    let ended = d.becomes("main", "ended", |state| state.status == "exited")?;
    ensure!((ended.exit_code, ended.oom_killed) == (143, false), "{ended:?}");
    d.says(&["rm", "main"])?;
    if d.runtime.needs_daemon() {
        let daemon = d.fixture.daemon()?;
        ensure!(daemon.ends(LONG)? == 0);
        daemon.start_again()?;
    }
    d.run(&[], &["exit", "3"]).run()?.status_is(3)?;
    Ok(())
}

fn starts_again_after(d: &Docker, kill: impl FnOnce(u32) -> Result<()>) -> Result<()> {
    d.detached("main", &["--restart", "always"], &["sleep", "100"])?;
    let first = d.state("main")?;
    kill(first.pid)?;
    let again = d.becomes("main", "running again", |state| {
        state.status == "running" && state.pid != first.pid && state.restarts > 0
    })?;
    ensure!(proc::alive(again.pid), "{again:?}");
    d.exec(&[], "main", &["echo"]).run()?.ok()?;
    // A stop by hand is no failure.
    d.says(&["stop", "-t", "1", "main"])?;
    let stopped = d.state("main")?;
    ensure!(stopped.status == "exited", "{stopped:?}");
    Ok(())
}

pub(crate) fn containers_outlive_their_docker(d: &mut Docker) -> Result<()> {
    d.detached("main", &[], &["count"])?;
    d.prints("main", "tick 2\n")?;
    let before = d.state("main")?;
    d.stop()?;
    d.start_again()?;
    ensure!(d.state("main")? == before, "{:?}", d.state("main")?);
    d.kill9()?;
    d.start_again()?;
    ensure!(d.state("main")? == before, "{:?}", d.state("main")?);
    let out = d.exec(&[], "main", &["echo", "still"]).run()?.ok()?.out();
    ensure!(out == "still\n", "{out}");
    let last = last_tick(d)?;
    d.prints("main", &format!("tick {}\n", last + 2))?;
    d.says(&["kill", "main"])?;
    ensure!(d.state("main")?.exit_code == 137);
    Ok(())
}

fn last_tick(d: &Docker) -> Result<u64> {
    let line = d.says(&["logs", "--tail", "1", "main"])?;
    line.trim_start_matches("tick ").parse().with_context(|| line.clone())
}
