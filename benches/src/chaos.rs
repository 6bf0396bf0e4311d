//! `--chaos SECONDS`: pods of each runtime while containerd, what serves the pods and the client that wants them are killed at
//! random, by SIGKILL. Then the pods that are wanted have to be there, and nothing else, and nothing may be left after their
//! removal. Called by `main` in the place of the benchmarks.

use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::network::on_own_host;
use runwasi_tests::version::Version;
use runwasi_tests::{Pods, Runtime, Setup};

use crate::interrupt::Interrupt;
use crate::options::short;

/// Pods that are wanted.
const PODS: usize = 8;

/// Kills for this time on each runtime.
pub(crate) fn run(
    runtimes: &[Runtime],
    time: Duration,
    interrupt: &Interrupt,
    say: &dyn Fn(&str) -> Result<()>,
) -> Result<()> {
    for runtime in runtimes.iter().copied().filter(|runtime| *runtime != Runtime::Floor) {
        interrupt.check()?;
        say(&format!("{PODS} pods of {}, kills for {time:?}", short(runtime)))?;
        let told = on_own_host(|| kill(runtime, time));
        say(&told.with_context(|| format!("pods of {}", short(runtime)))?)?;
    }
    Ok(())
}

fn kill(runtime: Runtime, time: Duration) -> Result<String> {
    let mut pods = Pods::start(runtime, &Setup { version: Version::V2, ..Setup::default() })?;
    let kills = pods.kill_at_random(PODS, time)?;
    pods.becomes_clean_after_removal()?;
    let server = if runtime.needs_daemon() { "the daemon" } else { "shims" };
    Ok(format!(
        "{}: containerd killed {} times, {server} {}, the client {} of {} times; {} pods and containers made; \
         the wanted ones are there, nothing is left",
        short(runtime),
        kills.containerd,
        kills.server,
        kills.client,
        kills.rounds,
        kills.made,
    ))
}
