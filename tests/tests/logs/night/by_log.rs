//! The night, read from the log by its words and fields.

use anyhow::{Result, ensure};
use runwasi_tests::log::{Line, has, number};

use super::{LIMIT, Night, lines};

/// The single line about the end of a container.
fn end(log: &str, container: &str) -> Result<Line> {
    let mut ends = lines(log, "container exited");
    ends.retain(|line| line["container"] == container);
    ensure!(ends.len() == 1, "{container}: {ends:?}");
    Ok(ends.remove(0))
}

pub(super) fn answers(log: &str, night: &Night) -> Result<()> {
    // Who has run out of memory, and at what size?
    let ended = end(log, &night.leaky)?;
    let limit = LIMIT.to_string();
    has(&ended, &[("cause", "oom"), ("status", "137"), ("memory_limit", &limit)])?;
    ensure!(number(&ended, "memory_peak")? <= f64::from(LIMIT), "{ended:?}");
    // Who was slow, and why?
    let throttled = lines(log, "container throttled");
    ensure!(throttled.iter().all(|line| line["container"] == night.busy), "{throttled:?}");
    ensure!(number(&throttled[0], "throttled_seconds")? > 5.0, "{throttled:?}");
    // Who has crashed, and how?
    let ended = end(log, &night.broken)?;
    has(&ended, &[("cause", "trap"), ("trap", "wasm `unreachable` instruction executed")])?;
    upgrade(log, night)?;
    damage(log, night)
}

/// Was the daemon replaced? By which version, and did containers of the old one go on?
fn upgrade(log: &str, night: &Night) -> Result<()> {
    let (took_over, serving) = (lines(log, "took over"), lines(log, "serving"));
    ensure!(took_over.len() == 1 && serving.len() == 2, "{took_over:?} {serving:?}");
    let old = night.daemons[0].to_string();
    ensure!(serving[0]["pid"] == old, "{serving:?}");
    has(&took_over[0], &[("pid", &old), ("version", &serving[0]["version"])])?;
    let ended = end(log, &night.busy)?;
    has(&ended, &[("cause", "signal"), ("signal", "9")])?;
    ensure!(ended["time"] > took_over[0]["time"], "{ended:?} {took_over:?}");
    Ok(())
}

/// Was compiled code damaged, and what came of it?
fn damage(log: &str, night: &Night) -> Result<()> {
    // Each look at it is told.
    let distrusted = lines(log, "compiled code is not trusted, compiling again");
    let path = night.damaged.display().to_string();
    let is_of = |line: &Line| line["path"] == path && line["error"] == "damaged";
    ensure!(!distrusted.is_empty() && distrusted.iter().all(is_of), "{distrusted:?}");
    let compiled = lines(log, "artifact compiled");
    let again = compiled.iter().filter(|line| line["digest"] == night.digest).count();
    ensure!(again == 2, "{compiled:?}");
    Ok(())
}
