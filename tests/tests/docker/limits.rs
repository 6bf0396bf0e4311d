//! Limits and what Docker shows of them; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Docker;
use serde_json::Value;

const MIB: f64 = 1_048_576.0;

pub(crate) fn memory_limit_is_an_oom_kill(d: &mut Docker) -> Result<()> {
    // Not at once: runc's shim sees only what is killed after it has answered Start.
    d.detached("over", &["--memory", "32m", "--memory-swap", "32m"], &["alloc-later", "64"])?;
    let over = d.becomes("over", "ended", |state| state.status == "exited")?;
    ensure!(over.oom_killed && over.exit_code == 137, "{over:?}");
    d.detached("below", &["--memory", "64m", "--memory-swap", "64m"], &["alloc", "16"])?;
    let below = d.becomes("below", "ended", |state| state.status == "exited")?;
    ensure!(!below.oom_killed && below.exit_code == 0, "{below:?}");
    Ok(())
}

pub(crate) fn limits_are_shown_and_changed(d: &mut Docker) -> Result<()> {
    let flags = ["--memory", "64m", "--memory-swap", "64m", "--cpus", "0.5"];
    d.detached("main", &flags, &["hold", "20"])?;
    let held = runwasi_tests::poll_until("20 MiB in use", runwasi_tests::docker::LONG, || {
        stats(d, "main").ok().filter(|(used, _)| *used >= 20.0 * MIB)
    });
    let (used, limit) = held.with_context(|| format!("last: {:?}", stats(d, "main")))?;
    ensure!(limit == 64.0 * MIB && used < 64.0 * MIB, "{used} of {limit}");
    d.says(&["update", "--memory", "128m", "--memory-swap", "128m", "--cpus", "1", "main"])?;
    let (_, limit) = stats(d, "main")?;
    ensure!(limit == 128.0 * MIB, "{limit}");
    d.detached("more", &flags, &["sleep", "1000"])?;
    let over = d.exec(&[], "more", &["alloc", "100"]).run()?;
    ensure!(over.status == 137, "{over}");
    Ok(())
}

/// Memory in use and its limit, in bytes, by `docker stats --no-stream`.
fn stats(d: &Docker, name: &str) -> Result<(f64, f64)> {
    let text = d.says(&["stats", "--no-stream", "--format", "{{json .}}", name])?;
    let value: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let memory = value["MemUsage"].as_str().with_context(|| text.clone())?;
    let (used, limit) = memory.split_once(" / ").with_context(|| text.clone())?;
    Ok((bytes(used)?, bytes(limit)?))
}

/// `20.5MiB`.
fn bytes(text: &str) -> Result<f64> {
    for (unit, factor) in [("KiB", 1024.0), ("MiB", MIB), ("GiB", 1024.0 * MIB), ("B", 1.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Ok(number.parse::<f64>().with_context(|| text.to_owned())? * factor);
        }
    }
    anyhow::bail!("no size: {text}")
}
