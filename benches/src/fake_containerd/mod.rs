//! containerd, played by this OS process towards one runtime: bundles and root file systems as containerd makes them,
//! the shim's `start`, the sandboxes' sockets. Used by the benchmarks that need more than `ctr` can ask for.
//!
//! Every container has an overlay of its own over one common layer, in the directory of the [`ShimDriver`], which takes
//! events and demands in the end that nothing is left.

mod storage;
mod task;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::Mount;
use runwasi_tests::bundle::{Bundle, fifo, overlay};
use runwasi_tests::daemon::{SOCKET_VARIABLE, Settings};
use runwasi_tests::runtime::{guest_sources, target_dir};
use runwasi_tests::{Runtime, ShimDriver, poll_until};
use serde_json::json;

pub(crate) use storage::Storage;
pub(crate) use task::Tasks;

/// What plays containerd towards one runtime.
pub(crate) struct FakeContainerd {
    // Unmounted before the shim driver looks for what is left.
    _mounted: Vec<storage::Mounted>,
    shim_driver: ShimDriver,
    /// The image: one layer, with the guest in it.
    layer: PathBuf,
    /// Where compiled code is kept, if it is the fake's own.
    cache: PathBuf,
    // One thread: the client shall take little of the two CPUs, and what it measures is the server.
    calls: tokio::runtime::Runtime,
}

/// A container that is prepared as far as containerd does it before it asks a shim.
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
    pub(crate) rootfs: Mount,
    /// The FIFO of its input; without one it is empty.
    pub(crate) stdin: Option<PathBuf>,
    /// The FIFO of its output; without one the output vanishes.
    pub(crate) stdout: Option<PathBuf>,
}

/// A sandbox with its connection held, as containerd does.
pub(crate) struct Sandbox {
    /// The container it was started for.
    pub(crate) id: String,
    pub(crate) tasks: Tasks,
}

impl FakeContainerd {
    /// Prepares the fake, lets `measure` use it and takes it down.
    pub(crate) fn with<T>(
        runtime: Runtime,
        storage: Storage,
        measure: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        Self::new(ShimDriver::new(runtime)?, storage)?.played(measure)
    }

    /// The same with a directory of the fake's own for compiled code, in which nothing is at first.
    pub(crate) fn play_with_empty_cache<T>(
        runtime: Runtime,
        storage: Storage,
        measure: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        Self::play_with_empty_cache_of(runtime, None, storage, measure)
    }

    /// The same with the programs of another build, if one is given.
    pub(crate) fn play_with_empty_cache_of<T>(
        runtime: Runtime,
        build: Option<&Path>,
        storage: Storage,
        measure: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        let place = tempfile::tempdir().context("no directory for compiled code")?;
        // Made by who writes there: one that others could read is refused.
        let cache = place.path().join("code");
        let settings = Settings::default();
        let settings = build.map_or(settings.clone(), |build| settings.programs(build));
        let shim_driver = ShimDriver::with_cache_and(runtime, &cache, settings)?;
        let mut fake = Self::new(shim_driver, storage)?;
        fake.cache = cache;
        fake.played(measure)
    }

    /// The same with the programs of another build, which lie in `directory`.
    pub(crate) fn with_build<T>(
        runtime: Runtime,
        directory: &Path,
        storage: Storage,
        measure: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        Self::with_settings(runtime, Settings::default().programs(directory), storage, measure)
    }

    /// The same with two of them: one with this build's programs, and one with those in `before`, if that is given.
    pub(crate) fn with_before<T>(
        runtime: Runtime,
        before: Option<&Path>,
        storage: Storage,
        measure: impl FnOnce(&Self, Option<&Self>) -> Result<T>,
    ) -> Result<T> {
        Self::with(runtime, storage, |fake| match before {
            None => measure(fake, None),
            Some(directory) => {
                Self::with_build(runtime, directory, storage, |before| measure(fake, Some(before)))
            }
        })
    }

