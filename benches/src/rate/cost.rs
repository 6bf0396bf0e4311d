//! What the log and the metrics cost a daemon: its CPU time for the same lives with and without them.
//!
//! Two daemons in turns: one that logs each life and one that logs nothing, one that is scraped and one without metrics.
//! CPU time, since the rate of a machine with other work differs by more from round to round than what is looked for.

use anyhow::Result;
use runwasi_tests::daemon::Settings;
use runwasi_tests::http;

use super::{PLANS, Round, pairs};
use crate::fake_containerd::FakeContainerd;
use crate::options::short;
use crate::results::Row;
use crate::scraper::Scraper;
use crate::{Bench, stats};

/// The most that either may add, in percent.
const GOAL: f64 = 3.0;

/// What the lines of each life add.
pub(super) fn of_log(bench: &Bench) -> Result<Row> {
    bench.say("rate: a daemon that logs each life beside one that logs nothing")?;
    let quiet = Settings::default().flags(["--log-level", "error"]);
    Ok(row("rate_log_cost", cost(bench, Settings::default(), quiet)?))
}

/// What metrics and their scrapes add.
pub(super) fn of_scrapes(bench: &Bench) -> Result<Row> {
    bench.say("rate: a daemon whose metrics are scraped beside one without them")?;
    let address = http::address();
    let served = Settings::default().flags(["--metrics-address", &address.to_string()]);
    let scraper = Scraper::start(address);
    let median = cost(bench, served, Settings::default());
    drop(scraper);
    Ok(row("rate_scrape_cost", median?))
}

fn row(name: &str, percent: f64) -> Row {
    Row::new(name, short(PLANS[0].runtime), percent, "%").at_most(GOAL)
}

/// The CPU time that the first settings add to that of the second, in percent: the median over pairs of rounds.
fn cost(bench: &Bench, dear: Settings, cheap: Settings) -> Result<f64> {
    let plan = &PLANS[0];
    let pairs = FakeContainerd::with_settings(plan.runtime, dear, plan.storage, |telling| {
        FakeContainerd::with_settings(plan.runtime, cheap, plan.storage, |quiet| {
            pairs(bench, plan, telling, quiet)
        })
    })?;
    stats::median(&pairs.iter().map(added).collect::<Vec<_>>())
}

/// Percent of CPU time that the first round took more than the second.
fn added([dear, cheap]: &[Round; 2]) -> f64 {
    (dear.cpu as f64 / cheap.cpu as f64 - 1.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_a_part_of_the_cheaper_round() {
        let round = |cpu| Round { rate: 1.0, cpu };
        assert_eq!(added(&[round(150), round(100)]), 50.0);
        assert_eq!(added(&[round(100), round(100)]), 0.0);
    }
}
