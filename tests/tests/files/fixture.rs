//! A container made by hand: a root file system with whatever a case puts there, and a `config.json` that a case changes; run by
//! `ctr run --config`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::{Command, Containers};
use serde_json::json;
use tempfile::TempDir;

/// The root file system and the config of one container, and a directory that everybody may write, mounted at `/data`.
pub(crate) struct Tree {
    dir: TempDir,
    pub(crate) bundle: Bundle,
    guest: &'static str,
}

impl Tree {
    pub(crate) fn new(c: &Containers) -> Result<Self> {
        let dir = TempDir::new()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        let mut bundle =
            Bundle::create(dir.path().join("b"), &[], &format!("/{}", c.fixture.namespace()))?;
        let guest = c.runtime.guest();
        let file = c.runtime.guest_file();
        let program = bundle.path().join("rootfs").join(guest.trim_start_matches('/'));
        fs::copy(&file, &program)
            .with_context(|| format!("{}: `make images` makes it", file.display()))?;
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755))?;
        for inside in ["data", "proc", "etc"] {
            fs::create_dir(bundle.path().join("rootfs").join(inside))?;
        }
        bundle.config["root"]["path"] = json!(bundle.path().join("rootfs"));
        let tree = Self { dir, bundle, guest };
        fs::create_dir(tree.volume())?;
        fs::set_permissions(tree.volume(), PermissionsExt::from_mode(0o777))?;
        Ok(tree
            .mount(json!({ "destination": "/data", "type": "bind", "source": "volume", "options": ["rbind", "rw"] })))
    }

    /// The directory on the host that is mounted at `/data`.
    pub(crate) fn volume(&self) -> PathBuf {
        self.dir.path().join("volume")
    }

    /// A path in the root file system, on the host.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.bundle.path().join("rootfs").join(path.trim_start_matches('/'))
    }

    /// Something on the host that the container has nothing to do with.
    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// One more mount; a relative source lies beside the volume.
    pub(crate) fn mount(mut self, mut mount: serde_json::Value) -> Self {
        if let Some(source) =
            mount["source"].as_str().map(Path::new).filter(|source| source.is_relative())
        {
            mount["source"] = json!(self.dir.path().join(source));
        }
        if let Some(mounts) = self.bundle.config["mounts"].as_array_mut() {
            mounts.push(mount);
        }
        self
    }

    /// Its user from now on: `{"uid":…, "gid":…}`.
    pub(crate) fn user(&mut self, user: serde_json::Value) -> &mut Self {
        self.bundle.config["process"]["user"] = user;
        self
    }

    /// `ctr run FLAGS --config … ID` of the guest with these arguments.
    pub(crate) fn command(
        &mut self,
        c: &Containers,
        flags: &[&str],
        id: &str,
        args: &[&str],
    ) -> Result<Command> {
        let program = [&[self.guest], args].concat();
        c.run_config(&mut self.bundle, flags, id, &program)
    }

    /// Runs the guest to its end.
    pub(crate) fn run(&mut self, c: &Containers, args: &[&str]) -> Result<runwasi_tests::Output> {
        self.command(c, &["--rm"], &c.next_id(), args)?.run()
    }
}
