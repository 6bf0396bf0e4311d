//! Metrics across a reload and a crash; the cases are listed in `main.rs`.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::ask::command;
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

pub(crate) fn drained_daemon_serves_its_series_to_its_end_or_to_a_successor(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let running = r#"runwasi_containers{state="running"}"#;
    let state = r#"runwasi_daemon_state{state="retired"}"#;
    let [last, kept] = ["last", "kept"].map(|name| c.id(name));
    c.detached(&last, &["sleep", "100"])?;
    drain_to_the_limit(c)?;
    become_equal(metrics, &[(running, 1.0), (state, 1.0)])?;
    ensure!(c.kill_and_finish(&last)? == 137);
    ensure!(c.fixture.daemon()?.ends(LIMIT)? == 0);
    c.fixture.daemon()?.start_again()?;
    c.detached(&kept, &["sleep", "100"])?;
    drain_to_the_limit(c)?;
    let mut drained = c.fixture.replace_daemon()?;
    let retired = format!(r#"runwasi_containers{{state="running",retired="{}"}}"#, drained.pid()?);
    become_equal(metrics, &[(running, 0.0), (&retired, 1.0)])?;
    ensure!(c.kill_and_finish(&kept)? == 137);
    ensure!(drained.ends(LIMIT)? == 0);
    c.fixture.becomes_clean()
}

/// The drained daemon has no sandbox itself.
pub(crate) fn drained_daemon_serves_the_series_of_its_predecessor_to_the_end_of_that(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let id = c.id("old");
    c.detached(&id, &["sleep", "100"])?;
    let mut replaced = c.fixture.replace_daemon()?;
    drain_to_the_limit(c)?;
    let running = format!(r#"runwasi_containers{{state="running",retired="{}"}}"#, replaced.pid()?);
    let state = r#"runwasi_daemon_state{state="retired"}"#;
    become_equal(metrics, &[(&running, 1.0), (state, 1.0)])?;
    ensure!(c.kill_and_finish(&id)? == 137);
    ensure!(replaced.ends(LIMIT)? == 0);
    ensure!(c.fixture.daemon()?.ends(LIMIT).context("after the last daemon")? == 0);
    c.fixture.daemon()?.start_again()?;
    c.fixture.becomes_clean()
}

/// A node that was reloaded often, with pods of each time.
pub(crate) fn series_of_ten_replaced_daemons_are_all_there(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let mut replaced = Vec::new();
    for n in 0..10 {
        let id = c.id(&format!("of{n}"));
        c.detached(&id, &["sleep", "100"])?;
        replaced.push((id, c.fixture.replace_daemon()?));
    }
    let mut names = Vec::new();
    for (_, daemon) in &replaced {
        let pid = daemon.pid()?;
        names.push(format!(r#"runwasi_containers{{state="running",retired="{pid}"}}"#));
    }
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0)).collect();
    become_equal(metrics, &wanted)?;
    for (id, mut daemon) in replaced {
        ensure!(c.kill_and_finish(&id)? == 137);
        ensure!(daemon.ends(LIMIT)? == 0);
    }
    c.fixture.becomes_clean()
}

/// A drain that has left a daemon its sandbox, and a second to give up its address.
fn drain_to_the_limit(c: &Containers) -> Result<()> {
    let late = command(c, &["drain", "--timeout", "1"]).run()?.status_is(1)?;
    ensure!(late.err().contains("at the time limit"), "{late}");
    Ok(())
}
