//! CPU quota and shares; the cases are listed in `main.rs`. What a guest used is compared with the time that passed: a busy
//! machine can only give less than the quota, so the lower bound leaves room for that and the upper one does not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::usage::{Usage, update};

/// Lets time pass: nothing can be polled for, since nothing is to happen.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// The part of one CPU that a container uses over that time.
fn part(c: &Containers, id: &str, time: Duration) -> Result<f64> {
    let (before, start) = (Usage::of(c, id)?.cpu(), Instant::now());
    wait(time);
    let used = Usage::of(c, id)?.cpu() - before;
    Ok(used.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// Demands a part within 10 %. Two seconds: the last period is not over when it is looked at.
fn gets(c: &Containers, id: &str, wanted: f64) -> Result<()> {
    let part = part(c, id, Duration::from_secs(2))?;
    ensure!((part / wanted - 1.0).abs() <= 0.1, "{part:.3} of a CPU instead of {wanted}");
    Ok(())
}

pub(crate) fn quota_bounds_a_spinner(c: &mut Containers) -> Result<()> {
    let id = c.id("fifth");
    c.detached_with(&["--cpu-quota", "20000", "--cpu-period", "100000"], &id, &["spin"])?;
    gets(c, &id, 0.2)?;
    let usage = Usage::of(c, &id)?;
    let (periods, throttled) = usage.periods();
    ensure!(periods >= 15 && throttled >= 15 && throttled <= periods, "{periods} periods, {throttled} throttled");
    ensure!(usage.throttled_time() > Duration::from_millis(700), "{:?}", usage.throttled_time());
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn quota_bounds_init_and_exec_together(c: &mut Containers) -> Result<()> {
    let id = c.id("both");
    c.detached_with(&["--cpus", "0.5"], &id, &["spin"])?;
    c.exec_detached(&id, "too", &["spin"])?;
    gets(c, &id, 0.5)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn quota_can_be_changed_while_the_guest_runs(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    let free = part(c, &id, Duration::from_secs(1))?;
    ensure!(free > 0.4, "{free} without a quota");
    update(c, &id, r#"{"cpu":{"quota":30000,"period":100000}}"#)?;
    gets(c, &id, 0.3)?;
    update(c, &id, r#"{"cpu":{"quota":2000,"period":20000}}"#)?;
    gets(c, &id, 0.1)?;
    update(c, &id, r#"{"cpu":{"quota":-1}}"#)?;
    let free = part(c, &id, Duration::from_secs(1))?;
    ensure!(free > 0.4, "{free} when the quota is gone");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn throttled_guest_is_killed_at_once(c: &mut Containers) -> Result<()> {
    let id = c.id("slow");
    // A millisecond in a second: it waits nearly always.
    c.detached_with(&["--cpu-quota", "1000", "--cpu-period", "1000000"], &id, &["spin"])?;
    wait(Duration::from_millis(300));
    let start = Instant::now();
    c.kill(&id, "SIGKILL")?;
    c.becomes(&id, "STOPPED")?;
    ensure!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());
    ensure!(c.finish(&id)? == 137);
    c.bed.becomes_clean()
}

/// Four spinners of one process on fewer CPUs: in the daemon each container, in the shim the containers of a pod.
pub(crate) fn shares_divide_the_cpus(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let annotation = format!("io.kubernetes.cri.sandbox-id={pod}");
    let kind = "io.kubernetes.cri.container-type=container";
    let ids: Vec<_> = (0..4).map(|n| c.id(&format!("s{n}"))).collect();
    for (n, id) in ids.iter().enumerate() {
        let shares = if n % 2 == 0 { "2048" } else { "1024" };
        let flags = ["--annotation", &annotation, "--annotation", kind, "--cpu-shares", shares];
        c.detached_with(&flags, id, &["spin"])?;
    }
    let usage = || ids.iter().map(|id| Ok(Usage::of(c, id)?.cpu().as_secs_f64())).collect::<Result<Vec<_>>>();
    let before = usage()?;
    wait(Duration::from_secs(3));
    let used: Vec<_> = usage()?.iter().zip(&before).map(|(after, before)| after - before).collect();
    let ratio = (used[0] + used[2]) / (used[1] + used[3]);
    ensure!((1.8..=2.2).contains(&ratio), "{used:?}: {ratio:.2} to 1");
    // Not a change of the whole container: the others keep theirs.
    update(c, &ids[1], r#"{"cpu":{"shares":2048}}"#)?;
    let before = usage()?;
    wait(Duration::from_secs(3));
    let used: Vec<_> = usage()?.iter().zip(&before).map(|(after, before)| after - before).collect();
    let ratio = used[1] / used[0];
    ensure!((0.85..=1.15).contains(&ratio), "{used:?} after the change");
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.bed.becomes_clean()
}
