//! Shims and containerds that die or restart under a container; the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::events::{Events, in_order};
use runwasi_tests::{Command, Containers, poll_until, proc};

pub(crate) fn killed_shim_is_seen_as_exit_137(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("orphan");
    c.detached(&id, &["sleep", "100"])?;
    // Events are delivered one after the other, after the answers.
    events.until("start", &id)?;
    kill_shim(c)?;
    // containerd runs the shim's `delete`, publishes what that prints, and drops the task by itself.
    let seen = events.until_delete(&id)?;
    in_order(&seen)?;
    ensure!(seen[2].1["exit_status"] == 137, "{:?}", seen[2]);
    c.becomes_stopped_or_gone(&id)?;
    c.delete_container(&id)?;
    if !c.runtime.removes_socket_of_killed_shim() {
        fs::remove_file(c.fixture.socket(&id))?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn id_of_a_killed_shim_can_be_used_again(c: &mut Containers) -> Result<()> {
    let id = c.id("again");
    c.detached(&id, &["spin"])?;
    kill_shim(c)?;
    // The task may be gone already: containerd cleans up after a dead shim by itself, and for a moment
    // neither shows the task nor takes its id again.
    c.is_taken_away(&id)?;
    c.restart_daemon()?;
    let out = poll_until("a free id", Duration::from_secs(20), || {
        match c.run(&id, &["echo", "anew"]) {
            Ok(out) if out.err().contains("already exists") => None,
            other => Some(other),
        }
    })??
    .ok()?;
    ensure!(out.out() == "anew\n", "{out}");
    c.fixture.becomes_clean()
}

/// What was written is there, and the kernel does not take the root file system for one of a crashed machine.
pub(crate) fn container_of_a_killed_shim_can_be_started_again(c: &mut Containers) -> Result<()> {
    let id = c.id("restarted");
    c.detached(&id, &["write", "/kept", "text"])?;
    c.becomes(&id, "STOPPED")?;
    kill_shim(c)?;
    c.becomes_stopped_or_gone(&id)?;
    c.fixture.ctr(["task", "delete", &id])?;
    let found = |what: &str| -> Result<String> {
        Ok(Command::new("find").args([c.fixture.dir()]).args(["-path", what]).run()?.ok()?.out())
    };
    let kept = found("*/fs/kept")?;
    ensure!(fs::read_to_string(kept.trim())? == "text");
    ensure!(found("*/work/incompat/volatile")?.is_empty(), "a marker of the kernel");
    c.restart_daemon()?;
    // containerd does not show the task any more, and may still be cleaning up after the shim.
    poll_until("a free id", Duration::from_secs(20), || {
        match c.fixture.ctr(["task", "start", "-d", &id]) {
            Ok(out) if out.err().contains("exists") => None,
            other => Some(other),
        }
    })??
    .ok()?;
    ensure!(c.finish(&id)? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn restarted_containerd_still_knows_a_running_task(c: &mut Containers) -> Result<()> {
    let id = c.id("stay");
    c.detached(&id, &["sleep", "100"])?;
    let before = c.is_running(&id)?;
    c.fixture.stop()?;
    c.fixture.start_again()?;
    still_manageable(c, &id, before.pid)
}

pub(crate) fn killed_containerd_still_knows_a_running_task(c: &mut Containers) -> Result<()> {
    let id = c.id("stay");
    c.detached(&id, &["sleep", "100"])?;
    let before = c.is_running(&id)?;
    c.fixture.kill9()?;
    c.fixture.start_again()?;
    still_manageable(c, &id, before.pid)
}

pub(crate) fn restarted_containerd_still_knows_an_exit_status(c: &mut Containers) -> Result<()> {
    let id = c.id("kept");
    c.detached(&id, &["exit", "42"])?;
    c.becomes(&id, "STOPPED")?;
    c.fixture.stop()?;
    c.fixture.start_again()?;
    c.becomes(&id, "STOPPED")?;
    ensure!(c.finish(&id)? == 42);
    c.fixture.becomes_clean()
}

pub(crate) fn task_that_ends_without_containerd_keeps_its_exit_status(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("alone");
    c.detached(&id, &["sleep", "3"])?;
    c.is_running(&id)?;
    let shim = the_shim(c)?;
    c.fixture.stop()?;
    // It sleeps three seconds, so it ends with nobody to tell; the shim has to stay for the one that asks later.
    let stays = std::time::Instant::now();
    poll_until("the guest's end", Duration::from_secs(20), || {
        (stays.elapsed().as_millis() > 3500).then_some(())
    })?;
    ensure!(the_shim(c)? == shim, "the shim left with an exit status nobody has collected");
    c.fixture.start_again()?;
    c.becomes(&id, "STOPPED")?;
    ensure!(c.finish(&id)? == 0);
    c.fixture.becomes_clean()
}

/// As after a containerd that died when the shim had answered its `Delete`, and before it could say `Shutdown`.
pub(crate) fn shim_that_nobody_shuts_down_leaves(c: &mut Containers) -> Result<()> {
    let id = c.id("deserted");
    c.detached(&id, &["sleep", "100"])?;
    let client = c.client(&id)?;
    c.fixture.kill9()?;
    client.kill(&id, 9)?;
    ensure!(client.wait(&id)?.exit_status == 137);
    client.delete(&id)?;
    poll_until("a sandbox gone", Duration::from_secs(60), || {
        c.fixture.shims().is_empty().then_some(())
    })?;
    c.fixture.start_again()?;
    c.becomes_stopped_or_gone(&id)?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

fn still_manageable(c: &Containers, id: &str, pid: u32) -> Result<()> {
    let task = c.becomes(id, "RUNNING")?;
    ensure!(task.pid == pid, "{task:?} instead of pid {pid}");
    ensure!(c.kill_and_finish(id)? == 137);
    // The restarted containerd starts new ones, too.
    let out = c.run(&c.id("new"), &["echo", "new"])?.ok()?;
    ensure!(out.out() == "new\n", "{out}");
    c.fixture.becomes_clean()
}

fn the_shim(c: &Containers) -> Result<u32> {
    let shims = c.fixture.shims();
    ensure!(shims.len() == 1, "one container, one shim: {shims:?}");
    Ok(shims[0].pid)
}

fn kill_shim(c: &Containers) -> Result<()> {
    proc::kill9(the_shim(c)?)
}
