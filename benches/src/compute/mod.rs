//! What it costs a guest that computes to be interruptible, and to be scheduled and metered; called by `main`.
//!
//! ```text
//! bare       wasmtime as the shims set it up, but nothing can stop the guest
//! epochs     the guest yields at every epoch
//! wrapped    the same future in a container's group: fair queue, polling wrapper, CPU meter; no limits
//! inlined    like epochs, compiled for speed at any size
//! ```
//!
//! Epochs cost each program another part, so they are judged by the mean of the programs, and each program's own part is printed
//! beside it. The last way is judged against the first, too: it is what a guest can have that must be stoppable. It wins by itself,
//! not by fewer looks at the epoch alone.
//!
//! With `--peer wasmtime=PATH` the programs run under wasmtime's command line as well, which cannot stop them either.
//!
//! All four run the same work in this OS process, alone on runtimes with as many workers as the shims have, so that ticks come
//! as they do while a worker is free. A round runs each once, in a random order; what is compared is the CPU time of all threads: that of
//! the clock and of a worker that is woken for nothing is in it, that of others on the machine is not.

mod cli;
mod runner;
mod work;

use anyhow::{Context, Result};

use crate::peers::Peer;
use crate::results::Row;
use crate::{Bench, stats};
use runner::{Runner, Runtimes, Way};
use work::{CODE, Work};

/// Rounds that are run and dropped.
const WARM_UP: usize = 2;

/// The most that epochs may add to a guest without, and the wrapper to one with epochs, in percent.
const GOAL_EPOCHS: f64 = 5.0;
const GOAL_WRAPPER: f64 = 3.0;

/// The engine is not one of the shims.
const RUNTIME: &str = "in-process";

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds;
    bench.say(&format!(
        "a guest that computes: bare, with epochs, wrapped and inlined, {rounds} interleaved rounds"
    ))?;
    let runtimes = Runtimes::start()?;
    let runners = CODE.iter().map(Runner::new).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<_> = runners.iter().flat_map(Series::of).collect();
    for round in 0..WARM_UP + rounds {
        for series in &mut all {
            bench.interrupt.check()?;
            let times = series.round(&runtimes)?;
            if round >= WARM_UP {
                series.times.extend(&times);
            }
        }
    }
    let mut rows = all.iter().map(Series::rows).collect::<Result<Vec<_>>>()?.concat();
    rows.extend(beside_cli(bench, &all)?);
    let programs: Vec<_> =
        all.iter().filter(|series| series.work.is_program()).map(|series| &series.times).collect();
    for (figure, way) in [("epochs_add", Way::Epochs), ("inlined_adds", Way::Inlined)] {
        rows.push(adding("programs", figure, mean_ratio(&programs, way)?).at_most(GOAL_EPOCHS));
    }
    for runner in runners.iter().filter(|runner| runner.code.work.iter().any(Work::is_program)) {
        let (name, (time, bytes)) = (runner.code.name, runner.price_of_inlining());
        rows.push(Row::new(format!("compute_{name}_inlined_compile_time"), RUNTIME, time, "x"));
        rows.push(Row::new(format!("compute_{name}_inlined_code_size"), RUNTIME, bytes, "x"));
    }
    Ok(rows)
}

/// Programs with epochs beside wasmtime's command line, which has none; nothing without it.
fn beside_cli(bench: &Bench, all: &[Series<'_>]) -> Result<Vec<Row>> {
    let Some(program) = bench.options.peers.get(Peer::Cli) else { return Ok(Vec::new()) };
    bench.say("the same programs by wasmtime's command line")?;
    let mut rows = Vec::new();
    let mut ratios = Vec::new();
    for series in all.iter().filter(|series| series.work.is_program()) {
        bench.interrupt.check()?;
        let cli = cli::cpu_time(program, series.runner.code, series.work)?.as_secs_f64() * 1e3;
        let ratio = stats::median(&series.times.0[Way::Epochs as usize])? / cli;
        let name = series.work.name;
        rows.push(Row::new(format!("compute_{name}_bare"), Peer::Cli.name(), cli, "ms"));
        rows.push(Row::new(format!("compute_{name}_to_cli"), RUNTIME, ratio, "x"));
        ratios.push(ratio);
    }
    let logarithms: Vec<_> = ratios.iter().map(|ratio: &f64| ratio.ln()).collect();
    let worst = ratios.iter().copied().fold(0.0, f64::max);
    let row =
        |figure: &str, value| Row::new(format!("compute_programs_{figure}"), RUNTIME, value, "x");
    rows.push(row("mean_to_cli", stats::mean(&logarithms)?.exp()));
    rows.push(row("worst_to_cli", worst));
    Ok(rows)
}

/// What is measured of one work.
struct Series<'a> {
    runner: &'a Runner,
    work: &'static Work,
    times: Times,
}

