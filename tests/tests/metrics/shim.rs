//! Metrics of shims per pod; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::exposition::Scrape;
use runwasi_tests::{Containerd, Containers, Runtime, check_with, poll_until, proc};

use crate::server::{by_socket, request};

const SOON: Duration = Duration::from_secs(20);

/// Runs a case with shims whose sockets are in a directory that they have to make.
#[track_caller]
pub(crate) fn check(runtime: Runtime, case: fn(&mut Containers, &Path) -> Result<()>) {
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("metrics");
    let fixture = Containerd::builder().env("RUNWASI_METRICS", &directory);
    check_with(runtime, fixture, |c| case(c, &directory));
}

/// The same with a directory that cannot be.
#[track_caller]
pub(crate) fn check_wrong(runtime: Runtime, case: fn(&mut Containers) -> Result<()>) {
    check_with(runtime, Containerd::builder().env("RUNWASI_METRICS", "relative"), case);
}

fn socket(c: &Containers, directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{}+{id}.sock", c.fixture.namespace()))
}

/// The series at a socket.
fn scrape(socket: &Path) -> Result<Scrape> {
    let answer = by_socket(socket, &request("GET", "/metrics", ""))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Scrape::parse(body.to_owned())
}

fn is_gone(socket: &Path) -> Result<()> {
    poll_until("the end of the socket", SOON, || (!socket.exists()).then_some(()))
}

pub(crate) fn each_shim_serves_its_own_at_a_socket_of_its_sandbox(
    c: &mut Containers,
    directory: &Path,
) -> Result<()> {
    let ids = [c.id("one"), c.id("other")];
    for id in &ids {
        c.detached(id, &["sleep", "100"])?;
    }
    c.exec(&ids[0], "e", &["exit", "7"])?.status_is(7)?;
    for (id, execs) in ids.iter().zip([1.0, 0.0]) {
        let socket = socket(c, directory, id);
        let mode = fs::metadata(&socket)?.permissions().mode() & 0o7777;
        ensure!(mode == 0o600, "mode {mode:o}");
        // Counted at the end of a turn.
        let scrape = poll_until("CPU time", SOON, || {
            let scrape = scrape(&socket).ok()?;
            (scrape.value("runwasi_guest_cpu_seconds_total").ok()? > 0.0).then_some(scrape)
        })?;
        ensure!(scrape.value(r#"runwasi_containers{state="running"}"#)? == 1.0, "{}", scrape.text);
        let exits = r#"runwasi_exits_total{kind="exec",reason="failure"}"#;
        ensure!(scrape.value(exits)? == execs, "{}", scrape.text);
        let program = format!("program=\"{}\"", c.runtime.name());
        ensure!(scrape.text.contains(&program), "{}", scrape.text);
        ensure!(!scrape.text.contains("runwasi_daemon_state"), "{}", scrape.text);
        let refused = by_socket(&socket, &request("POST", "/metrics", ""))?;
        ensure!(refused.starts_with("HTTP/1.1 405 "), "{refused}");
    }
    for id in &ids {
        ensure!(c.kill_and_finish(id)? == 137);
        is_gone(&socket(c, directory, id))?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn socket_of_a_killed_shim_is_removed(
    c: &mut Containers,
    directory: &Path,
) -> Result<()> {
    let id = c.id("killed");
    c.detached(&id, &["sleep", "100"])?;
    let socket = socket(c, directory, &id);
    scrape(&socket)?;
    proc::kill9(c.fixture.shims().first().context("a shim")?.pid)?;
    c.becomes_stopped_or_gone(&id)?;
    // An error: containerd has forgotten the task already.
    let _ = c.fixture.ctr(["task", "delete", &id]);
    is_gone(&socket)?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn wrong_directory_is_told_and_refuses_no_container(c: &mut Containers) -> Result<()> {
    c.run(&c.id("runs"), &["exit", "0"])?.ok()?;
    let log = c.log();
    let said = "RUNWASI_METRICS: \\\"relative\\\" is not an absolute path";
    ensure!(log.contains(said) && log.contains("this shim serves no metrics"), "{log}");
    c.fixture.becomes_clean()
}
