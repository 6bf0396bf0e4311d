//! What a server in a container answers a second, against the loop of `wasmtime serve`; called by `main`.
//!
//! All servers stand on the host's loopback at the same time; a round loads each of them once, in a random order, with `wrk`,
//! which takes its part of the CPUs from all of them alike. What counts is the ratio within a round.

mod server;
mod wrk;

use anyhow::{Context, Result};
use runwasi_tests::{Image, Runtime};

use crate::results::Row;
use crate::{Bench, stats};
use server::Server;
use wrk::Load;

/// Rounds that count, after one to warm up.
const ROUNDS: usize = 7;

/// Of the rate of `wasmtime serve`, by a guest of p2.
const GOAL_RATIO: f64 = 1.6;

/// Of the rate without a line on standard output.
const GOAL_LOGGING: f64 = 0.8;

/// Measures an instance a request (p2), instances that are used again (p3), and a guest that prints.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    bench.fixture.load(Image::Wasmguests)?;
    let mut rows = against_the_loop(bench, "http_hello", "http_hello.wasm", "", Some(GOAL_RATIO))?;
    rows.extend(against_the_loop(bench, "http_p3_hello", "p3_http.wasm", "hello", None)?);
    for runtime in bench.options.wasm_runtimes() {
        rows.extend(logging(bench, runtime)?);
    }
    Ok(rows)
}

/// What a server does under load, a figure a round.
struct Series {
    server: Server,
    path: &'static str,
    loads: Vec<Load>,
}

impl Series {
    fn new(server: Server, path: &'static str) -> Self {
        Self { server, path, loads: Vec::new() }
    }

    fn rates(&self) -> Vec<f64> {
        self.loads.iter().map(|load| load.rate).collect()
    }

    /// The figures without a goal.
    fn rows(&self, figure: &str) -> Result<Vec<Row>> {
        let median =
            |of: fn(&Load) -> f64| stats::median(&self.loads.iter().map(of).collect::<Vec<_>>());
        let row = |name: &str, value, unit| {
            Row::new(format!("{figure}_{name}"), self.server.name(), value, unit)
        };
        Ok(vec![
            row("rate", median(|load| load.rate)?, "1/s"),
            row("p50", median(|load| load.p50)?, "ms"),
            row("p99", median(|load| load.p99)?, "ms"),
        ])
    }
}

fn against_the_loop(
    bench: &Bench,
    figure: &str,
    guest: &str,
    path: &'static str,
    goal: Option<f64>,
) -> Result<Vec<Row>> {
    bench.say(&format!(
        "{figure}: {ROUNDS} interleaved rounds after one to warm up, {} connections",
        wrk::CONNECTIONS
    ))?;
    let mut all = vec![Series::new(Server::serve_loop(guest)?, path)];
    for runtime in bench.options.wasm_runtimes() {
        all.push(Series::new(Server::container(bench, runtime, guest)?, path));
    }
    rounds(bench, &mut all)?;
    let mut rows = Vec::new();
    let serve = all[0].rates();
    for series in &all {
        rows.extend(series.rows(figure)?);
        if !series.server.is_container() {
            continue;
        }
        let ratio = ratio(&series.rates(), &serve)?;
        let row = Row::new(format!("{figure}_ratio_to_serve"), series.server.name(), ratio, "x");
        rows.push(match goal {
            Some(goal) => row.at_least(goal),
            None => row,
        });
    }
    end(bench, all)?;
    Ok(rows)
}

/// The same server answers with and without a line to its output, which goes to a file.
///
/// A guest that prints through its language's library has an adapter between the library and WASI p2, as `/env` does. In every new
/// instance it makes the memory grow for itself first, which costs more than the line does.
fn logging(bench: &Bench, runtime: Runtime) -> Result<Vec<Row>> {
    let server = Server::container(bench, runtime, "http_app.wasm")?;
    bench.say(&format!("http_log: with and without a line a request, by {}", server.name()))?;
    let mut all = ["hello", "log", "println", "env"].map(|path| Series::new(server.clone(), path));
    rounds(bench, &mut all)?;
    let mut rows = Vec::new();
    for series in &all {
        rows.extend(series.rows(&format!("http_app_{}", series.path))?);
    }
    let [quiet, log, println, env] = all.each_ref().map(Series::rates);
    let row = |figure: &str, ratio| Row::new(figure, server.name(), ratio, "x");
    rows.extend([
        row("http_log_ratio_to_quiet", ratio(&log, &quiet)?).at_least(GOAL_LOGGING),
        row("http_println_ratio_to_quiet", ratio(&println, &quiet)?),
        row("http_println_ratio_to_env", ratio(&println, &env)?),
    ]);
    server.end(bench)?;
    Ok(rows)
}

fn rounds(bench: &Bench, all: &mut [Series]) -> Result<()> {
    for round in 0..=ROUNDS {
        let mut order: Vec<usize> = (0..all.len()).collect();
        fastrand::shuffle(&mut order);
        for place in order {
            bench.interrupt.check()?;
            let series = &mut all[place];
            let load = wrk::load(series.server.address(), series.path);
            let load =
                load.with_context(|| format!("{} at /{}", series.server.name(), series.path))?;
            if round > 0 {
                series.loads.push(load);
            }
        }
    }
    Ok(())
}

/// The median of the ratios within the rounds.
fn ratio(ours: &[f64], theirs: &[f64]) -> Result<f64> {
    stats::median(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
}

fn end(bench: &Bench, all: Vec<Series>) -> Result<()> {
    all.into_iter().try_for_each(|series| series.server.end(bench))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_is_taken_within_rounds() {
        // A machine that is slow for a round is slow for both.
        assert_eq!(ratio(&[200.0, 20.0, 210.0], &[100.0, 10.0, 100.0]).unwrap(), 2.0);
    }
}