    /// The same with these settings of the daemon.
    pub(crate) fn with_settings<T>(
        runtime: Runtime,
        settings: Settings,
        storage: Storage,
        measure: impl FnOnce(&Self) -> Result<T>,
    ) -> Result<T> {
        Self::new(ShimDriver::with(runtime, settings)?, storage)?.played(measure)
    }

    fn played<T>(self, measure: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let outcome = measure(&self);
        if let Err(error) = &outcome {
            // Told now, because containers that a failure left behind end the run with a panic of their own.
            drop(writeln!(std::io::stderr(), "runwasi-bench: {error:#}"));
        }
        outcome
    }

    fn new(shim_driver: ShimDriver, storage: Storage) -> Result<Self> {
        let runtime = shim_driver.runtime();
        let mounted = storage.prepare(shim_driver.dir())?;
        let layer = shim_driver.dir().join(storage::SNAPSHOTS).join("layer");
        for directory in ["", "proc", "etc"] {
            fs::create_dir_all(layer.join(directory)).context("cannot make the layer")?;
        }
        let guest = runtime.guest().trim_start_matches('/');
        let built = runtime.guest_file();
        fs::copy(&built, layer.join(guest))
            .with_context(|| format!("{}: scripts/guests makes it", built.display()))?;
        let calls = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { _mounted: mounted, shim_driver, layer, cache: PathBuf::new(), calls })
    }

    /// Runs calls until their end.
    pub(crate) fn run<F: Future>(&self, calls: F) -> F::Output {
        self.calls.block_on(calls)
    }

    /// Puts another guest that was built into the image.
    pub(crate) fn add_guest(&self, name: &str) -> Result<()> {
        self.add(&target_dir().join("guests").join(name), name)
    }

    /// Puts a file that belongs to the guests' sources into the image.
    pub(crate) fn add_source(&self, name: &str) -> Result<()> {
        self.add(&guest_sources().join(name), name)
    }

    fn add(&self, file: &Path, name: &str) -> Result<()> {
        let copied = fs::copy(file, self.layer.join(name));
        copied.with_context(|| format!("{}: scripts/guests makes it", file.display()))?;
        Ok(())
    }

    /// A container in a sandbox of its own; the guest gets `args`.
    pub(crate) fn container(&self, id: &str, args: &[&str]) -> Result<Container> {
        self.program(id, &[&[self.shim_driver.runtime().guest()], args].concat())
    }

    /// A container in a sandbox of its own, with whatever program of the image.
    pub(crate) fn program(&self, id: &str, words: &[&str]) -> Result<Container> {
        let bundle = self.shim_driver.bundle(id, words)?;
        Ok(Container {
            id: id.to_owned(),
            bundle,
            rootfs: overlay(&self.snapshot(id), &self.layer)?,
            stdin: None,
            stdout: None,
        })
    }

    /// The containerd that is played.
    pub(crate) fn address(&self) -> PathBuf {
        self.shim_driver.dir().join("c.sock")
    }

    /// Where compiled code is kept, if it is the fake's own.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// A container that will join the sandbox started for `group`.
    pub(crate) fn joining(&self, group: &str, id: &str, args: &[&str]) -> Result<Container> {
        let mut container = self.container(id, args)?;
        container.configure(
            "annotations",
            json!({ "io.kubernetes.cri.sandbox-id": group, "io.kubernetes.cri.container-type": "container" }),
        )?;
        Ok(container)
    }

    /// Runs the shim's `start` for a container and connects to the address it prints.
    pub(crate) fn sandbox(&self, container: &Container) -> Result<Sandbox> {
        let started = self.shim_driver.start(&container.id, container.bundle.path())?.ok()?;
        let tasks = self.run(Tasks::connect(started.out().trim()))?;
        Ok(Sandbox { id: container.id.clone(), tasks })
    }

    /// Runs a container in a sandbox of its own, which is taken down. A status other than 0 is an error.
    pub(crate) fn run_to_success(&self, container: &Container) -> Result<()> {
        let sandbox = self.sandbox(container)?;
        let id = &container.id;
        let status = self.run(async {
            sandbox.tasks.create(container).await?;
            sandbox.tasks.start(id).await?;
            let status = sandbox.tasks.wait(id).await?;
            sandbox.tasks.delete(id).await.map(|()| status)
        })?;
        ensure!(status == 0, "{id} ended with {status}");
        self.leave(sandbox);
        Ok(())
    }

    /// Takes down an empty sandbox.
    pub(crate) fn leave(&self, sandbox: Sandbox) {
        self.run(sandbox.tasks.shutdown(&sandbox.id));
    }

    /// The shim's `start` as `sandbox` runs it, for whom the time is the figure.
    pub(crate) fn start_command(&self, container: &Container) -> Result<Command> {
        let mut command = Command::new(self.shim_driver.program().canonicalize()?);
        let address = self.address();
        command.args(["-namespace", self.shim_driver.namespace(), "-address"]).arg(&address);
        command.args(["-publish-binary", "/bin/true", "-id", &container.id, "start"]);
        command.env("TTRPC_ADDRESS", address.with_extension("sock.ttrpc"));
        command
            .env(SOCKET_VARIABLE, self.shim_driver.node().socket())
            .current_dir(container.bundle.path());
        Ok(command)
    }

    /// The node daemon's pid.
    pub(crate) fn daemon(&self) -> Result<u32> {
        let daemons = self.shim_driver.node().daemons();
        ensure!(daemons.len() == 1, "{} daemons, not one", daemons.len());
        Ok(daemons[0])
    }

    /// Waits until no sandbox is left; the fake itself stays.
    pub(crate) fn becomes_empty(&self) -> Result<()> {
        let left = || -> Vec<String> {
            let all = self.shim_driver.leftovers().into_iter();
            all.filter(|line| !line.starts_with("mount ")).collect()
        };
        let empty = poll_until("an empty fake", Duration::from_secs(10), || {
            left().is_empty().then_some(())
        });
        empty.with_context(|| format!("left: {:#?}", left()))
    }

    /// The image's one layer, to add files to before there are containers.
    pub(crate) fn layer(&self) -> &Path {
        &self.layer
    }

    /// The shim driver, for what only one benchmark needs.
    pub(crate) fn shim_driver(&self) -> &ShimDriver {
        &self.shim_driver
    }

    /// The snapshot of a container.
    pub(crate) fn snapshot(&self, id: &str) -> PathBuf {
        self.shim_driver.dir().join(storage::SNAPSHOTS).join(id)
    }
}

