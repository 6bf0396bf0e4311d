//! Who gets the CPUs when more guests compute than there are CPUs, and how soon others are heard; called by `main`.
//!
//! With 64 spinning guests: `State`, SIGKILL until the exit is known, the start of a new hello, and a guest's own timer.
//! Then the shares that equal and unequal spinners get, by the CPU time that `Stats` tells.

mod spinners;
mod timer;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::Runtime;

use crate::fake_containerd::{FakeContainerd, Storage};
use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};
use spinners::{Spinners, milliseconds, run};

const SPINNERS: usize = 64;

/// Samples of each latency: enough for a 99th percentile that is not the worst one.
const SAMPLES: usize = 200;

/// The most the 99th percentile of a call may be, in milliseconds.
const GOAL_CALL: f64 = 50.0;

/// The most until a timer set to 5 ms fires, in milliseconds.
const GOAL_TIMER: f64 = 15.0;

/// How many equal spinners share the CPUs, for how long, and how far one may be from their mean.
const EQUALS: [usize; 3] = [3, 5, 64];
const SHARING: Duration = Duration::from_secs(5);
const GOAL_DEVIATION: f64 = 10.0;

/// `cpu.shares` of two kinds of spinners; two of each, so that both CPUs are wanted by more than one.
const WEIGHTS: [u32; 2] = [2048, 1024];

const RUNTIME: Runtime = Runtime::Wasmtimed;

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    if !bench.options.runtimes.contains(&RUNTIME) {
        return Ok(Vec::new());
    }
    FakeContainerd::with(RUNTIME, Storage::Memory, |fake| {
        let mut rows = latencies(bench, fake)?;
        for count in EQUALS {
            rows.extend(equal(bench, fake, count)?);
        }
        rows.extend(weighted(bench, fake)?);
        Ok(rows)
    })
}

fn latencies(bench: &Bench, fake: &FakeContainerd) -> Result<Vec<Row>> {
    bench.say(&format!("scheduling: calls, starts and timers among {SPINNERS} spinning guests"))?;
    let mut spinners = Spinners::start(bench, fake, SPINNERS, |_| None)?;
    let mut sample = |one: fn(&FakeContainerd, &mut Spinners) -> Result<f64>| -> Result<Vec<f64>> {
        let samples = (0..SAMPLES).map(|_| {
            bench.interrupt.check()?;
            one(fake, &mut spinners)
        });
        samples.collect()
    };
    let mut rows = percentiles("state", &sample(state)?, GOAL_CALL)?;
    rows.extend(percentiles("kill", &sample(|_, spinners| spinners.kill_one())?, GOAL_CALL)?);
    rows.extend(percentiles("start", &sample(hello)?, GOAL_CALL)?);
    let (guest, native) = timer::measure(fake, &mut spinners)?;
    rows.extend(percentiles("timer", &guest, GOAL_TIMER)?);
    rows.push(row("scheduling_timer_of_native_p99", stats::quantile(&native, 0.99)?, "ms"));
    spinners.remove()?;
    Ok(rows)
}

fn state(fake: &FakeContainerd, spinners: &mut Spinners) -> Result<f64> {
    let (tasks, id) = spinners.any();
    let begin = Instant::now();
    fake.run(tasks.state(id))?;
    Ok(milliseconds(begin))
}

/// `Create` and `Start` of a hello, until the latter is answered.
fn hello(fake: &FakeContainerd, spinners: &mut Spinners) -> Result<f64> {
    let (tasks, container) = spinners.guest(&[])?;
    let took = run(fake, tasks, &container)?;
    let ended = fake.run(async {
        let status = tasks.wait(&container.id).await?;
        tasks.delete(&container.id).await.map(|()| status)
    })?;
    ensure!(ended == 0, "hello ended with {ended}");
    Ok(took)
}

fn equal(bench: &Bench, fake: &FakeContainerd, count: usize) -> Result<Vec<Row>> {
    bench.say(&format!("scheduling: {count} equal spinners for {} s", SHARING.as_secs()))?;
    let spinners = Spinners::start(bench, fake, count, |_| None)?;
    let shares = spinners.shares(SHARING)?;
    spinners.remove()?;
    let deviation = row(format!("scheduling_deviation_of_{count}"), deviation(&shares)?, "%")
        .at_most(GOAL_DEVIATION);
    Ok(vec![row(format!("scheduling_cpus_of_{count}"), shares.iter().sum(), "count"), deviation])
}

fn weighted(bench: &Bench, fake: &FakeContainerd) -> Result<Vec<Row>> {
    let [heavy, light] = WEIGHTS;
    bench.say(&format!("scheduling: two spinners with {heavy} shares, two with {light}"))?;
    let spinners =
        Spinners::start(bench, fake, 2 * WEIGHTS.len(), |place| Some(WEIGHTS[place % 2]))?;
    let shares = spinners.shares(SHARING)?;
    spinners.remove()?;
    let of_kind = |kind: usize| {
        stats::mean(&shares.iter().copied().skip(kind).step_by(2).collect::<Vec<_>>())
    };
    let ratio = of_kind(0)? / of_kind(1)?;
    let error = (ratio / (f64::from(heavy) / f64::from(light)) - 1.0).abs() * 100.0;
    Ok(vec![
        row("scheduling_ratio_of_weights", ratio, "x"),
        row("scheduling_error_of_weights", error, "%").at_most(GOAL_DEVIATION),
    ])
}

/// The largest distance from the mean, in percent of it.
fn deviation(values: &[f64]) -> Result<f64> {
    let mean = stats::mean(values)?;
    Ok(values.iter().map(|value| (value / mean - 1.0).abs() * 100.0).fold(0.0, f64::max))
}

fn percentiles(what: &str, samples: &[f64], goal: f64) -> Result<Vec<Row>> {
    let name = |figure: &str| format!("scheduling_{what}_{figure}");
    Ok(vec![
        row(name("p50"), stats::median(samples)?, "ms"),
        row(name("p99"), stats::quantile(samples, 0.99)?, "ms").at_most(goal),
    ])
}

fn row(name: impl Into<String>, value: f64, unit: &'static str) -> Row {
    Row::new(name, short(RUNTIME), value, unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviation_is_that_of_the_farthest() {
        assert_eq!(deviation(&[1.0, 1.0, 1.0]).unwrap(), 0.0);
        assert!((deviation(&[0.5, 1.0, 1.5]).unwrap() - 50.0).abs() < 1e-9);
        assert!((deviation(&[1.0, 1.0, 0.4]).unwrap() - 50.0).abs() < 1e-9);
        assert!(deviation(&[]).is_err());
    }

    #[test]
    fn the_99th_percentile_is_judged() {
        let samples: Vec<f64> = (0..200).map(|n| if n < 190 { 1.0 } else { 60.0 }).collect();
        let rows = percentiles("state", &samples, GOAL_CALL).unwrap();
        assert_eq!(rows.iter().map(Row::met).collect::<Vec<_>>(), [None, Some(false)]);
    }
}
