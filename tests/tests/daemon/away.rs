//! containerd goes and comes back while guests run in the daemon; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::events::{Events, in_order};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Containers, Runtime, ShimDriver, Ticks, poll_until, run_case_with};

use crate::witness::Witness;

pub(crate) fn guests_run_on_while_containerd_is_stopped(c: &mut Containers) -> Result<()> {
    guests_run_on(c, |c| c.fixture.stop())
}

pub(crate) fn guests_run_on_while_containerd_is_killed(c: &mut Containers) -> Result<()> {
    guests_run_on(c, |c| c.fixture.kill9())
}

fn guests_run_on(
    c: &mut Containers,
    goes: impl FnOnce(&mut Containers) -> Result<()>,
) -> Result<()> {
    let (ticking, brief, late) = (c.id("ticking"), c.id("brief"), c.id("late"));
    c.detached(&ticking, &["daemon"])?;
    c.detached(&brief, &["sleep", "1"])?;
    let before = c.is_running(&ticking)?;
    let mut ticks = Ticks::of(&ticking)?;
    ticks.go_on()?;
    goes(c)?;
    ticks.go_on().context("while containerd is away")?;
    c.fixture.start_again()?;
    ticks.go_on().context("after containerd's return")?;
    ensure!(c.becomes(&ticking, "RUNNING")? == before);
    ensure!(c.finish(&brief)? == 0, "the exit status of one that ended meanwhile");
    let events = Events::listen(c)?;
    ensure!(c.kill_and_finish(&ticking)? == 137);
    // The daemon's connection was to the containerd of before.
    let topics: Vec<_> =
        events.until_delete(&ticking)?.into_iter().map(|(topic, _)| topic).collect();
    ensure!(topics == ["exit", "delete"], "{topics:?}");
    let events = Events::listen(c)?;
    c.run(&late, &["exit", "3"])?.status_is(3)?;
    in_order(&events.until_delete(&late)?)?;
    c.fixture.becomes_clean()
}

#[test]
fn events_of_the_time_containerd_was_away_arrive_in_order() {
    run_case_with(ShimDriver::away(Runtime::Wasmtimed), |p| {
        Witness::start(p, "early")?.end(p)?;
        p.comes_back()?;
        let wanted = ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"];
        let seen = poll_until("four events", LIMIT, || {
            Some(p.topics()).filter(|topics| topics.len() >= 4)
        });
        let seen = seen.with_context(|| format!("{:?}", p.topics()))?;
        ensure!(seen == wanted, "{seen:?}");
        p.becomes_clean()
    });
}
