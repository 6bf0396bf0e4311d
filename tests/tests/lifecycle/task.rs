//! `ctr task ls/start/delete/attach/ps`: the states of a task; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, poll_until, proc};

pub(crate) fn detached_task_is_running_with_a_pid(c: &mut Containers) -> Result<()> {
    let id = c.id("bg");
    c.detached(&id, &["sleep", "100"])?;
    let task = c.is_running(&id)?;
    ensure!(proc::alive(task.pid), "{task:?} is no OS process");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn ended_task_is_stopped_until_deleted(c: &mut Containers) -> Result<()> {
    let id = c.id("end");
    c.detached(&id, &["exit", "0"])?;
    c.becomes(&id, "STOPPED")?;
    ensure!(c.delete_task(&id)? == 0);
    ensure!(c.task(&id)?.is_none());
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn delete_gives_the_exit_status(c: &mut Containers) -> Result<()> {
    for code in [1, 42, 255] {
        let id = c.id(&format!("exit{code}"));
        c.detached(&id, &["exit", &code.to_string()])?;
        let status = c.finish(&id)?;
        ensure!(status == code, "{status} instead of {code}");
    }
    Ok(())
}

pub(crate) fn delete_while_running_is_denied(c: &mut Containers) -> Result<()> {
    let id = c.id("run");
    c.detached(&id, &["sleep", "100"])?;
    let said = c.fixture.ctr(["task", "delete", &id])?.refused()?;
    ensure!(said.contains("task must be stopped"), "{said}");
    let said = c.fixture.ctr(["container", "delete", &id])?.refused()?;
    ensure!(said.contains("non stopped container"), "{said}");
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    Ok(())
}

pub(crate) fn forced_delete_ends_a_running_task(c: &mut Containers) -> Result<()> {
    let id = c.id("force");
    c.detached(&id, &["sleep", "100"])?;
    ensure!(c.delete_task_by_force(&id)? == 137);
    ensure!(c.task(&id)?.is_none());
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn created_container_starts_once(c: &mut Containers) -> Result<()> {
    let id = c.id("made");
    c.create(&id, &["sleep", "100"])?;
    ensure!(c.task(&id)?.is_none(), "a created container has no task yet");
    c.fixture.ctr(["task", "start", "-d", &id])?.ok()?;
    let first = c.is_running(&id)?;
    let said = c.fixture.ctr(["task", "start", "-d", &id])?.refused()?;
    ensure!(said.contains("already exists"), "{said}");
    ensure!(c.is_running(&id)? == first, "the second start disturbed the first");
    c.kill(&id, "SIGKILL")?;
    c.becomes(&id, "STOPPED")?;
    let said = c.fixture.ctr(["task", "start", "-d", &id])?.refused()?;
    ensure!(said.contains("already exists"), "a stopped task is no new one: {said}");
    ensure!(c.delete_task(&id)? == 137);
    // With the task gone the container may get a new one.
    c.fixture.ctr(["task", "start", "-d", &id])?.ok()?;
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn attach_gets_later_output_and_the_exit_status(c: &mut Containers) -> Result<()> {
    let id = c.id("tick");
    c.detached(&id, &["daemon"])?;
    let attached = c.fixture.ctr_command(["task", "attach", &id]).spawn()?;
    // Two lines, as the first may have been waiting in the FIFO.
    poll_until("two ticks", Duration::from_secs(20), || {
        (attached.stdout_so_far().matches("tick").count() >= 2).then_some(())
    })?;
    c.kill(&id, "SIGKILL")?;
    attached.wait()?.status_is(137)?;
    // attach deletes the task it was attached to.
    ensure!(c.task(&id)?.is_none());
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn ps_names_a_process(c: &mut Containers) -> Result<()> {
    let id = c.id("ps");
    c.detached(&id, &["sleep", "100"])?;
    let pid = c.is_running(&id)?.pid.to_string();
    let list = c.fixture.ctr(["task", "ps", &id])?.ok()?;
    let pids: Vec<_> = list
        .out()
        .lines()
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    ensure!(pids.contains(&pid), "{list}");
    ensure!(c.kill_and_finish(&id)? == 137);
    Ok(())
}

pub(crate) fn calls_for_an_unknown_container_fail(c: &mut Containers) -> Result<()> {
    let id = c.id("nobody");
    for call in ["attach", "delete", "kill", "ps", "start", "pause", "resume"] {
        let said = c.fixture.ctr(["task", call, &id])?.refused()?;
        ensure!(said.contains(&id) && said.contains("not found"), "{call}: {said}");
    }
    // The container is there, its task is not.
    c.create(&id, &["exit", "0"])?;
    for call in ["attach", "delete", "kill"] {
        let said = c.fixture.ctr(["task", call, &id])?.refused()?;
        ensure!(said.contains("not found"), "{call}: {said}");
    }
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}
