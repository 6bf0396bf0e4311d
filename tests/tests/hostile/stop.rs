//! Stops of a daemon or shim: containerd learns the guests' own status, once. The cases are listed
//! in `main.rs`.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{StateRequest, StateResponse, Status, WaitRequest, WaitResponse};
use runwasi_tests::daemon::Settings;
use runwasi_tests::events::{Events, Seen};
use runwasi_tests::hostile::hung::Hung;
use runwasi_tests::server::{APP, serve};
use runwasi_tests::shim::{LIMIT, TaskClient, reason};
use runwasi_tests::{
    Containerd, Containers, Runtime, check_alone_with, check_with, poll_until, proc,
};
use rustix::process::{Pid, Signal, kill_process};

/// Grace of the daemons, so long that a stop that waits for it is told from one that does not.
const GRACE: &str = "40";
const SOON: Duration = Duration::from_secs(20);

fn sigterm(pid: u32) -> Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("no pid")?;
    Ok(kill_process(pid, Signal::TERM)?)
}

/// Runs a case with a daemon of this grace, or with shims, whose grace is 4 s: they have the machine
/// to themselves.
#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut Containers) -> Result<()>) {
    let builder = Containerd::builder();
    if runtime.needs_daemon() {
        let settings = Settings::default().flags(["--grace", GRACE]);
        check_with(runtime, builder.daemon(settings), case);
    } else {
        check_alone_with(runtime, builder, case);
    }
}

/// Sends SIGTERM to the daemon, or to all shims. Gives their pids.
fn stop(c: &mut Containers) -> Result<Vec<u32>> {
    let pids = match c.fixture.daemon() {
        Ok(daemon) => vec![daemon.pid()?],
        Err(_) => c.fixture.shims().iter().map(|shim| shim.pid).collect(),
    };
    ensure!(!pids.is_empty(), "no server to stop");
    pids.iter().try_for_each(|pid| sigterm(*pid))?;
    Ok(pids)
}

/// Waits for the ends of stopped servers.
fn ends(c: &mut Containers, pids: &[u32]) -> Result<()> {
    if let Ok(daemon) = c.fixture.daemon() {
        ensure!(daemon.ends(SOON)? == 0);
    }
    let gone = || pids.iter().all(|pid| !proc::alive(*pid)).then_some(());
    poll_until("end of the servers", SOON, gone)
}

/// A client as Kubernetes: a `Wait` is pending when the task ends. Gives the status of its answer.
fn waits(c: &Containers, id: &str) -> Result<JoinHandle<Result<u32>>> {
    let client = c.client(id)?;
    let mut request = WaitRequest::new();
    request.id = id.to_owned();
    Ok(thread::spawn(move || {
        Ok(client.call::<WaitResponse>("Wait", &request, 2 * SOON)?.exit_status)
    }))
}

/// A client as Docker: asks for the state when it hears of the exit, and has no `Wait`.
fn asks_for_state(client: &TaskClient, id: &str) -> Result<u32> {
    let mut request = StateRequest::new();
    request.id = id.to_owned();
    poll_until("a stopped task", SOON, || {
        let state: StateResponse = client.call("State", &request, LIMIT).ok()?;
        (state.status == Status::STOPPED.into()).then_some(state.exit_status)
    })
}

/// The status in an event. `ctr` leaves a 0 out.
fn status_of(event: &serde_json::Value) -> u64 {
    event["exit_status"].as_u64().unwrap_or_default()
}

/// Demands one exit event of a container, with this status.
fn exits_once(events: &Events, id: &str, status: u32) -> Result<()> {
    let seen = events.until("delete", id)?;
    let exits: Vec<_> = seen.iter().filter(|(topic, _)| topic == "exit").collect();
    ensure!(exits.len() == 1, "{} exits of {id}: {exits:?}", exits.len());
    ensure!(status_of(&exits[0].1) == u64::from(status), "{exits:?}");
    Ok(())
}

/// Deletes a task that has ended during the stop.
fn deletes(c: &Containers, id: &str, status: i32) -> Result<()> {
    let deleted = c.delete_task(id)?;
    ensure!(deleted == status, "deleted with {deleted} instead of {status}");
    Ok(())
}

