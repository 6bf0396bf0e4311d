//! `--chaos SECONDS`: pods of each runtime while containerd, what serves the pods and the client that wants them are killed at
//! random, by SIGKILL. Then the pods that are wanted have to be there, and nothing else, and nothing may be left after their
//! removal. Called by `main` in the place of the benchmarks.

use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::network::on_own_host;
use runwasi_tests::{Pods, Runtime};

use crate::interrupt::Interrupt;
use crate::pods::{Way, ways};

/// Pods that are wanted.
const PODS: usize = 8;

/// Kills for this time on each runtime.
pub(crate) fn run(
    runtimes: &[Runtime],
    time: Duration,
    interrupt: &Interrupt,
    say: &dyn Fn(&str) -> Result<()>,
) -> Result<()> {
    for way in ways(runtimes) {
        interrupt.check()?;
        say(&format!("{PODS} pods of {}, kills for {time:?}", way.name()))?;
        let told = on_own_host(|| kill(way, time));
        say(&told.with_context(|| format!("pods of {}", way.name()))?)?;
    }
    Ok(())
}

fn kill(way: Way, time: Duration) -> Result<String> {
    let mut pods = Pods::start(way.runtime, &way.setup())?;
    let kills = pods.kill_at_random(PODS, time)?;
    pods.becomes_clean_after_removal()?;
    let server = if way.runtime.needs_daemon() { "the daemon" } else { "shims" };
    Ok(format!(
        "{}: containerd killed {} times, {server} {}, the client {} of {} times; {} pods and containers made; \
         the wanted ones are there, nothing is left",
        way.name(),
        kills.containerd,
        kills.server,
        kills.client,
        kills.rounds,
        kills.made,
    ))
}
