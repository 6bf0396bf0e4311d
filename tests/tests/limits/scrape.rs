//! containerd's own metrics, as Prometheus reads them; the cases are listed in `main.rs`.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use runwasi_tests::{Builder, Containerd, Containers, Runtime, Version, check_with, http};

/// A containerd 1.6 with metrics.
#[track_caller]
pub(crate) fn check(
    runtime: Runtime,
    case: impl FnOnce(&mut Containers, SocketAddr) -> Result<()>,
) {
    check_on(runtime, Containerd::builder(), case);
}

/// A containerd 1.7 with metrics.
#[track_caller]
pub(crate) fn check_1_7(
    runtime: Runtime,
    case: impl FnOnce(&mut Containers, SocketAddr) -> Result<()>,
) {
    check_on(runtime, Containerd::builder().version(Version::V1_7), case);
}

#[track_caller]
fn check_on(
    runtime: Runtime,
    fixture: Builder,
    case: impl FnOnce(&mut Containers, SocketAddr) -> Result<()>,
) {
    let address = http::address();
    let metrics = format!("[metrics]\n  address = \"{address}\"");
    let fixture = fixture.config(&metrics).daemon_for(runtime);
    check_with(runtime, fixture, |c| case(c, address));
}

/// containerd before 2.0 reads parts of a message without a look for them.
pub(crate) fn scrape_of_containerd_has_the_container(
    c: &mut Containers,
    address: SocketAddr,
) -> Result<()> {
    let id = c.id("seen");
    c.detached(&id, &["sleep", "1000"])?;
    let answer = http::get(address, "/v1/metrics")?;
    ensure!(answer.status == 200, "{answer:?}");
    let name = format!("container_id=\"{id}\"");
    let memory = |line: &&str| line.starts_with("container_memory") && line.contains(&name);
    ensure!(answer.body.lines().any(|line| memory(&line)), "{}", answer.body);
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
