//! How long `ctr run --rm` of a hello takes, from the user's side; called by `main`.
//!
//! A round runs every runtime once, in a random order. The floor shim shows what containerd and `ctr` take themselves;
//! a shim's own cost is its *time above the floor*: the median difference to the floor within the rounds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::proc::shims_of;
use runwasi_tests::{Runtime, poll_until};

use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};

/// Rounds that are run and dropped: the first runs fill the page cache and the compiled-code cache.
const WARM_UP: usize = 3;

/// The most a hello may take above the floor, in milliseconds.
fn goal_above_floor(runtime: Runtime) -> Option<f64> {
    match runtime {
        Runtime::Wasmtime => Some(15.0),
        Runtime::Wasmtimed => Some(6.0),
        _ => None,
    }
}

/// The times of one runtime, in milliseconds, one a round.
struct Series {
    runtime: Runtime,
    times: Vec<f64>,
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds;
    bench.say(&format!(
        "ctr run --rm hello, {rounds} interleaved rounds after {WARM_UP} to warm up"
    ))?;
    let mut all: Vec<Series> = bench
        .options
        .runtimes
        .iter()
        .map(|runtime| Series { runtime: *runtime, times: Vec::new() })
        .collect();
    for round in 0..WARM_UP + rounds {
        let mut order: Vec<usize> = (0..all.len()).collect();
        fastrand::shuffle(&mut order);
        for place in order {
            let series = &mut all[place];
            let time = hello(bench, series.runtime, round)?;
            if round >= WARM_UP {
                series.times.push(time);
            }
        }
    }
    figures(&all)
}

/// One `ctr run`, in milliseconds; any fault in it is an error, since a failed run is no measurement.
fn hello(bench: &Bench, runtime: Runtime, round: usize) -> Result<f64> {
    bench.interrupt.check()?;
    let id = bench.fixture.id(&format!("hello-{}-{round}", short(runtime)));
    let command = bench.fixture.ctr_command([
        "run",
        "--rm",
        "--runtime",
        runtime.name(),
        runtime.image().name(),
        &id,
    ]);
    let ended = command.run()?.ok()?;
    // The floor runs nothing.
    let wanted = runtime != Runtime::Floor;
    ensure!(
        wanted == ended.out().contains("Hello"),
        "not what {} should print: {ended}",
        runtime.name()
    );
    // What a shim still does after `ctr` has ended must not slow the next run, which may be another's.
    let socket = bench.fixture.socket(&id);
    let gone = || !socket.exists() && shims_of(&bench.fixture.address()).is_empty();
    poll_until("end of the shim", Duration::from_secs(10), || gone().then_some(()))?;
    Ok(ended.took.as_secs_f64() * 1e3)
}

fn figures(all: &[Series]) -> Result<Vec<Row>> {
    let times = |wanted| {
        all.iter().find(|series| series.runtime == wanted).map(|series| series.times.as_slice())
    };
    let mut rows = Vec::new();
    for Series { runtime, times: own } in all {
        let name = short(*runtime);
        rows.push(Row::new("ctr_run_median", name, stats::median(own)?, "ms"));
        rows.push(Row::new("ctr_run_p90", name, stats::quantile(own, 0.9)?, "ms"));
        let (Some(floor), true) = (times(Runtime::Floor), *runtime != Runtime::Floor) else {
            continue;
        };
        let above = stats::difference(own, floor)
            .with_context(|| format!("comparing {name} with the floor"))?;
        let median = Row::new("ctr_run_above_floor", name, above.median, "ms");
        rows.push(match goal_above_floor(*runtime) {
            Some(goal) => median.at_most(goal),
            None => median,
        });
        rows.push(Row::new("ctr_run_above_floor_ci95_low", name, above.low, "ms"));
        rows.push(Row::new("ctr_run_above_floor_ci95_high", name, above.high, "ms"));
        rows.push(Row::new(
            "ctr_run_ratio_to_floor",
            name,
            stats::median(own)? / stats::median(floor)?,
            "x",
        ));
    }
    for runtime in [Runtime::Wasmtime, Runtime::Wasmtimed] {
        if let (Some(own), Some(runc)) = (times(runtime), times(Runtime::Runc)) {
            let ratio = stats::median(own)? / stats::median(runc)?;
            rows.push(Row::new("ctr_run_ratio_to_runc", short(runtime), ratio, "x"));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(runtime: Runtime, milliseconds: f64) -> Series {
        Series {
            runtime,
            times: (0..50).map(|round| milliseconds + f64::from(round % 5)).collect(),
        }
    }

    fn value(rows: &[Row], name: &str, runtime: &str) -> Option<f64> {
        rows.iter().find(|row| row.name == name && row.runtime == runtime).map(|row| row.value)
    }

    #[test]
    fn only_our_own_times_above_the_floor_have_a_goal() {
        let ours = [series(Runtime::Wasmtime, 50.0), series(Runtime::Wasmtimed, 50.0)];
        let others = [series(Runtime::Runc, 100.0), series(Runtime::Floor, 40.0)];
        let rows = figures(&ours.into_iter().chain(others).collect::<Vec<_>>()).unwrap();
        let judged = rows
            .iter()
            .filter_map(|row| Some((row.name.as_str(), row.runtime.as_str(), row.met()?)));
        let goals = [
            ("ctr_run_above_floor", "wasmtime", true),
            ("ctr_run_above_floor", "wasmtimed", false),
        ];
        assert_eq!(judged.collect::<Vec<_>>(), goals);
        assert_eq!(value(&rows, "ctr_run_above_floor", "wasmtime"), Some(10.0));
        assert_eq!(value(&rows, "ctr_run_above_floor", "runc"), Some(60.0));
        assert_eq!(value(&rows, "ctr_run_above_floor", "floor"), None);
        assert_eq!(value(&rows, "ctr_run_ratio_to_floor", "wasmtime"), Some(52.0 / 42.0));
    }

    #[test]
    fn without_the_floor_there_is_nothing_above_it() {
        let rows =
            figures(&[series(Runtime::Wasmtime, 60.0), series(Runtime::Runc, 100.0)]).unwrap();
        assert_eq!(value(&rows, "ctr_run_above_floor", "wasmtime"), None);
        assert_eq!(value(&rows, "ctr_run_ratio_to_runc", "wasmtime"), Some(62.0 / 102.0));
    }
}
