//! A night on a node. What happened is read by the logs, by the metrics and by the commands, each of
//! them alone.
//!
//! | question | log | metrics | commands |
//! |---|---|---|---|
//! | Who has run out of memory? | `cause=oom` | how many | `events` |
//! | Who was slow, and why? | `container throttled` | how long | `inspect` |
//! | Who has crashed, and how? | `cause=trap` | how many | `events` |
//! | Was the daemon replaced? | `took over` | `retired` | `status` |
//! | Was compiled code damaged? | path and reason | how often, and compiled again | `cache verify` |

mod by_commands;
mod by_log;
mod by_metrics;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::code::{CodeFixture, run_code_case};
use runwasi_tests::exposition::{Scrape, become_equal};
use runwasi_tests::http;
use runwasi_tests::log::{Line, text};
use runwasi_tests::{Runtime, poll_until};

/// Longest time until a throttled container is told, and until a daemon has ended.
const LONG: Duration = Duration::from_secs(60);

/// Memory limit of the guest that leaks.
const LIMIT: u32 = 32 << 20;

const MODULE: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// What happened, as the test knows it.
struct Night {
    leaky: String,
    busy: String,
    broken: String,
    /// Pids of the daemon and of its successor.
    daemons: [u32; 2],
    /// Digest of the artifact whose code was damaged.
    digest: String,
    damaged: PathBuf,
}

#[track_caller]
pub(crate) fn check(
    runtime: Runtime,
    case: impl FnOnce(&mut CodeFixture, SocketAddr) -> Result<()>,
) {
    let metrics = http::address();
    let settings = format!("metrics-address = \"{metrics}\"\n");
    run_code_case(CodeFixture::new(runtime, "cache", &settings, None), |c| case(c, metrics));
}

/// The lines with this message, in their order.
fn lines(log: &str, message: &str) -> Vec<Line> {
    log.lines().filter_map(text).filter(|line| line["msg"] == message).collect()
}

/// Changes a byte in the middle of the only file of compiled code of a module.
fn damage(c: &CodeFixture, digest: &str) -> Result<PathBuf> {
    let name = digest.trim_start_matches("sha256:");
    let is_of = |file: &String| file.contains(name);
    let file = c.kept().into_iter().find(is_of).with_context(|| format!("{:?}", c.kept()))?;
    let file = c.cache.join(file);
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes)?;
    Ok(file)
}

pub(crate) fn what_happened_in_the_night_is_told_by_log_metrics_and_commands(
    c: &mut CodeFixture,
    metrics: SocketAddr,
) -> Result<()> {
    let [leaky, busy, broken, job] = ["leaky", "busy", "broken", "job"].map(|name| c.id(name));
    c.module("job.wat", MODULE)?;
    c.start(&["--rm"], &job, "job.wat").run()?.ok()?;

    // A guest spins in its quota, as long as the others need and longer.
    c.detached_with(&["--cpu-quota", "20000", "--cpu-period", "100000"], &busy, &["spin"])?;
    // Another one leaks.
    let flags = ["--rm", "--memory-limit", &LIMIT.to_string()];
    c.run_command(&flags, &leaky, &["alloc", "512"]).run()?.status_is(137)?;
    // A third one traps.
    c.run(&broken, &["trap"])?.status_is(134)?;
    poll_until("a line about the throttling", LONG, || {
        (!lines(&c.log(), "container throttled").is_empty()).then_some(())
    })?;
    let evening = Scrape::of(metrics)?;
    let inspected = by_commands::inspect(c, &busy)?;
    // The cache is damaged.
    let digest = lines(&c.log(), "artifact compiled")
        .into_iter()
        .find(|line| line["container"] == job)
        .context("no line about the compilation")?["digest"]
        .clone();
    let damaged = damage(c, &digest)?;
    let verified = by_commands::verify(c)?;
    // The daemon is upgraded. The new one finds the damaged code.
    let mut old = c.fixture.replace_daemon()?;
    let daemons = [old.pid()?, c.fixture.daemon()?.pid()?];
    c.start(&["--rm"], &c.id("later"), "job.wat").run()?.ok()?;
    let deleted = (r#"runwasi_deletes_total{kind="container"}"#, 1.0);
    let morning = become_equal(metrics, &[deleted])?;
    let asked = by_commands::ask(c)?;
    ensure!(c.kill_and_finish(&busy)? == 137);
    ensure!(old.ends(LONG)? == 0, "the old daemon");
    c.fixture.becomes_clean()?;

    let night = Night { leaky, busy, broken, daemons, digest, damaged };
    by_log::answers(&c.log(), &night).context("by the log")?;
    by_metrics::answers(&evening, &morning, &night).context("by the metrics")?;
    by_commands::answers((&inspected, &verified), &asked, &night).context("by the commands")
}
