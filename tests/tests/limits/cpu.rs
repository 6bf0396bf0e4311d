//! CPU quota and shares; the cases are listed in `main.rs`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::meter::Reading;
use runwasi_tests::usage::{Usage, update};
use runwasi_tests::{Containers, Meter, best_of};

/// A busy machine gives less than the quota and answers late, but not every time.
const TRIES: usize = 5;

/// Lets time pass: nothing can be polled for, since nothing is to happen.
fn wait(time: Duration) {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(time);
}

/// Demands a part of a CPU within 10 %, so little that a busy machine has it.
fn gets(c: &Containers, id: &str, wanted: f64) -> Result<()> {
    let meter = Meter::of(c, id)?;
    best_of(TRIES, || {
        let part = meter.part_of_periods()?;
        ensure!((part / wanted - 1.0).abs() <= 0.1, "{part:.3} of a CPU instead of {wanted}");
        Ok(())
    })
}

/// Demands far more than any quota here allows, though perhaps not all of a CPU: others may want it.
fn is_free(c: &Containers, id: &str) -> Result<()> {
    let meter = Meter::of(c, id)?;
    best_of(TRIES, || {
        let before = meter.read()?;
        wait(Duration::from_millis(500));
        let part = meter.read()?.part_since(&before);
        ensure!(part > 0.2, "{part:.3} of a CPU without a quota");
        Ok(())
    })
}

pub(crate) fn quota_bounds_a_spinner(c: &mut Containers) -> Result<()> {
    let id = c.id("tenth");
    c.detached_with(&["--cpu-quota", "10000", "--cpu-period", "100000"], &id, &["spin"])?;
    gets(c, &id, 0.1)?;
    let usage = Usage::of(c, &id)?;
    let (periods, throttled) = usage.periods();
    ensure!(throttled >= 5 && throttled <= periods, "{periods} periods, {throttled} throttled");
    ensure!(usage.throttled_time() > Duration::from_millis(100), "{:?}", usage.throttled_time());
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn quota_bounds_init_and_exec_together(c: &mut Containers) -> Result<()> {
    let id = c.id("both");
    c.detached_with(&["--cpus", "0.1"], &id, &["spin"])?;
    c.exec_detached(&id, "too", &["spin"])?;
    gets(c, &id, 0.1)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn quota_can_be_changed_while_the_guest_runs(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    c.detached(&id, &["spin"])?;
    update(c, &id, r#"{"cpu":{"quota":20000,"period":100000}}"#)?;
    gets(c, &id, 0.2)?;
    update(c, &id, r#"{"cpu":{"quota":2000,"period":20000}}"#)?;
    gets(c, &id, 0.1)?;
    update(c, &id, r#"{"cpu":{"quota":-1}}"#)?;
    is_free(c, &id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn throttled_guest_is_killed_at_once(c: &mut Containers) -> Result<()> {
    let mut number = 0;
    best_of(TRIES, || {
        number += 1;
        let id = c.id(&format!("slow{number}"));
        // A millisecond in a second: when it is used up, the guest would wait for nearly all of that, or for some of them.
        c.detached_with(&["--cpu-quota", "1000", "--cpu-period", "1000000"], &id, &["spin"])?;
        let took = time_of_kill(c, &id);
        // The next try, and the end of the case, find nothing of one that failed.
        if took.is_err() {
            c.kill(&id, "SIGKILL")?;
        }
        ensure!(c.finish(&id)? == 137);
        let took = took?;
        ensure!(took < Duration::from_millis(300), "{took:?}");
        Ok(())
    })?;
    c.fixture.becomes_clean()
}

/// Kills a container that has just used up its quota.
fn time_of_kill(c: &Containers, id: &str) -> Result<Duration> {
    let meter = Meter::of(c, id)?;
    meter.used_up()?;
    let start = Instant::now();
    meter.client().kill(id, 9)?;
    meter.client().wait(id)?;
    Ok(start.elapsed())
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
    let meters = ids.iter().map(|id| Meter::of(c, id)).collect::<Result<Vec<_>>>()?;
    best_of(TRIES, || {
        let parts = parts(&meters)?;
        let ratio = (parts[0] + parts[2]) / (parts[1] + parts[3]);
        ensure!((1.8..=2.2).contains(&ratio), "{parts:.3?}: {ratio:.2} to 1");
        Ok(())
    })?;
    // Not a change of the whole pod: the others keep theirs.
    update(c, &ids[1], r#"{"cpu":{"shares":2048}}"#)?;
    best_of(TRIES, || {
        let parts = parts(&meters)?;
        let ratios = [parts[1] / parts[0], parts[2] / parts[0], 2.0 * parts[3] / parts[0]];
        ensure!(
            ratios.iter().all(|ratio| (0.9..=1.1).contains(ratio)),
            "{parts:.3?} after the change"
        );
        Ok(())
    })?;
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

/// The part of a CPU that each of them uses over three seconds.
fn parts(meters: &[Meter]) -> Result<Vec<f64>> {
    let read = || meters.iter().map(Meter::read).collect::<Result<Vec<Reading>>>();
    let before = read()?;
    wait(Duration::from_secs(3));
    Ok(read()?.iter().zip(&before).map(|(after, before)| after.part_since(before)).collect())
}
