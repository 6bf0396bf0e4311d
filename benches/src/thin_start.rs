//! How long the thin shim's `start` takes as an OS process, and how large the program is; called by `main`.
//!
//! A round runs `/bin/true` and the shim, in a random order and in the same way, so what starting any OS process takes
//! here can be told from the shim's own part.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Runtime;

use crate::fake_containerd::{Container, FakeContainerd, Storage};
use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};

/// Rounds that are run and dropped: they fill the page cache.
const WARM_UP: usize = 3;

/// The most the whole run may take, in milliseconds.
const GOAL: f64 = 3.0;

/// The most the stripped program may take on disk, in megabytes of a million bytes.
const GOAL_SIZE: f64 = 3.0;

const RUNTIME: Runtime = Runtime::Wasmtimed;

/// The times of the rounds in milliseconds.
#[derive(Default)]
struct Times {
    shim: Vec<f64>,
    nothing: Vec<f64>,
    /// Of an earlier build.
    before: Vec<f64>,
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    if !bench.options.runtimes.contains(&RUNTIME) {
        return Ok(Vec::new());
    }
    let rounds = bench.options.rounds;
    bench
        .say(&format!("start of {} and /bin/true, {rounds} interleaved rounds", RUNTIME.shim()))?;
    let before = bench.options.before.as_deref();
    let mut rows =
        FakeContainerd::with_before(RUNTIME, before, Storage::Memory, |fake, before| {
            let mut times = Times::default();
            for round in 0..WARM_UP + rounds {
                bench.interrupt.check()?;
                let container = fake.container(&format!("thin{round}"), &[])?;
                let (shim, nothing) = pair(fake, &container)?;
                let earlier =
                    before.map(|fake| start(fake, &fake.container(&format!("thin{round}"), &[])?));
                let earlier = earlier.transpose()?;
                if round >= WARM_UP {
                    times.shim.push(shim);
                    times.nothing.push(nothing);
                    times.before.extend(earlier);
                }
            }
            figures(&times)
        })?;
    rows.push(
        Row::new("thin_start_size", short(RUNTIME), stripped_size()? as f64 / 1e6, "MB")
            .at_most(GOAL_SIZE),
    );
    Ok(rows)
}

/// One of each, in a random order.
fn pair(fake: &FakeContainerd, container: &Container) -> Result<(f64, f64)> {
    let first = fastrand::bool();
    let mut nothing = 0.0;
    if first {
        nothing = took(Command::new("/bin/true"))?;
    }
    let shim = start(fake, container)?;
    if !first {
        nothing = took(Command::new("/bin/true"))?;
    }
    Ok((shim, nothing))
}

/// One `start`; the sandbox is gone afterwards.
fn start(fake: &FakeContainerd, container: &Container) -> Result<f64> {
    let shim = took(fake.start_command(container)?)?;
    fake.shim_driver().delete(&container.id, container.bundle.path())?.ok()?;
    Ok(shim)
}

/// From before the spawn until the end was seen and its output read, as containerd reads the address.
fn took(mut command: Command) -> Result<f64> {
    let begin = Instant::now();
    let ended = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    let said = String::from_utf8_lossy(&ended.stderr);
    ensure!(
        ended.status.success(),
        "{command:?}: {}, {said}{}",
        ended.status,
        String::from_utf8_lossy(&ended.stdout)
    );
    Ok(took)
}

fn figures(times: &Times) -> Result<Vec<Row>> {
    let row = |name, value| Row::new(name, short(RUNTIME), value, "ms");
    let above = stats::difference(&times.shim, &times.nothing)?;
    let mut rows = vec![
        row("thin_start_median", stats::median(&times.shim)?).at_most(GOAL),
        row("thin_start_p90", stats::quantile(&times.shim, 0.9)?),
        row("thin_start_of_true", stats::median(&times.nothing)?),
        row("thin_start_above_true", above.median),
        row("thin_start_above_true_ci95_low", above.low),
        row("thin_start_above_true_ci95_high", above.high),
    ];
    if !times.before.is_empty() {
        let ratios = times.shim.iter().zip(&times.before).map(|(now, before)| now / before);
        let ratio = stats::median(&ratios.collect::<Vec<_>>())?;
        rows.push(Row::new("thin_start_to_before", short(RUNTIME), ratio, "x"));
    }
    Ok(rows)
}

/// The size of a stripped copy.
fn stripped_size() -> Result<u64> {
    let program = RUNTIME.program_file().context("the shim is no program of the workspace")?;
    let copy = std::env::temp_dir().join(format!("stripped-{}", std::process::id()));
    let stripped = runwasi_tests::Command::new("strip")
        .args([OsStr::new("-o"), copy.as_os_str(), program.as_os_str()])
        .run();
    let size = stripped.and_then(|output| output.ok()).and_then(|_| Ok(fs::metadata(&copy)?.len()));
    // Not there if stripping failed, and that is told.
    fs::remove_file(&copy).ok();
    size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_run_is_judged_and_the_difference_is_told() {
        let times = Times { shim: vec![3.5; 20], nothing: vec![1.0; 20], before: vec![7.0; 20] };
        let rows = figures(&times).unwrap();
        let judged: Vec<_> =
            rows.iter().filter_map(|row| Some((row.name.as_str(), row.met()?))).collect();
        assert_eq!(judged, [("thin_start_median", false)]);
        let above = rows.iter().find(|row| row.name == "thin_start_above_true").unwrap();
        assert_eq!(above.value, 2.5);
        assert_eq!(rows.iter().find(|row| row.unit == "x").unwrap().value, 0.5);
    }

    #[test]
    fn a_run_that_fails_is_no_measurement() {
        assert!(took(Command::new("/bin/false")).is_err());
        assert!(took(Command::new("/bin/true")).unwrap() > 0.0);
    }
}
