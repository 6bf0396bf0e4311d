//! The system calls of a hello from the shim's `start` to its `delete`, phase by phase; the case is listed in `main.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::Mount;
use runwasi_tests::bundle::{Bundle, overlay};
use runwasi_tests::shim::TaskClient;
use runwasi_tests::{Runtime, ShimDriver};

use crate::recorded::{self, Phases};
use crate::tracer::{Counts, Log};

/// Of which the median counts.
const LIVES: usize = 7;

pub(crate) fn life_makes_no_more_system_calls_than_recorded(
    shim_driver: &ShimDriver,
) -> Result<()> {
    let mode = match shim_driver.runtime() {
        Runtime::Wasmtimed => "daemon",
        _ => "pod",
    };
    let layer = layer(shim_driver)?;
    // Compiles, and makes what is made once.
    Life::new(shim_driver, &layer, "first", None)?.live()?;
    let server = Log::new(shim_driver.dir().join("daemon.strace"));
    let daemon = match shim_driver.runtime().needs_daemon() {
        true => Some((server.attach(daemon(shim_driver)?)?, server)),
        false => None,
    };
    let (tracer, mut server) = daemon.unzip();
    let lives = (0..LIVES)
        .map(|n| Life::new(shim_driver, &layer, &format!("life{n}"), server.as_mut())?.live());
    let lives = lives.collect::<Result<Vec<_>>>()?;
    drop(tracer);
    let measured = recorded::median(&lives);
    recorded::keep(mode, &measured)?;
    recorded::compare(mode, &measured)
}

fn daemon(shim_driver: &ShimDriver) -> Result<u32> {
    shim_driver.node().daemons().first().copied().context("no daemon")
}

/// The image's one layer, with the guest in it.
fn layer(shim_driver: &ShimDriver) -> Result<PathBuf> {
    let layer = shim_driver.dir().join("layer");
    let guest = shim_driver.runtime().guest();
    for directory in ["proc", "etc"] {
        fs::create_dir_all(layer.join(directory))?;
    }
    let built = shim_driver.runtime().guest_file();
    fs::copy(&built, layer.join(guest.trim_start_matches('/')))
        .with_context(|| format!("{}: scripts/guests makes it", built.display()))?;
    Ok(layer)
}

struct Life<'a> {
    shim_driver: &'a ShimDriver,
    id: &'a str,
    bundle: Bundle,
    rootfs: Mount,
    /// Of the programs that containerd would start. A shim per pod goes on to its server.
    programs: Log,
    /// Of the daemon.
    server: Option<&'a mut Log>,
}

impl<'a> Life<'a> {
    fn new(
        shim_driver: &'a ShimDriver,
        layer: &Path,
        id: &'a str,
        server: Option<&'a mut Log>,
    ) -> Result<Self> {
        let bundle = bundle(shim_driver, id)?;
        let rootfs = overlay(&shim_driver.dir().join("snapshots").join(id), layer)?;
        let programs = Log::new(shim_driver.dir().join(format!("{id}.strace")));
        Ok(Self { shim_driver, id, bundle, rootfs, programs, server })
    }

    /// Each call by its phase.
    fn live(mut self) -> Result<Phases> {
        let mut phases = Phases::new();
        let path = self.bundle.path().to_owned();
        self.shim_driver.open_log(&path)?;
        let start = self.shim_driver.command_under(self.programs.tracer(), self.id, &path);
        let started = start.args(["start"]).run()?.ok()?;
        let client = TaskClient::connect(started.out().trim())?;
        phases.insert("1-start", self.counts()?);
        client.create(self.id, &path, &[self.rootfs.clone()])?;
        phases.insert("2-create", self.counts()?);
        client.start(self.id)?;
        let status = client.wait(self.id)?.exit_status;
        ensure!(status == 0, "exit status {status}");
        phases.insert("3-run", self.counts()?);
        client.delete(self.id)?;
        phases.insert("4-delete", self.counts()?);
        client.shutdown(self.id);
        phases.insert("5-shutdown", self.counts()?);
        // A file of its own: the other tracer may write to the end of the server.
        self.programs = Log::new(self.programs_file("cleanup"));
        let delete = self.shim_driver.command_under(self.programs.tracer(), self.id, &path);
        delete.args(["-bundle"]).args([&path]).args(["delete"]).run()?.ok()?;
        phases.insert("6-cleanup", self.counts()?);
        Ok(phases)
    }

    fn programs_file(&self, name: &str) -> PathBuf {
        self.shim_driver.dir().join(format!("{}-{name}.strace", self.id))
    }

    /// What was counted since the last phase.
    fn counts(&mut self) -> Result<Counts> {
        let mut counts = self.programs.counts()?;
        if let Some(server) = &mut self.server {
            for (name, count) in server.counts()? {
                *counts.entry(name).or_default() += count;
            }
        }
        Ok(counts)
    }
}

/// Where containerd has it: the shim's `delete` looks at what lies beside it.
fn bundle(shim_driver: &ShimDriver, id: &str) -> Result<Bundle> {
    let namespace = shim_driver.namespace();
    let bundles = shim_driver.dir().join("state/io.containerd.runtime.v2.task").join(namespace);
    let args = [shim_driver.runtime().guest()];
    Bundle::create(bundles.join(id), &args, &format!("/{namespace}/{id}"))
}
