//! A night on a node: what happened is read from the log alone, by its words and fields.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::code::{CodeFixture, run_code_case};
use runwasi_tests::log::{Line, has, number, text};
use runwasi_tests::{Runtime, poll_until};

/// Longest time until a throttled container is told.
const LONG: Duration = Duration::from_secs(60);

const MODULE: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut CodeFixture) -> Result<()>) {
    run_code_case(CodeFixture::new(runtime, "cache", "", None), case);
}

/// The lines with this message, in their order.
fn lines(log: &str, message: &str) -> Vec<Line> {
    log.lines().filter_map(text).filter(|line| line["msg"] == message).collect()
}

/// The single line about the end of a container.
fn end(log: &str, container: &str) -> Result<Line> {
    let mut ends = lines(log, "container exited");
    ends.retain(|line| line["container"] == container);
    ensure!(ends.len() == 1, "{container}: {ends:?}");
    Ok(ends.remove(0))
}

/// Changes a byte in the middle of the only file of compiled code of a module.
fn damage(c: &CodeFixture, digest: &str) -> Result<()> {
    let is_of = |name: &String| name.contains(digest);
    let name = c.kept().into_iter().find(is_of).with_context(|| format!("{:?}", c.kept()))?;
    let file = c.cache.join(name);
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    Ok(fs::write(&file, bytes)?)
}

pub(crate) fn log_answers_what_happened_in_the_night(c: &mut CodeFixture) -> Result<()> {
    let [leaky, busy, broken, job] = ["leaky", "busy", "broken", "job"].map(|name| c.id(name));
    c.module("job.wat", MODULE)?;
    c.start(&["--rm"], &job, "job.wat").run()?.ok()?;

    // A guest spins in its quota, as long as the others need and longer.
    c.detached_with(&["--cpu-quota", "20000", "--cpu-period", "100000"], &busy, &["spin"])?;
    // Another one leaks.
    let limit = (32_u64 << 20).to_string();
    let flags = ["--rm", "--memory-limit", &limit];
    c.run_command(&flags, &leaky, &["alloc", "512"]).run()?.status_is(137)?;
    // A third one traps.
    c.run(&broken, &["trap"])?.status_is(134)?;
    // The cache is damaged.
    let digest = lines(&c.log(), "artifact compiled")
        .into_iter()
        .find(|line| line["container"] == job)
        .context("no line about the compilation")?["digest"]
        .clone();
    damage(c, digest.trim_start_matches("sha256:"))?;
    poll_until("a line about the throttling", LONG, || {
        (!lines(&c.log(), "container throttled").is_empty()).then_some(())
    })?;
    // The daemon is upgraded. The new one finds the damaged code.
    let mut old = c.fixture.replace_daemon()?;
    c.start(&["--rm"], &c.id("later"), "job.wat").run()?.ok()?;
    ensure!(c.kill_and_finish(&busy)? == 137);
    ensure!(old.ends(LONG)? == 0, "the old daemon");
    c.fixture.becomes_clean()?;

    let log = c.log();
    // Who has run out of memory, and at what size?
    let ended = end(&log, &leaky)?;
    has(&ended, &[("cause", "oom"), ("status", "137"), ("memory_limit", &limit)])?;
    ensure!(number(&ended, "memory_peak")? <= f64::from(32 << 20), "{ended:?}");
    // Who was slow, and why?
    let throttled = lines(&log, "container throttled");
    ensure!(throttled.iter().all(|line| line["container"] == busy), "{throttled:?}");
    ensure!(number(&throttled[0], "throttled_seconds")? > 5.0, "{throttled:?}");
    // Who has crashed, and how?
    let ended = end(&log, &broken)?;
    has(&ended, &[("cause", "trap"), ("trap", "wasm `unreachable` instruction executed")])?;
    // Was the daemon replaced? By which version, and did containers of the old one go on?
    let (took_over, serving) = (lines(&log, "took over"), lines(&log, "serving"));
    ensure!(took_over.len() == 1 && serving.len() == 2, "{took_over:?} {serving:?}");
    has(&took_over[0], &[("pid", &serving[0]["pid"]), ("version", &serving[0]["version"])])?;
    let ended = end(&log, &busy)?;
    has(&ended, &[("cause", "signal"), ("signal", "9")])?;
    ensure!(ended["time"] > took_over[0]["time"], "{ended:?} {took_over:?}");
    // Was compiled code damaged, and what came of it?
    // Each look at it is told.
    let distrusted = lines(&log, "compiled code is not trusted, compiling again");
    let name = digest.trim_start_matches("sha256:");
    let is_of = |line: &Line| line["path"].contains(name) && line["error"] == "damaged";
    ensure!(!distrusted.is_empty() && distrusted.iter().all(is_of), "{distrusted:?}");
    let compiled = lines(&log, "artifact compiled");
    let again = compiled.iter().filter(|line| line["digest"] == digest).count();
    ensure!(again == 2, "{compiled:?}");
    Ok(())
}