impl Container {
    /// Sets a field of `config.json`.
    pub(crate) fn configure(&mut self, field: &str, value: serde_json::Value) -> Result<()> {
        self.bundle.config[field] = value;
        self.bundle.write()
    }

    /// Gives it a network namespace of its own.
    pub(crate) fn unshare_network(&mut self) -> Result<()> {
        let mut linux = self.bundle.config["linux"].clone();
        linux["namespaces"]
            .as_array_mut()
            .context("namespaces are a list")?
            .push(json!({ "type": "network" }));
        self.configure("linux", linux)
    }

    /// Gives it a weight against other containers.
    pub(crate) fn weigh(&mut self, shares: u32) -> Result<()> {
        let mut linux = self.bundle.config["linux"].clone();
        linux["resources"] = json!({ "cpu": { "shares": shares } });
        self.configure("linux", linux)
    }

    /// Gives it a FIFO for its input, which nothing is written to and whose end does not come.
    pub(crate) fn hold_input(&mut self) -> Result<()> {
        let path = self.bundle.path().with_extension("stdin");
        fifo(&path)?;
        self.stdin = Some(path);
        Ok(())
    }

    /// Gives it a FIFO for its output, which somebody must read.
    pub(crate) fn pipe_output(&mut self) -> Result<&Path> {
        let path = self.bundle.path().with_extension("stdout");
        fifo(&path)?;
        Ok(self.stdout.insert(path))
    }
}
