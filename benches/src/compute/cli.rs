//! The programs under wasmtime's command line, compiled in advance; used by the parent module.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;
use runwasi_tests::proc::TICKS;

use super::work::{Call, Code, DIRECTORY, Work};

/// Runs whose mean counts: the kernel tells the CPU time of children in steps of 10 ms.
const RUNS: u32 = 8;

/// Far above what any of it takes.
const LIMIT: Duration = Duration::from_secs(120);

/// CPU time of one run, of all its threads. The start of the process is in it: some milliseconds.
pub(super) fn cpu_time(program: &Path, code: &Code, work: &Work) -> Result<Duration> {
    let Call::Main(args) = &work.call else { anyhow::bail!("{} is no program", work.name) };
    let place = tempfile::tempdir()?;
    let (source, compiled) =
        (place.path().join("program.wasm"), place.path().join("program.cwasm"));
    std::fs::write(&source, code.source()?)?;
    let compile = Command::new(program).args(["compile", "-o"]).args([&compiled, &source]);
    compile.deadline(LIMIT).run()?.ok()?;
    let mut sum = Duration::ZERO;
    for run in 0..=RUNS {
        let directory = format!("{DIRECTORY}::/");
        let command =
            Command::new(program).args(["run", "--allow-precompiled", "--dir", &directory]);
        let (name, rest) = args.split_first().context("a program has a name")?;
        let command = command.args(["--argv0", name]).args([&compiled]).args(rest);
        let before = of_children()?;
        let ended = command.deadline(LIMIT).run()?;
        ensure!(i64::from(ended.status) == work.result, "{ended}");
        // The first one fills caches.
        if run > 0 {
            sum += of_children()?.saturating_sub(before);
        }
    }
    Ok(sum / RUNS)
}

/// CPU time of the children of this process that have ended, by `proc_pid_stat(5)`.
fn of_children() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    children_in(&stat).context("no CPU time of children in /proc/self/stat")
}

fn children_in(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let ticks = rest.split_whitespace().skip(13).take(2).map(str::parse::<u32>);
    let ticks = ticks.collect::<Result<Vec<_>, _>>().ok().filter(|both| both.len() == 2)?;
    Some(Duration::from_secs(ticks.iter().map(|ticks| u64::from(*ticks)).sum()) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_the_sixteenth_and_seventeenth_field() {
        let stat = "77 (a) b) S 5 77 77 0 -1 4194560 1 0 0 0 30 12 40 2 20 0";
        assert_eq!(children_in(stat), Some(Duration::from_millis(420)));
        assert_eq!(children_in("77 (a) S 5"), None);
    }
}
