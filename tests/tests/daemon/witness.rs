//! A sandbox that must not notice what is done to its daemon; held by the cases about bad input.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{StateRequest, StateResponse, Status};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::runtime;
use runwasi_tests::shim::{LIMIT, TaskClient};
use runwasi_tests::{ShimDriver, proc};

/// A container that sleeps, with its connection held as containerd holds it.
pub(crate) struct Witness {
    id: String,
    bundle: Bundle,
    client: TaskClient,
    daemon: u32,
}

impl Witness {
    /// Starts it in a sandbox of its own.
    pub(crate) fn start(p: &ShimDriver, id: &str) -> Result<Self> {
        let bundle = bundle(p, id)?;
        let client = p.connect(id, bundle.path())?;
        client.create(id, bundle.path(), &[])?;
        client.start(id)?;
        let daemon = crate::sandbox(p.node(), id)?.daemon;
        Ok(Self { id: id.to_owned(), bundle, client, daemon })
    }

    /// Its connection.
    pub(crate) fn client(&self) -> &TaskClient {
        &self.client
    }

    /// Its daemon's OS process.
    pub(crate) fn daemon(&self) -> u32 {
        self.daemon
    }

    /// Demands that it runs, and that its socket answers soon, also a newcomer.
    pub(crate) fn is_undisturbed(&self, p: &ShimDriver) -> Result<()> {
        ensure!(proc::alive(self.daemon), "the daemon is dead");
        let newcomer = TaskClient::connect(&format!("unix://{}", p.socket(&self.id).display()))?;
        let request = StateRequest { id: self.id.clone(), ..StateRequest::default() };
        for client in [&self.client, &newcomer] {
            let began = Instant::now();
            let state: StateResponse =
                client.call("State", &request, LIMIT).context("State of the witness")?;
            ensure!(state.status == Status::RUNNING.into(), "{state:?}");
            ensure!(began.elapsed() < Duration::from_secs(5), "State took {:?}", began.elapsed());
        }
        Ok(())
    }

    /// Kills and removes it.
    pub(crate) fn end(self, p: &ShimDriver) -> Result<()> {
        self.client.kill(&self.id, 9)?;
        let status = self.client.wait(&self.id)?.exit_status;
        ensure!(status == 137, "status {status}");
        self.client.delete(&self.id)?;
        p.finish(&self.client, &self.id, self.bundle.path())
    }
}

/// A bundle with the guest in it, asleep.
pub(crate) fn bundle(p: &ShimDriver, id: &str) -> Result<Bundle> {
    let bundle = p.bundle(id, &[p.runtime().guest(), "sleep", "100"])?;
    let guest = runtime::target_dir().join("guests/wasmtest.wasm");
    let bytes = std::fs::read(&guest)
        .with_context(|| format!("{}: `make images` builds it", guest.display()))?;
    bundle.file(p.runtime().guest(), bytes)?;
    Ok(bundle)
}
