//! Metrics across a reload and a crash; the cases are listed in `main.rs`.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::exposition::{Scrape, become_equal};
use runwasi_tests::shim::LIMIT;

pub(crate) fn successor_serves_the_series_of_its_predecessor(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let [old, new] = ["old", "new"].map(|name| c.id(name));
    c.detached(&old, &["sleep", "100"])?;
    let start = "process_start_time_seconds";
    let began = Scrape::of(metrics)?.value(start)?;
    let mut replaced = c.fixture.replace_daemon()?;
    let pid = replaced.pid()?;
    let running = r#"runwasi_containers{state="running"}"#;
    let retired = format!(r#"runwasi_containers{{state="running",retired="{pid}"}}"#);
    let state = format!(r#"runwasi_daemon_state{{state="retired",retired="{pid}"}}"#);
    let scrape = become_equal(metrics, &[(running, 0.0), (&retired, 1.0), (&state, 1.0)])?;
    let [of_retired, of_present] = [format!("{start}{{retired=\"{pid}\"}}"), start.to_owned()]
        .map(|series| scrape.value(&series));
    ensure!(of_retired? == began && of_present? > began, "{}", scrape.text);
    c.detached(&new, &["sleep", "100"])?;
    become_equal(metrics, &[(running, 1.0), (&retired, 1.0)])?;
    // Samples of one family stay together, as Prometheus demands.
    let families = scrape.text.lines().filter(|line| line.starts_with("# TYPE "));
    let mut names: Vec<_> = families.collect();
    let number = names.len();
    names.sort_unstable();
    names.dedup();
    ensure!(names.len() == number, "a family is there twice");
    ensure!(c.kill_and_finish(&old)? == 137);
    ensure!(replaced.ends(LIMIT).context("after its last sandbox")? == 0);
    let scrape = become_equal(metrics, &[(running, 1.0)])?;
    ensure!(!scrape.text.contains("retired=\""), "{}", scrape.text);
    ensure!(c.kill_and_finish(&new)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn killed_daemon_leaves_its_port_to_the_next(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let id = c.id("gone");
    c.detached(&id, &["sleep", "100"])?;
    c.fixture.daemon()?.kill9()?;
    ensure!(Scrape::of(metrics).is_err());
    c.restart_daemon()?;
    c.is_taken_away(&id)?;
    become_equal(metrics, &[(r#"runwasi_containers{state="running"}"#, 0.0)])?;
    c.fixture.becomes_clean()
}
