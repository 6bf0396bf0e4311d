//! How long `ctr run --rm` of a hello takes, from the user's side; called by `main`.
//!
//! A round runs every runtime once, in a random order. The floor shim shows what containerd and `ctr` take themselves;
//! a shim's own cost is its *time above the floor*: the median difference to the floor within the rounds. CPU time is that of
//! the whole machine from the beginning of `ctr` to the end of the shim, so others on it are measured, too.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::proc::shims_of;
use runwasi_tests::{Runtime, poll_until};

use crate::peers::Peer;
use crate::results::Row;
use crate::subject::Subject;
use crate::{Bench, machine, stats};

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

const FLOOR: Subject = Subject::Ours(Runtime::Floor);

/// What a subject is compared with, and the end of the ratio's name.
const BASES: [(Subject, &str); 3] = [
    (Subject::Ours(Runtime::Runc), "runc"),
    (Subject::Peer(Peer::Upstream), "upstream"),
    (Subject::Peer(Peer::Crun), "crun"),
];

/// What one subject took, in milliseconds, one a round.
struct Series {
    subject: Subject,
    times: Vec<f64>,
    cpu: Vec<f64>,
}

/// What one `ctr run` took, in milliseconds.
struct Took {
    time: f64,
    cpu: f64,
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds;
    bench.say(&format!(
        "ctr run --rm hello, {rounds} interleaved rounds after {WARM_UP} to warm up"
    ))?;
    let subjects = Subject::all(&bench.options).into_iter();
    let series = |subject| Series { subject, times: Vec::new(), cpu: Vec::new() };
    let mut all: Vec<Series> = subjects.map(series).collect();
    for round in 0..WARM_UP + rounds {
        let mut order: Vec<usize> = (0..all.len()).collect();
        fastrand::shuffle(&mut order);
        for place in order {
            let series = &mut all[place];
            let took = hello(bench, series.subject, round)?;
            if round >= WARM_UP {
                series.times.push(took.time);
                series.cpu.push(took.cpu);
            }
        }
    }
    figures(&all)
}

/// One `ctr run`; any fault in it is an error, since a failed run is no measurement.
fn hello(bench: &Bench, subject: Subject, round: usize) -> Result<Took> {
    bench.interrupt.check()?;
    let id = subject.id(bench, &format!("hello{round}"))?;
    let command = subject.run(bench, &["--rm"], &id, &[])?;
    let before = machine::busy()?;
    let ended = command.run()?.ok()?;
    // The floor runs nothing.
    let wanted = subject != FLOOR;
    ensure!(
        wanted == ended.out().contains("Hello"),
        "not what {} should print: {ended}",
        subject.name()
    );
    // What a shim still does after `ctr` has ended must not slow the next run, which may be another's.
    let fixture = subject.fixture(bench)?;
    let socket = fixture.socket(&id);
    let gone = || !socket.exists() && shims_of(&fixture.address()).is_empty();
    poll_until("end of the shim", Duration::from_secs(10), || gone().then_some(()))?;
    let cpu = machine::busy()?.saturating_sub(before);
    Ok(Took { time: ended.took.as_secs_f64() * 1e3, cpu: cpu.as_secs_f64() * 1e3 })
}

fn figures(all: &[Series]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for series in all {
        let row = |figure: &str, value, unit| {
            Row::new(format!("ctr_run_{figure}"), series.subject.name(), value, unit)
        };
        rows.push(row("median", stats::median(&series.times)?, "ms"));
        rows.push(row("p90", stats::quantile(&series.times, 0.9)?, "ms"));
        rows.push(row("cpu", stats::mean(&series.cpu)?, "ms"));
        if let (Some(floor), true) = (of(all, FLOOR), series.subject != FLOOR) {
            rows.extend(above_floor(series, floor)?);
        }
    }
    for series in all.iter().filter(|series| is_ours(series.subject)) {
        rows.extend(ratios(all, series)?);
    }
    Ok(rows)
}

fn of(all: &[Series], wanted: Subject) -> Option<&Series> {
    all.iter().find(|series| series.subject == wanted)
}

fn is_ours(subject: Subject) -> bool {
    matches!(subject, Subject::Ours(runtime) if runtime.is_wasm())
}

