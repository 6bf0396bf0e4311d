//! Under systemd: its unit restarts the main process alone (`KillMode=process`), and the guard is that process. These tests
//! play systemd.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Containerd, Containers, Runtime, Ticks, check_with, poll_until, proc};
use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox;

fn guarded(case: impl FnOnce(&mut Containers) -> Result<()>) {
    let settings = Settings::default().flags(["--guard"]);
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), case);
}

/// The process behind the guard.
fn host(c: &mut Containers) -> Result<u32> {
    let (daemons, guard) = (c.bed.node().daemons(), c.bed.daemon()?.pid()?);
    ensure!(daemons.len() == 1 && daemons[0] != guard, "{daemons:?} behind guard {guard}");
    Ok(daemons[0])
}

#[test]
fn restart_of_the_guard_leaves_guests_running_and_the_next_daemon_takes_over() {
    guarded(|c| {
        let (old, new) = (c.id("old"), c.id("new"));
        c.detached(&old, &["daemon"])?;
        let mut ticks = Ticks::of(&old)?;
        let first = host(c)?;
        // RestartKillSignal, to the main process only.
        c.bed.daemon()?.signal(Signal::USR2)?;
        ensure!(c.bed.daemon()?.ends(Duration::from_secs(10)).context("the guard stays")? == 0);
        ticks.go_on().context("with the guard gone")?;
        c.bed.daemon()?.start_again()?;
        ticks.go_on().context("after the restart")?;
        c.detached(&new, &["sleep", "100"])?;
        let (before, after) = (sandbox(c.bed.node(), &old)?, sandbox(c.bed.node(), &new)?);
        ensure!(before.daemon == first && after.daemon != first, "{before:?} and {after:?}");
        ensure!(c.kill_and_finish(&old)? == 137);
        poll_until("end of the old daemon", LIMIT, || (!proc::alive(first)).then_some(()))?;
        ensure!(host(c)? == after.daemon);
        ensure!(c.kill_and_finish(&new)? == 137);
        c.bed.becomes_clean()
    });
}

#[test]
fn guard_ends_with_its_daemon_so_that_systemd_starts_another() {
    guarded(|c| {
        let id = c.id("lost");
        c.detached(&id, &["sleep", "100"])?;
        let host = i32::try_from(host(c)?).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(host, Signal::KILL)?;
        let status = c.bed.daemon()?.ends(LIMIT).context("the guard stays")?;
        ensure!(status != 0, "systemd would take this for a wanted end");
        c.is_taken_away(&id)?;
        c.bed.daemon()?.start_again()?;
        let out = c.run(&c.id("new"), &["echo", "new"])?.ok()?;
        ensure!(out.out() == "new\n", "{out}");
        c.bed.becomes_clean()
    });
}

#[test]
fn sigterm_to_the_guard_drains_its_daemon() {
    guarded(|c| {
        let id = c.id("ended");
        c.detached(&id, &["sleep", "100"])?;
        let host = host(c)?;
        ensure!(c.bed.daemon()?.terminate()? == 0);
        ensure!(!proc::alive(host), "the daemon outlived its guard");
        c.is_taken_away(&id)?;
        c.bed.becomes_clean()
    });
}
