//! `ctr task pause` and `resume`; the cases are listed in `main.rs`. runc cannot be the control here: it freezes by cgroup,
//! which a container's place in the hierarchy may not allow.

use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::events::Events;
use runwasi_tests::proc::cpu_nanos;
use runwasi_tests::ticks::Ticks;
use runwasi_tests::{Containers, Meter, poll_until};

const SOON: Duration = Duration::from_secs(10);

/// A look at a process's CPU time that nothing but the passing of time can spoil.
const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn paused_task_is_listed_computes_nothing_and_goes_on(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    let pid = c.is_running(&id)?.pid;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    c.becomes(&id, "PAUSED")?;
    let before = cpu_nanos(pid)?;
    wait(QUIET);
    let used = Duration::from_nanos(cpu_nanos(pid)? - before);
    // The shim itself may still answer a call; a spinner would have used 300 ms.
    ensure!(used <= Duration::from_millis(30), "{used:?} while paused");
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    c.becomes(&id, "RUNNING")?;
    let target = cpu_nanos(pid)? + 100_000_000;
    poll_until("the guest to go on", Duration::from_secs(20), || {
        cpu_nanos(pid).ok().filter(|used| *used >= target)
    })?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn paused_task_can_be_killed(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    c.is_running(&id)?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

/// Of so many pauses, so many may be spoilt by a machine that gives its CPUs to others for longer than the pause may take.
const PAUSES: usize = 20;
const SPOILT: usize = 2;

/// Each pause by a call of its own: `ctr`'s own start would hide the time.
pub(crate) fn paused_spinner_stops_within_twenty_milliseconds(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    let pid = c.is_running(&id)?.pid;
    let meter = Meter::of(c, &id)?;
    let mut late = Vec::new();
    for round in 0..PAUSES {
        meter.pause()?;
        wait(Duration::from_millis(20));
        let before = cpu_nanos(pid)?;
        wait(Duration::from_millis(50));
        let used = Duration::from_nanos(cpu_nanos(pid)? - before);
        if used >= Duration::from_millis(3) {
            late.push(format!("round {round}: {used:?} of 50 ms although paused for 20"));
        }
        meter.resume()?;
        let target = cpu_nanos(pid)? + 10_000_000;
        poll_until("the guest to go on", SOON, || {
            cpu_nanos(pid).ok().filter(|used| *used >= target)
        })?;
    }
    ensure!(late.len() <= SPOILT, "{late:#?}");
    drop(meter);
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn paused_guest_goes_on_where_it_was(c: &mut Containers) -> Result<()> {
    stops_and_goes_on(c, "count")
}

pub(crate) fn paused_sleeper_does_not_do_its_timers_work(c: &mut Containers) -> Result<()> {
    stops_and_goes_on(c, "daemon")
}

/// The guest prints ticks: none while it is paused, and none is missing or doubled after it.
fn stops_and_goes_on(c: &mut Containers, guest: &str) -> Result<()> {
    let id = c.id(guest);
    c.detached(&id, &[guest])?;
    let mut ticks = Ticks::of(&id)?;
    ticks.go_on()?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    ticks.drain();
    let heard = ticks.count();
    // More than twice what a tick of either guest takes.
    wait(Duration::from_millis(2500));
    ticks.drain();
    ensure!(ticks.count() == heard, "{} ticks while paused", ticks.count() - heard);
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    ticks.go_on()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    drop(ticks);
    c.fixture.becomes_clean()
}

pub(crate) fn pause_and_resume_are_told_as_events(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("told");
    c.detached(&id, &["spin"])?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    let seen = events.until_delete(&id)?;
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    ensure!(topics == ["create", "start", "paused", "resumed", "exit", "delete"], "{topics:?}");
    Ok(())
}

pub(crate) fn pausing_what_does_not_run_is_an_error(c: &mut Containers) -> Result<()> {
    let id = c.id("idle");
    c.detached(&id, &["exit", "0"])?;
    c.becomes(&id, "STOPPED")?;
    let said = c.fixture.ctr(["task", "pause", &id])?.refused()?;
    ensure!(said.contains("cannot pause a process that is stopped"), "{said}");
    let said = c.fixture.ctr(["task", "resume", &id])?.refused()?;
    ensure!(said.contains("cannot resume a process that is stopped"), "{said}");
    ensure!(c.finish(&id)? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn paused_task_can_be_deleted_by_force(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    ensure!(c.delete_task_by_force(&id)? == 137);
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

/// Lets time pass: nothing can be polled for, since nothing is to happen.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}