impl<'a> Series<'a> {
    fn of(runner: &'a Runner) -> impl Iterator<Item = Self> {
        runner.code.work.iter().map(move |work| Self { runner, work, times: Times::default() })
    }

    /// Once each way, in a random order.
    fn round(&self, runtimes: &Runtimes) -> Result<Times> {
        let mut ways = Way::ALL;
        fastrand::shuffle(&mut ways);
        let mut times = Times::default();
        for way in ways {
            let took = self.runner.run(runtimes, way, self.work);
            let took = took.with_context(|| format!("{way:?} {}", self.work.name))?;
            times.0[way as usize].push(took.as_secs_f64() * 1e3);
        }
        Ok(times)
    }

    fn rows(&self) -> Result<Vec<Row>> {
        self.times.rows(self.work.name)
    }
}

/// Milliseconds of CPU time, a series for each way.
#[derive(Clone, Default)]
struct Times([Vec<f64>; 4]);

impl Times {
    fn extend(&mut self, more: &Self) {
        self.0.iter_mut().zip(&more.0).for_each(|(all, more)| all.extend(more));
    }

    /// How many times as long one way takes as another: of the rounds the median.
    fn ratio(&self, way: Way, base: Way) -> Result<f64> {
        let [way, base] = [way, base].map(|way| &self.0[way as usize]);
        stats::median(&way.iter().zip(base).map(|(way, base)| way / base).collect::<Vec<_>>())
    }

    fn rows(&self, work: &str) -> Result<Vec<Row>> {
        let adds = |figure, way, base| {
            Ok::<_, anyhow::Error>(adding(work, figure, self.ratio(way, base)?))
        };
        Ok(vec![
            Row::new(
                format!("compute_{work}_bare"),
                RUNTIME,
                stats::median(&self.0[Way::Bare as usize])?,
                "ms",
            ),
            adds("epochs_add", Way::Epochs, Way::Bare)?,
            adds("inlined_adds", Way::Inlined, Way::Bare)?,
            adds("wrapper_adds", Way::Wrapped, Way::Epochs)?.at_most(GOAL_WRAPPER),
        ])
    }
}

/// The geometric mean of what a way takes against bare.
fn mean_ratio(of: &[&Times], way: Way) -> Result<f64> {
    let logarithms =
        of.iter().map(|times| Ok(times.ratio(way, Way::Bare)?.ln())).collect::<Result<Vec<_>>>()?;
    Ok(stats::mean(&logarithms)?.exp())
}

/// What a ratio is above 1, in percent.
fn adding(work: &str, figure: &str, ratio: f64) -> Row {
    Row::new(format!("compute_{work}_{figure}"), RUNTIME, (ratio - 1.0) * 100.0, "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_rounds() {
        // The second round was slow for all.
        let inlined = vec![10.4, 20.8, 10.4];
        let times = Times([
            vec![10.0, 20.0, 10.0],
            vec![10.6, 21.2, 10.6],
            vec![10.812, 21.624, 10.812],
            inlined,
        ]);
        let rows = times.rows("sieve").unwrap();
        for (row, value) in rows.iter().zip([10.0, 6.0, 4.0, 2.0]) {
            assert!((row.value - value).abs() < 1e-9, "{row:?}");
        }
        assert_eq!(rows.iter().map(Row::met).collect::<Vec<_>>(), [None, None, None, Some(true)]);
    }

    #[test]
    fn mean_of_ratios_is_the_geometric_one() {
        let twice = Times([vec![10.0], vec![20.0], vec![10.0], vec![10.0]]);
        let half = Times([vec![10.0], vec![5.0], vec![10.0], vec![10.0]]);
        assert!((mean_ratio(&[&twice, &half], Way::Epochs).unwrap() - 1.0).abs() < 1e-9);
        assert!(mean_ratio(&[], Way::Epochs).is_err());
    }
}
