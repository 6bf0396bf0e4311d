//! Rounds of loads, and the figures of one server in all of them; used by `http` and `logging`.

use anyhow::{Context, Result};

use super::server::Server;
use super::wrk::{self, Load, Request};
use crate::results::Row;
use crate::{Bench, stats};

/// Rounds that count, after one to warm up.
pub(super) const ROUNDS: usize = 5;

/// What a server does under load, a figure a round.
pub(super) struct Series {
    pub(super) server: Server,
    request: Request,
    loads: Vec<Load>,
    /// CPU time of the server's OS process for each request, in microseconds.
    cpu: Vec<f64>,
}

impl Series {
    pub(super) fn new(server: Server, request: Request) -> Self {
        Self { server, request, loads: Vec::new(), cpu: Vec::new() }
    }

    pub(super) fn rates(&self) -> Vec<f64> {
        self.loads.iter().map(|load| load.rate).collect()
    }

    pub(super) fn cpu(&self) -> Vec<f64> {
        self.cpu.clone()
    }

    /// The figures without a goal.
    pub(super) fn rows(&self, figure: &str) -> Result<Vec<Row>> {
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

    /// Loads the server once.
    fn load(&mut self, counts: bool) -> Result<()> {
        let before = self.server.cpu()?;
        let load = wrk::load(self.server.address(), &self.request)?;
        let used = self.server.cpu()?.saturating_sub(before);
        if counts {
            self.cpu.push(used.as_secs_f64() * 1e6 / load.requests);
            self.loads.push(load);
        }
        Ok(())
    }
}

/// Loads all of them once a round, in a random order.
pub(super) fn rounds(bench: &Bench, all: &mut [Series]) -> Result<()> {
    for round in 0..=ROUNDS {
        let mut order: Vec<usize> = (0..all.len()).collect();
        fastrand::shuffle(&mut order);
        for place in order {
            bench.interrupt.check()?;
            let series = &mut all[place];
            let what = format!("{} with {}", series.server.name(), series.request);
            series.load(round > 0).context(what)?;
        }
    }
    Ok(())
}

/// The median of the ratios within the rounds.
pub(super) fn ratio(ours: &[f64], theirs: &[f64]) -> Result<f64> {
    stats::median(&ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
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
