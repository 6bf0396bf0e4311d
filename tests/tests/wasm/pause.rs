//! `ctr task pause` and `resume`; the cases are listed in `main.rs`. runc cannot be the control here: it freezes by cgroup,
//! which a container's place in the hierarchy may not allow.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Containers, poll_until};

/// A look at a process's CPU time that nothing but the passing of time can spoil.
const QUIET: Duration = Duration::from_millis(300);

pub(crate) fn paused_task_is_listed_computes_nothing_and_goes_on(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    let pid = c.is_running(&id)?.pid;
    c.bed.ctr(["task", "pause", &id])?.ok()?;
    c.becomes(&id, "PAUSED")?;
    let before = cpu_ticks(pid)?;
    wait(QUIET);
    let used = cpu_ticks(pid)? - before;
    // The shim itself may still answer a call; a spinner would have used 30 ticks of 10 ms.
    ensure!(used <= 5, "{used} ticks while paused");
    c.bed.ctr(["task", "resume", &id])?.ok()?;
    c.becomes(&id, "RUNNING")?;
    let target = cpu_ticks(pid)? + 10;
    poll_until("the guest to go on", Duration::from_secs(10), || cpu_ticks(pid).ok().filter(|ticks| *ticks >= target))?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn paused_task_can_be_killed(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    c.is_running(&id)?;
    c.bed.ctr(["task", "pause", &id])?.ok()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

/// User and system time of an OS process, in clock ticks (`proc(5)`, fields 14 and 15).
fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(") ").context("a line of /proc/PID/stat")?.1;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
    ticks.sum::<Result<u64, _>>().context("CPU times in /proc/PID/stat")
}

/// Lets time pass: nothing can be polled for, since nothing is to happen.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}
