//! `ctr task kill` with every signal; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;

/// signal(7): ignored by default (CHLD, CONT, URG, WINCH), or stops without ending (STOP, TSTP, TTIN, TTOU).
const SPARING: [i32; 8] = [17, 18, 23, 28, 19, 20, 21, 22];

pub(crate) fn signals_have_their_default_action(c: &mut Containers) -> Result<()> {
    let ids: Vec<_> = (1..=31).map(|signal| (signal, c.id(&format!("sig{signal}")))).collect();
    for (signal, id) in &ids {
        c.detached_with(c.runtime.default_signal_flags(), id, &["sleep", "100"])?;
        c.kill(id, &signal.to_string())?;
    }
    let spares =
        |signal| SPARING.contains(&signal) || c.runtime.handled_signals().contains(&signal);
    let (spared, ended): (Vec<_>, Vec<_>) = ids.iter().partition(|(signal, _)| spares(*signal));
    for (signal, id) in ended {
        let status = c.finish(id).with_context(|| format!("signal {signal}"))?;
        ensure!(status == 128 + signal, "signal {signal} gave status {status}");
    }
    // Judged last: had one of these ended its container, that would show by now.
    for (signal, id) in spared {
        let task = c.task(id)?.with_context(|| format!("signal {signal}: no task"))?;
        ensure!(task.status != "STOPPED", "signal {signal} ended it");
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn sigkill_ends_an_endless_loop(c: &mut Containers) -> Result<()> {
    endless_loop_ends(c, "SIGKILL", 137)
}

pub(crate) fn sigterm_ends_an_endless_loop(c: &mut Containers) -> Result<()> {
    endless_loop_ends(c, "SIGTERM", 143)
}

fn endless_loop_ends(c: &Containers, signal: &str, wanted: i32) -> Result<()> {
    let id = c.id("spin");
    c.detached_with(c.runtime.default_signal_flags(), &id, &["spin"])?;
    c.is_running(&id)?;
    c.kill(&id, signal)?;
    let status = c.finish(&id)?;
    ensure!(status == wanted, "status {status}");
    c.fixture.becomes_clean()
}

pub(crate) fn signal_after_the_end_is_an_error(c: &mut Containers) -> Result<()> {
    let id = c.id("late");
    c.detached(&id, &["exit", "3"])?;
    c.becomes(&id, "STOPPED")?;
    let said = c.fixture.ctr(["task", "kill", "-s", "SIGKILL", &id])?.refused()?;
    ensure!(said.contains("not found"), "{said}");
    ensure!(c.finish(&id)? == 3, "the late signal changed the exit status");
    Ok(())
}
