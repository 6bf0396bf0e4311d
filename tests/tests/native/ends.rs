//! Native containers whose shim, or whose native runtime, ends before them; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::events::{Events, in_order};
use runwasi_tests::{Containerd, Containers, Runtime, check_with, poll_until, proc};
use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_secs(20);

/// A daemon that leaves its containers two seconds between SIGTERM and SIGKILL, as shims per pod do.
#[track_caller]
pub(crate) fn check_with_short_grace(
    runtime: Runtime,
    case: impl FnOnce(&mut Containers) -> Result<()>,
) {
    let fixture = match runtime.needs_daemon() {
        true => Containerd::builder().daemon(Settings::default().flags(["--grace", "4"])),
        false => Containerd::builder(),
    };
    check_with(runtime, fixture, case);
}

/// Pid of the one native runtime.
pub(crate) fn delegate(c: &Containers) -> Result<u32> {
    let all = c.fixture.delegates();
    ensure!(all.len() == 1, "one native runtime: {all:?}");
    Ok(all[0].pid)
}

fn gone(pid: u32) -> Result<()> {
    poll_until(&format!("the end of {pid}"), SOON, || (!proc::alive(pid)).then_some(()))
}

pub(crate) fn killed_native_runtime_is_seen_as_exit_137_of_its_containers(
    c: &mut Containers,
) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("orphan");
    c.detached(&id, &["sleep", "100"])?;
    let pid = c.is_running(&id)?.pid;
    let exec = c.exec_command(&[], &id, "e1", &["/wasmtest", "sleep", "100"]).spawn()?;
    poll_until("the exec", SOON, || {
        c.fixture.ctr(["task", "ps", &id]).ok()?.out().contains("e1").then_some(())
    })?;
    proc::kill9(delegate(c)?)?;
    exec.wait()?.status_is(137)?;
    c.becomes(&id, "STOPPED")?;
    gone(pid)?;
    ensure!(c.finish(&id)? == 137);
    let mut seen = events.until_delete(&id)?;
    let of_exec = |topic: &str, id: &serde_json::Value| topic.starts_with("exec") || id == "e1";
    let exits = seen.iter().filter(|(topic, event)| topic == "exit" && event["id"] == "e1");
    ensure!(exits.count() == 1, "{seen:?}");
    seen.retain(|(topic, event)| !of_exec(topic, &event["id"]));
    in_order(&seen)?;
    ensure!(seen[2].1["exit_status"] == 137, "{:?}", seen[2]);
    c.fixture.becomes_clean()
}

pub(crate) fn container_runs_after_the_native_runtime_was_killed(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let (sandbox, first, second) = (c.id("sandbox"), c.id("first"), c.id("second"));
    c.join(&pod, "sandbox", &sandbox, &["sleep", "100"])?;
    c.join(&pod, "container", &first, &["sleep", "100"])?;
    proc::kill9(delegate(c)?)?;
    c.becomes(&first, "STOPPED")?;
    c.is_running(&sandbox)?;
    // The first is not deleted yet.
    c.join(&pod, "container", &second, &["sleep", "100"])?;
    let pid = delegate(c)?;
    ensure!(c.finish(&first)? == 137);
    c.is_running(&second)?;
    ensure!(delegate(c)? == pid);
    ensure!(c.kill_and_finish(&second)? == 137);
    gone(pid)?;
    ensure!(c.kill_and_finish(&sandbox)? == 137);
    c.fixture.becomes_clean()
}

fn kill_server(c: &mut Containers) -> Result<()> {
    match c.runtime.needs_daemon() {
        true => c.fixture.daemon()?.kill9(),
        false => proc::kill9(c.fixture.shims().first().context("a shim")?.pid),
    }
}

fn is_cleared_after_the_end_of_the_server(c: &mut Containers, id: &str) -> Result<()> {
    c.becomes_stopped_or_gone(id)?;
    // An error: containerd has forgotten the task already.
    let _ = c.fixture.ctr(["task", "delete", id]);
    c.delete_container(id)?;
    c.restart_daemon()?;
    c.fixture.becomes_clean()
}

/// containerd publishes the exit after its `delete`. The native runtime, which lives, is to publish none.
pub(crate) fn native_container_of_a_killed_server_exits_once(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("once");
    c.detached(&id, &["sleep", "100"])?;
    let (pid, runtime) = (c.is_running(&id)?.pid, delegate(c)?);
    kill_server(c)?;
    gone(pid)?;
    gone(runtime)?;
    let seen = events.until_delete(&id)?;
    in_order(&seen)?;
    ensure!(seen[2].1["exit_status"] == 137, "{:?}", seen[2]);
    is_cleared_after_the_end_of_the_server(c, &id)
}

/// containerd publishes another exit in any case, which is to repeat the first.
pub(crate) fn exit_of_a_native_container_outlives_its_server(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("ended");
    c.detached(&id, &["exit", "3"])?;
    c.becomes(&id, "STOPPED")?;
    let runtime = delegate(c)?;
    kill_server(c)?;
    gone(runtime)?;
    let seen = events.until_delete(&id)?;
    let mut exits = seen.iter().filter(|(topic, _)| topic == "exit");
    ensure!(exits.all(|(_, event)| event["exit_status"] == 3), "{seen:?}");
    is_cleared_after_the_end_of_the_server(c, &id)
}

pub(crate) fn killed_shim_and_native_runtime_leave_nothing(c: &mut Containers) -> Result<()> {
    let id = c.id("both");
    c.detached(&id, &["sleep", "100"])?;
    let pid = c.is_running(&id)?.pid;
    let server = c.fixture.shims().first().context("a shim")?.pid;
    let delegate = delegate(c)?;
    // Stopped first: neither sees the other's end.
    let signal = |pid: u32, signal| -> Result<()> {
        let pid = Pid::from_raw(pid.cast_signed()).context("a pid")?;
        Ok(kill_process(pid, signal)?)
    };
    signal(server, Signal::STOP)?;
    signal(delegate, Signal::KILL)?;
    signal(server, Signal::KILL)?;
    c.becomes_stopped_or_gone(&id)?;
    gone(pid)?;
    c.fixture.ctr(["task", "delete", &id])?;
    c.delete_container(&id)?;
    c.restart_daemon()?;
    c.fixture.becomes_clean()
}

pub(crate) fn stopped_server_ends_its_native_containers(c: &mut Containers) -> Result<()> {
    let id = c.id("stopped");
    // The first process of a pid namespace ignores SIGTERM without a handler: SIGKILL follows.
    c.detached(&id, &["sleep", "100"])?;
    let pid = c.is_running(&id)?.pid;
    match c.runtime.needs_daemon() {
        true => ensure!(c.fixture.daemon()?.terminate()? == 0),
        false => {
            let server = c.fixture.shims().first().context("a shim")?.pid;
            kill_process(Pid::from_raw(server.cast_signed()).context("a pid")?, Signal::TERM)?;
        }
    }
    gone(pid)?;
    c.becomes_stopped_or_gone(&id)?;
    c.fixture.ctr(["task", "delete", &id])?;
    c.delete_container(&id)?;
    c.restart_daemon()?;
    c.fixture.becomes_clean()
}
