//! Sandboxes by containerd's own services, not by the CRI; the cases are listed in `main.rs`.
//!
//! Even so they need the CRI's plugins: without them containerd 2.1 does not offer the services.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::network::Namespace;
use runwasi_tests::sandboxes::Sandboxes;
use runwasi_tests::{Pods, poll_until};

/// As `ctr sandboxes run` writes a file without fields.
const EMPTY: &str = r#"{"ociVersion":""}"#;

pub(crate) fn sandbox_with_a_spec_without_a_process_runs(pods: &mut Pods) -> Result<()> {
    let (id, sandboxes) = (pods.fixture.id("spec"), sandboxes(pods)?);
    let config = r#"{"ociVersion":"","linux":{"namespaces":[{"type":"network"}]}}"#;
    let socket = pods.fixture.socket(&id);
    sandboxes.create(&id, pods.runtime.name(), config)?;
    let pid = sandboxes.start(&id)?;
    ensure!(Namespace::of(pid)? != Namespace::own()?, "it has no network of its own");
    ensure!(socket.exists(), "no socket");
    sandboxes.remove(&id)?;
    pods.fixture.becomes_clean()
}

pub(crate) fn sandbox_forgotten_before_its_start_leaves_by_itself(pods: &mut Pods) -> Result<()> {
    let (forgotten, known, sandboxes) =
        (pods.fixture.id("forgotten"), pods.fixture.id("known"), sandboxes(pods)?);
    let sockets = [&forgotten, &known].map(|id| pods.fixture.socket(id));
    for id in [&known, &forgotten] {
        sandboxes.create(id, pods.runtime.name(), EMPTY)?;
    }
    ensure!(sockets.iter().all(|socket| socket.exists()), "no sockets");
    sandboxes.forget(&forgotten)?;
    poll_until("end of the forgotten sandbox", Duration::from_secs(40), || {
        (!sockets[0].exists()).then_some(())
    })?;
    // It was asked about before the other.
    let pid = sandboxes.start(&known).context("the known sandbox has left, too")?;
    ensure!(pid > 0 && sockets[1].exists());
    sandboxes.remove(&known)?;
    pods.fixture.becomes_clean()
}

fn sandboxes(pods: &Pods) -> Result<Sandboxes> {
    Sandboxes::new(&pods.fixture.address(), pods.fixture.namespace())
}
