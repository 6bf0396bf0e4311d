//! What `ctr events` prints for a container; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, Running, poll_until};
use serde_json::Value;

pub(crate) fn run_gives_create_start_exit_delete(c: &mut Containers) -> Result<()> {
    let events = listen(c)?;
    let id = c.id("told");
    c.run(&id, &["exit", "7"])?.status_is(7)?;
    let seen = until_delete(events, &id)?;
    in_order(&seen)?;
    let exit = &seen[2].1;
    ensure!(exit["exit_status"] == 7 && exit["id"] == id.as_str(), "{exit}");
    ensure!(exit["exited_at"].is_string(), "{exit}");
    let pids: Vec<_> = seen.iter().map(|(_, event)| &event["pid"]).collect();
    ensure!(pids.iter().all(|pid| *pid == pids[0] && pid.as_u64() > Some(0)), "{pids:?}");
    Ok(())
}

pub(crate) fn killed_container_gives_one_exit(c: &mut Containers) -> Result<()> {
    let events = listen(c)?;
    let id = c.id("shot");
    c.detached(&id, &["sleep", "100"])?;
    c.kill(&id, "SIGKILL")?;
    // A second kill may find it running or ended; neither may give a second exit.
    c.bed.ctr(["task", "kill", "-s", "SIGKILL", &id])?;
    ensure!(c.finish(&id)? == 137);
    let seen = until_delete(events, &id)?;
    in_order(&seen)?;
    ensure!(seen[2].1["exit_status"] == 137, "{:?}", seen[2]);
    Ok(())
}

/// Starts `ctr events` and waits until it really hears.
pub(crate) fn listen(c: &Containers) -> Result<Running> {
    let events = c.bed.ctr_command(["events"]).spawn()?;
    let mut n = 0;
    // It says nothing when it is ready: make containers until one is heard of.
    poll_until("the first event", Duration::from_secs(10), || {
        n += 1;
        let id = c.id(&format!("probe{n}"));
        c.create(&id, &["exit", "0"]).and_then(|()| c.delete_container(&id)).ok()?;
        events.stdout_so_far().contains("/containers/").then_some(())
    })?;
    Ok(events)
}

/// The task events of `id` in the order containerd had them, up to `delete` and a moment longer.
pub(crate) fn until_delete(events: Running, id: &str) -> Result<Vec<(String, Value)>> {
    poll_until("/tasks/delete", Duration::from_secs(10), || {
        tasks(&events.stdout_so_far(), id).iter().any(|(topic, _)| topic == "delete").then_some(())
    })
    .with_context(|| events.stdout_so_far())?;
    Ok(tasks(&events.kill()?.out(), id))
}

/// Lines of `ctr events` read `DATE TIME ZONE … NAMESPACE TOPIC JSON`.
fn tasks(text: &str, id: &str) -> Vec<(String, Value)> {
    let parse = |line: &str| {
        let (_, rest) = line.split_once(" /tasks/")?;
        let (topic, json) = rest.split_once(' ')?;
        let event: Value = serde_json::from_str(json).ok()?;
        (event["container_id"] == id).then(|| (topic.to_owned(), event))
    };
    text.lines().filter_map(parse).collect()
}

pub(crate) fn in_order(seen: &[(String, Value)]) -> Result<()> {
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    ensure!(topics == ["create", "start", "exit", "delete"], "{topics:?}");
    Ok(())
}
