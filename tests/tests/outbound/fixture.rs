//! A network of a test's own, and containers in it that run the guests `net` and `p3_net`; made by the cases.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::network::Namespace;
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Containers, Output};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A network namespace with a path, whose loopback device is up.
pub(crate) struct Network {
    path: PathBuf,
    pub(crate) namespace: Namespace,
}

impl Network {
    pub(crate) fn new(c: &Containers, name: &str) -> Result<Self> {
        let path = c.fixture.dir().join(name);
        fs::write(&path, "")?;
        Command::new("unshare").args([&format!("--net={}", path.display()), "true"]).run()?.ok()?;
        let network = Self { namespace: Namespace::at(&path)?, path };
        network.namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(network)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // What stays mounted, the fixture's check finds.
        unmount(&self.path, UnmountFlags::DETACH).ok();
    }
}

/// The guests of both previews, which share the commands that the cases run_case with both.
pub(crate) const P2: &str = "/net.wasm";
pub(crate) const P3: &str = "/p3_net.wasm";

/// One container: its root file system has the guest, its config what a case says.
pub(crate) struct Guest {
    dir: TempDir,
    bundle: Bundle,
    program: &'static str,
}

impl Guest {
    /// On the host's network, if it is in none of the test's own.
    pub(crate) fn new(c: &Containers, network: Option<&Network>) -> Result<Self> {
        let dir = TempDir::new()?;
        let mut bundle =
            Bundle::create(dir.path().join("b"), &[], &format!("/{}", c.fixture.namespace()))?;
        for name in [P2, P3] {
            let program = target_dir().join("guests").join(name.trim_start_matches('/'));
            fs::copy(&program, bundle.path().join("rootfs").join(name.trim_start_matches('/')))
                .with_context(|| format!("{}: `make images` makes it", program.display()))?;
        }
        fs::create_dir(bundle.path().join("rootfs/etc"))?;
        bundle.config["root"]["path"] = json!(bundle.path().join("rootfs"));
        bundle.config["annotations"] = json!({});
        if let Some(network) = network {
            push(
                &mut bundle.config["linux"]["namespaces"],
                json!({ "type": "network", "path": network.path }),
            );
        }
        Ok(Self { dir, bundle, program: P2 })
    }

    /// With another of the two programs.
    pub(crate) fn of(mut self, program: &'static str) -> Self {
        self.program = program;
        self
    }

    pub(crate) fn annotation(mut self, key: &str, value: &str) -> Self {
        self.bundle.config["annotations"][key] = json!(value);
        self
    }

    /// Mounts a file of the host, as whoever cares for a container's names does.
    pub(crate) fn mounted(mut self, path: &str, text: &str) -> Result<Self> {
        let source = self.dir.path().join(path.replace('/', "_"));
        fs::write(&source, text)?;
        let mount = json!({ "destination": path, "type": "bind", "source": source, "options": ["bind", "ro"] });
        push(&mut self.bundle.config["mounts"], mount);
        Ok(self)
    }

    /// A file of its image.
    pub(crate) fn file(self, path: &str, text: &str) -> Result<Self> {
        let place = self.place(path)?;
        fs::write(&place, text).with_context(|| format!("cannot write {}", place.display()))?;
        Ok(self)
    }

    /// A directory of its image.
    pub(crate) fn directory(self, path: &str) -> Result<Self> {
        fs::create_dir(self.place(path)?)?;
        Ok(self)
    }

    /// A symbolic link of its image.
    pub(crate) fn link(self, path: &str, target: &Path) -> Result<Self> {
        symlink(target, self.place(path)?)?;
        Ok(self)
    }

    /// A path of its image, whose directory is there.
    fn place(&self, path: &str) -> Result<PathBuf> {
        let place = self.bundle.path().join("rootfs").join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a path of a file")?)?;
        Ok(place)
    }

    /// `NAME=VALUE` of its environment.
    pub(crate) fn env(mut self, entry: &str) -> Result<Self> {
        push(&mut self.bundle.config["process"]["env"], json!(entry));
        Ok(self)
    }

    pub(crate) fn command(
        &mut self,
        c: &Containers,
        flags: &[&str],
        id: &str,
        args: &[&str],
    ) -> Result<Command> {
        let program = [&[self.program], args].concat();
        c.run_config(&mut self.bundle, flags, id, &program)
    }

    /// Runs it to its end.
    pub(crate) fn run(&mut self, c: &Containers, args: &[&str]) -> Result<Output> {
        self.command(c, &["--rm"], &c.next_id(), args)?.run()
    }

    /// Runs it to a success; gives what it printed.
    pub(crate) fn prints(&mut self, c: &Containers, args: &[&str]) -> Result<String> {
        Ok(self.run(c, args)?.ok()?.out())
    }

    /// Demands that the guest is told this error.
    pub(crate) fn fails_with(&mut self, c: &Containers, args: &[&str], what: &str) -> Result<()> {
        let out = self.run(c, args)?.status_is(1)?;
        anyhow::ensure!(out.err().contains(what), "no {what} in {out}");
        Ok(())
    }
}

fn push(array: &mut Value, value: Value) {
    if let Some(array) = array.as_array_mut() {
        array.push(value);
    }
}