fn above_floor(series: &Series, floor: &Series) -> Result<Vec<Row>> {
    let name = series.subject.name();
    let above = stats::difference(&series.times, &floor.times);
    let above = above.with_context(|| format!("comparing {name} with the floor"))?;
    let row =
        |figure: &str, value| Row::new(format!("ctr_run_above_floor{figure}"), name, value, "ms");
    let median = row("", above.median);
    let median = match series.subject {
        Subject::Ours(runtime) => {
            goal_above_floor(runtime).map(|goal| median.clone().at_most(goal))
        }
        _ => None,
    }
    .unwrap_or(median);
    let to_floor = stats::median(&series.times)? / stats::median(&floor.times)?;
    Ok(vec![
        median,
        row("_ci95_low", above.low),
        row("_ci95_high", above.high),
        Row::new("ctr_run_ratio_to_floor", name, to_floor, "x"),
        Row::new("ctr_run_cpu_above_floor", name, cpu_above(series, floor)?, "ms"),
    ])
}

/// Of the means: what one run takes is less than the kernel counts in one step.
fn cpu_above(series: &Series, floor: &Series) -> Result<f64> {
    Ok(stats::mean(&series.cpu)? - stats::mean(&floor.cpu)?)
}

/// One of ours beside runc, the peers and the earlier build.
fn ratios(all: &[Series], series: &Series) -> Result<Vec<Row>> {
    let before = match series.subject {
        Subject::Ours(runtime) => Subject::Before(runtime),
        other => other,
    };
    let mut rows = Vec::new();
    for (subject, end) in BASES.into_iter().chain([(before, "before")]) {
        let Some(base) = of(all, subject) else { continue };
        let row = |figure: String, value| Row::new(figure, series.subject.name(), value, "x");
        let whole = stats::median(&series.times)? / stats::median(&base.times)?;
        rows.push(row(format!("ctr_run_ratio_to_{end}"), whole));
        if let Some(floor) = of(all, FLOOR) {
            let time = |of: &Series| {
                Ok::<_, anyhow::Error>(stats::difference(&of.times, &floor.times)?.median)
            };
            rows.push(row(format!("ctr_run_above_floor_to_{end}"), time(series)? / time(base)?));
            let cpu = cpu_above(series, floor)? / cpu_above(base, floor)?;
            rows.push(row(format!("ctr_run_cpu_above_floor_to_{end}"), cpu));
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(runtime: Runtime, milliseconds: f64) -> Series {
        of_subject(Subject::Ours(runtime), milliseconds)
    }

    fn of_subject(subject: Subject, milliseconds: f64) -> Series {
        let times: Vec<_> = (0..50).map(|round| milliseconds + f64::from(round % 5)).collect();
        Series { subject, cpu: times.iter().map(|time| time / 2.0).collect(), times }
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
        assert_eq!(value(&rows, "ctr_run_cpu_above_floor", "wasmtime"), Some(5.0));
    }

    #[test]
    fn ratios_to_peers_are_those_of_the_times_above_the_floor() {
        let all = [
            series(Runtime::Wasmtime, 50.0),
            series(Runtime::Floor, 40.0),
            of_subject(Subject::Peer(Peer::Upstream), 140.0),
            of_subject(Subject::Before(Runtime::Wasmtime), 60.0),
        ];
        let rows = figures(&all).unwrap();
        assert_eq!(value(&rows, "ctr_run_above_floor_to_upstream", "wasmtime"), Some(0.1));
        assert_eq!(value(&rows, "ctr_run_cpu_above_floor_to_before", "wasmtime"), Some(0.5));
        assert_eq!(value(&rows, "ctr_run_above_floor_to_runc", "wasmtime"), None);
        assert_eq!(value(&rows, "ctr_run_median", "wasmtime-before"), Some(62.0));
    }

    #[test]
    fn without_the_floor_there_is_nothing_above_it() {
        let rows =
            figures(&[series(Runtime::Wasmtime, 60.0), series(Runtime::Runc, 100.0)]).unwrap();
        assert_eq!(value(&rows, "ctr_run_above_floor", "wasmtime"), None);
        assert_eq!(value(&rows, "ctr_run_ratio_to_runc", "wasmtime"), Some(62.0 / 102.0));
    }
}
