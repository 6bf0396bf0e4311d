//! Figures of the process, and of what waits: for a worker, for a file system, for containerd. The cases over
//! containers are listed in `main.rs`.

use std::fs;
use std::net::SocketAddr;
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::exposition::{Scrape, become_equal, grow};
use runwasi_tests::hostile::hung::Hung;
use runwasi_tests::{Containers, http, poll_until, proc};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{daemon, scraped};

const SOON: Duration = Duration::from_secs(20);

/// Number of threads, or of files, that may come or go between two looks.
const FEW: f64 = 16.0;

#[test]
fn figures_of_the_process_are_those_of_the_kernel() -> Result<()> {
    let address = http::address();
    let (_home, mut daemon) = daemon(scraped(Settings::default(), address))?;
    let pid = daemon.pid()?;
    let scrape = Scrape::of(address)?;
    let near = |series: &str, kernel: f64, most: f64| {
        let value = scrape.value(series)?;
        ensure!((value - kernel).abs() <= most, "{series} is {value}, by the kernel {kernel}");
        Ok(())
    };
    near("process_threads", proc::threads(pid)? as f64, FEW)?;
    near("process_open_fds", proc::fds(pid)? as f64, FEW)?;
    let resident = proc::memory(pid, "VmRSS")? as f64;
    near("process_resident_memory_bytes", resident, resident / 2.0)?;
    let space = proc::memory(pid, "VmSize")? as f64;
    near("process_virtual_memory_bytes", space, space / 10.0)?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits"))?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let files = files.and_then(|rest| rest.split_whitespace().next()).context(limits.clone())?;
    near("process_max_fds", files.parse()?, 0.0)?;
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

pub(crate) fn native_containers_are_counted(c: &mut Containers, metrics: SocketAddr) -> Result<()> {
    let native = "runwasi_native_containers";
    let before = become_equal(metrics, &[(native, 0.0)])?;
    let id = c.id("native");
    c.detached(&id, &["sleep", "100"])?;
    // The engine runs none of them.
    become_equal(metrics, &[(native, 1.0), (r#"runwasi_containers{state="running"}"#, 0.0)])?;
    ensure!(c.kill_and_finish(&id)? == 137);
    let grown = [
        (native, 0.0),
        (r#"runwasi_creates_total{kind="container"}"#, 1.0),
        (r#"runwasi_starts_total{kind="container"}"#, 1.0),
        (r#"runwasi_exits_total{kind="container",reason="killed"}"#, 1.0),
        (r#"runwasi_deletes_total{kind="container"}"#, 1.0),
    ];
    grow(metrics, &before, &grown)?;
    c.fixture.becomes_clean()
}

pub(crate) fn containers_without_a_worker_are_counted(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let waiting = "runwasi_containers_waiting";
    become_equal(metrics, &[(waiting, 0.0)])?;
    // More than the machine has processors, of which each guest wants one.
    let number = available_parallelism().map_or(2, NonZero::get) + 2;
    let ids: Vec<_> = (0..number).map(|n| c.id(&format!("spin{n}"))).collect();
    for id in &ids {
        c.detached(id, &["spin"])?;
    }
    poll_until("a container that waits", SOON, || {
        let value = Scrape::of(metrics).ok()?.value(waiting).ok()?;
        (value >= 1.0 && value <= number as f64).then_some(())
    })?;
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    become_equal(metrics, &[(waiting, 0.0)])?;
    c.fixture.becomes_clean()
}

pub(crate) fn file_calls_that_wait_in_the_kernel_are_counted(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let used = r#"runwasi_file_threads{state="used"}"#;
    let free = r#"runwasi_file_threads{state="free"}"#;
    let most = become_equal(metrics, &[(used, 0.0)])?.value(free)?;
    ensure!(most >= 1.0, "{most} threads");
    let dir = TempDir::new()?;
    let hung = Hung::mount(&dir.path().join("hung"))?;
    let id = c.id("reader");
    let volume =
        format!("type=bind,src={},dst=/hung,options=rbind", dir.path().join("hung").display());
    c.detached_with(&["--mount", &volume], &id, &["cat", "/hung/f"])?;
    poll_until("a read", SOON, || (hung.calls() >= 1).then_some(()))?;
    become_equal(metrics, &[(used, 1.0), (free, most - 1.0)])?;
    ensure!(c.kill_and_finish(&id)? == 137);
    drop(hung);
    become_equal(metrics, &[(used, 0.0), (free, most)])?;
    c.fixture.becomes_clean()
}

pub(crate) fn events_that_wait_for_containerd_are_counted(
    c: &mut Containers,
    metrics: SocketAddr,
) -> Result<()> {
    let waiting = "runwasi_events_waiting";
    let delivered = r#"runwasi_events_total{fate="delivered"}"#;
    let lost = r#"runwasi_events_total{fate="lost"}"#;
    let id = c.id("ends");
    c.detached(&id, &["sleep", "100"])?;
    // The creation and the start.
    become_equal(metrics, &[(waiting, 0.0), (delivered, 2.0)])?;
    let sandbox = Pid::from_raw(c.is_running(&id)?.pid.try_into()?).context("pid 0")?;
    c.fixture.stop()?;
    // Its end is an event that is not taken.
    kill_process(sandbox, Signal::KILL)?;
    become_equal(metrics, &[(waiting, 1.0), (delivered, 2.0), (lost, 0.0)])?;
    c.fixture.start_again()?;
    poll_until("the delivery", SOON, || {
        let now = Scrape::of(metrics).ok()?;
        let is_done = now.value(waiting).ok()? == 0.0 && now.value(delivered).ok()? >= 3.0;
        is_done.then_some(())
    })?;
    become_equal(metrics, &[(lost, 0.0)])?;
    c.is_taken_away(&id)?;
    c.fixture.becomes_clean()
}
