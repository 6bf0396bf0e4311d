//! `ctr task metrics`; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::proc::cpu_nanos;
use runwasi_tests::usage::{Usage, update};
use runwasi_tests::{Containers, poll_until};

/// Runs that many spinners in one OS process for two seconds of CPU time, and compares.
fn adds_up(c: &mut Containers, count: usize) -> Result<()> {
    let pod = c.id("pod");
    let ids: Vec<_> = (0..count).map(|n| c.id(&format!("s{n}"))).collect();
    for id in &ids {
        c.join(&pod, "container", id, &["spin"])?;
    }
    let pid = c.is_running(&ids[0])?.pid;
    // Both numbers at rest, or the guests would go on between two looks.
    let look = || {
        ids.iter().try_for_each(|id| c.bed.ctr(["task", "pause", id])?.ok().map(drop))?;
        let told = ids.iter().map(|id| Ok(Usage::of(c, id)?.cpu())).sum::<Result<Duration>>()?;
        let kernel = cpu_nanos(pid)?;
        ids.iter().try_for_each(|id| c.bed.ctr(["task", "resume", id])?.ok().map(drop))?;
        anyhow::Ok((told, kernel))
    };
    let before = look()?;
    poll_until("two seconds of CPU time", Duration::from_secs(20), || {
        cpu_nanos(pid).ok().filter(|used| used - before.1 > 2_000_000_000)
    })?;
    let after = look()?;
    let (told, kernel) = (after.0 - before.0, Duration::from_nanos(after.1 - before.1));
    let ratio = told.as_secs_f64() / kernel.as_secs_f64();
    ensure!((0.95..=1.05).contains(&ratio), "told {told:?}, the kernel counts {kernel:?}");
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.bed.becomes_clean()
}

pub(crate) fn cpu_of_a_spinner_is_what_the_kernel_counts(c: &mut Containers) -> Result<()> {
    adds_up(c, 1)
}

pub(crate) fn cpu_of_two_spinners_adds_up(c: &mut Containers) -> Result<()> {
    adds_up(c, 2)
}

pub(crate) fn memory_and_processes_are_counted(c: &mut Containers) -> Result<()> {
    const MIB: u64 = 1 << 20;
    let id = c.id("host");
    c.detached_with(&["--memory-limit", "268435456"], &id, &["hold", "20"])?;
    let usage = poll_until("the guest's memory", Duration::from_secs(10), || {
        Usage::of(c, &id).ok().filter(|usage| usage.memory().0 > 20 * MIB)
    })?;
    ensure!(usage.memory().0 < 24 * MIB && usage.memory().1 == 256 * MIB, "{usage:?}");
    ensure!(usage.processes() == 1, "{usage:?}");
    c.exec(&id, "more", &["alloc", "50"])?.ok()?;
    c.exec_detached(&id, "second", &["sleep", "1000"])?;
    let usage = poll_until("two processes", Duration::from_secs(10), || {
        Usage::of(c, &id).ok().filter(|usage| usage.processes() == 2)
    })?;
    // The exec that has ended has given its memory back.
    ensure!(usage.memory().0 < 30 * MIB, "{usage:?}");
    ensure!(usage.peak().is_none_or(|peak| peak > 70 * MIB && peak < 80 * MIB), "{usage:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn stats_answer_after_the_end(c: &mut Containers) -> Result<()> {
    let id = c.id("ended");
    c.detached_with(&["--memory-limit", "33554432"], &id, &["alloc", "64"])?;
    c.becomes(&id, "STOPPED")?;
    let usage = Usage::of(c, &id)?;
    ensure!(usage.oom_kills() == 1 && usage.memory().0 == 0 && usage.processes() == 0, "{usage:?}");
    ensure!(usage.cpu() > Duration::ZERO, "{usage:?}");
    ensure!(c.finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn wrong_updates_are_refused_with_the_field(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "1000"])?;
    for (json, wanted) in [
        ("", "resources: "),
        ("{", "line 1"),
        (r#"{"memory":{"limit":"much"}}"#, "line 1"),
        (r#"{"cpu":{"quota":1}}"#, "linux.resources.cpu.quota: 1 is less than"),
        (r#"{"cpu":{"period":5}}"#, "linux.resources.cpu.period: 5 is not"),
    ] {
        let said = update(c, &id, json).err().with_context(|| format!("{json} was accepted"))?.to_string();
        ensure!(said.contains(wanted), "{json}: {said}");
    }
    let said = update(c, &id, r#"{"memory":{"limit":1073741824}}"#).err();
    ensure!(said.is_none(), "{said:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}