pub(crate) fn stop_tells_the_guests_own_status_once(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let [spinning, serving, attached] = ["spins", "serves", "attached"].map(|name| c.id(name));
    c.detached(&spinning, &["spin"])?;
    let waiting = waits(c, &spinning)?;
    // SIGTERM drains it, and it returns 0.
    serve(c, &[], &serving, APP)?;
    let docker = c.client(&serving)?;
    let ctr = c.run_command(&["--rm"], &attached, &["sleep", "100"]).spawn()?;
    poll_until("a running task", SOON, || c.is_running(&attached).ok())?;
    let begin = Instant::now();
    let pids = stop(c)?;
    ensure!(asks_for_state(&docker, &serving)? == 0);
    deletes(c, &serving, 0)?;
    ensure!(waiting.join().map_err(|_| anyhow::anyhow!("panic"))?? == 143);
    deletes(c, &spinning, 143)?;
    ctr.wait()?.status_is(143)?;
    for (id, status) in [(&serving, 0), (&spinning, 143), (&attached, 143)] {
        exits_once(&events, id, status)?;
    }
    c.delete_container(&serving)?;
    c.delete_container(&spinning)?;
    ends(c, &pids)?;
    // With a task that is not deleted it would be three quarters of the daemon's grace.
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(20), "{took:?} although all tasks were deleted");
    c.fixture.becomes_clean()
}

/// The task of `ctr run --detach`, which no client deletes.
pub(crate) fn stop_is_quick_without_a_client_and_delete_repeats_the_status(
    c: &mut Containers,
) -> Result<()> {
    let events = Events::listen(c)?;
    let [spinning, serving] = ["spins", "serves"].map(|name| c.id(name));
    c.detached(&spinning, &["spin"])?;
    serve(c, &[], &serving, APP)?;
    let begin = Instant::now();
    let pids = stop(c)?;
    ends(c, &pids)?;
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(15), "{took:?} without a client");
    for (id, status) in [(&spinning, 143), (&serving, 0)] {
        // containerd publishes the exit of a task whose shim has gone once more, as in the answer
        // of `delete`.
        let seen = events.until("delete", id)?;
        let exits: Vec<_> = seen.iter().filter(|(topic, _)| topic != "create").collect();
        ensure!(exits.iter().any(|(topic, _)| topic == "exit"), "{exits:?}");
        for (topic, event) in exits.iter().filter(|(topic, _)| topic != "start") {
            ensure!(status_of(event) == status, "{topic} of {id}: {event}");
            ensure!(event["exited_at"] == exits_at(&seen), "{topic} of {id}: {exits:?}");
        }
        c.is_taken_away(id)?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn stop_tells_guests_that_wait_in_the_kernel(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let hung = Hung::mount(&c.fixture.dir().join("hung"))?;
    let source = c.fixture.dir().join("hung");
    let mount = format!("type=bind,src={},dst=/v,options=bind", source.display());
    let id = c.id("reads");
    c.detached_with(&["--mount", &mount], &id, &["cat", "/v/f"])?;
    poll_until("a read", SOON, || (hung.calls() > 0).then_some(()))?;
    let waiting = waits(c, &id)?;
    let begin = Instant::now();
    let pids = stop(c)?;
    ensure!(waiting.join().map_err(|_| anyhow::anyhow!("panic"))?? == 143);
    let took = begin.elapsed();
    ensure!(took < Duration::from_secs(10), "the exit was told after {took:?}");
    deletes(c, &id, 143)?;
    exits_once(&events, &id, 143)?;
    c.delete_container(&id)?;
    // The kernel keeps the process of the server until the file system answers.
    drop(hung);
    ends(c, &pids)?;
    c.fixture.becomes_clean()
}

/// The time in the first exit event.
fn exits_at(seen: &Seen) -> serde_json::Value {
    let exit = seen.iter().find(|(topic, _)| topic == "exit");
    exit.map(|(_, event)| event["exited_at"].clone()).unwrap_or_default()
}

pub(crate) fn stopping_sandbox_takes_no_container(c: &mut Containers) -> Result<()> {
    let [pod, first] = ["pod", "first"].map(|name| c.id(name));
    c.join(&pod, "sandbox", &first, &["spin"])?;
    let waiting = waits(c, &first)?;
    let client = c.client(&first)?;
    let pids = stop(c)?;
    ensure!(waiting.join().map_err(|_| anyhow::anyhow!("panic"))?? == 143);
    // By a connection that is there until the task is deleted.
    let bundle = c.fixture.bundle(&first);
    let refusal = match client.create("late", &bundle, &[]) {
        Ok(_) => anyhow::bail!("created"),
        Err(error) => reason(&error),
    };
    ensure!(refusal.contains("late") && refusal.contains("is being stopped"), "{refusal}");
    ensure!(c.finish(&first)? == 143);
    ends(c, &pids)?;
    c.fixture.becomes_clean()
}
