//! `ctr task metrics`; the cases are listed in `main.rs`.

use std::num::NonZero;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::proc::cpu_time;
use runwasi_tests::usage::{Usage, update};
use runwasi_tests::{Containers, Meter, best_of, poll_until};

/// What may lie between our figure and the kernel's.
const ERROR: f64 = 0.05;

/// Somebody else may be busy on the machine for a while.
const TRIES: usize = 4;

/// Runs that many spinners in one OS process for two seconds of its CPU time, and compares what is told of them with that.
fn adds_up(c: &mut Containers, count: usize) -> Result<()> {
    let pod = c.id("pod");
    let ids: Vec<_> = (0..count).map(|n| c.id(&format!("s{n}"))).collect();
    for id in &ids {
        match count {
            1 => c.detached(id, &["spin"])?,
            _ => c.join(&pod, "container", id, &["spin"])?,
        }
    }
    let pid = c.is_running(&ids[0])?.pid;
    let meters = ids.iter().map(|id| Meter::of(c, id)).collect::<Result<Vec<_>>>()?;
    best_of(TRIES, || {
        let begin = Instant::now();
        let before = at_rest(pid, &meters)?;
        poll_until("two seconds of CPU time", Duration::from_secs(30), || {
            cpu_time(pid).ok().filter(|used| *used - before.kernel > Duration::from_secs(2))
        })?;
        let after = at_rest(pid, &meters)?;
        let (told, kernel) = (after.told - before.told, after.kernel - before.kernel);
        let allowed = kernel.max(deserved(begin.elapsed(), count)).mul_f64(ERROR);
        ensure!(
            told.abs_diff(kernel) <= allowed,
            "told {told:?}, the kernel counts {kernel:?}: off by more than {allowed:?}"
        );
        Ok(())
    })?;
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

/// The CPU time that so many spinners have on an undisturbed machine. Where they get less, the clock that interrupts them goes on
/// all the same, and its part of what they get is larger.
fn deserved(time: Duration, count: usize) -> Duration {
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    time.mul_f64(count.min(cpus) as f64)
}

struct Used {
    told: Duration,
    kernel: Duration,
}

/// Both figures while all guests are paused: else they would go on between the two looks.
fn at_rest(pid: u32, meters: &[Meter]) -> Result<Used> {
    meters.iter().try_for_each(Meter::pause)?;
    let told =
        meters.iter().map(|meter| Ok(meter.read()?.figures.cpu)).sum::<Result<Duration>>()?;
    let kernel = cpu_time(pid)?;
    meters.iter().try_for_each(Meter::resume)?;
    Ok(Used { told, kernel })
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
    let usage = poll_until("the guest's memory", Duration::from_secs(20), || {
        Usage::of(c, &id).ok().filter(|usage| usage.memory().0 > 20 * MIB)
    })?;
    ensure!(usage.memory().0 < 24 * MIB && usage.memory().1 == 256 * MIB, "{usage:?}");
    ensure!(usage.processes() == 1, "{usage:?}");
    c.exec(&id, "more", &["alloc", "50"])?.ok()?;
    c.exec_detached(&id, "second", &["sleep", "1000"])?;
    let usage = poll_until("two processes", Duration::from_secs(20), || {
        Usage::of(c, &id).ok().filter(|usage| usage.processes() == 2)
    })?;
    // The exec that has ended has given its memory back.
    ensure!(usage.memory().0 < 30 * MIB, "{usage:?}");
    ensure!(usage.peak().is_none_or(|peak| peak > 70 * MIB && peak < 80 * MIB), "{usage:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn stats_answer_after_the_end(c: &mut Containers) -> Result<()> {
    let id = c.id("ended");
    c.detached_with(&["--memory-limit", "33554432"], &id, &["alloc", "64"])?;
    c.becomes(&id, "STOPPED")?;
    let usage = Usage::of(c, &id)?;
    ensure!(usage.oom_kills() == 1 && usage.failures() == 1, "{usage:?}");
    ensure!(usage.memory() == (0, 32 << 20) && usage.processes() == 0, "{usage:?}");
    ensure!(usage.peak().is_none_or(|peak| peak > 0 && peak <= 32 << 20), "{usage:?}");
    ensure!(usage.cpu() > Duration::ZERO, "{usage:?}");
    ensure!(c.finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn wrong_updates_are_refused_with_the_field(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "1000"])?;
    for (json, wanted) in [
        ("", "resources: "),
        ("{", "line 1"),
        (r#"{"memory":{"limit":"much"}}"#, "linux.resources.memory.limit: invalid type"),
        (r#"{"cpu":{"quota":1}}"#, "linux.resources.cpu.quota: 1 is less than"),
        (r#"{"cpu":{"period":5}}"#, "linux.resources.cpu.period: 5 is not"),
        (r#"{"cpu":{"period":0}}"#, "linux.resources.cpu.period: 0 is not"),
        (r#"{"cpu":{"quota":20000,"period":0}}"#, "linux.resources.cpu.period: 0 is not"),
        (r#"{"cpu":{"quota":-20000}}"#, "linux.resources.cpu.quota: -20000 is negative"),
        (
            r#"{"memory":{"limit":-33554432}}"#,
            "linux.resources.memory.limit: -33554432 is negative",
        ),
    ] {
        let said =
            update(c, &id, json).err().with_context(|| format!("{json} was accepted"))?.to_string();
        ensure!(said.contains(wanted), "{json}: {said}");
    }
    let said = update(c, &id, r#"{"memory":{"limit":1073741824}}"#).err();
    ensure!(said.is_none(), "{said:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
