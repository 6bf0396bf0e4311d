//! Containers of small guests in the text format, made by hand and run by `ctr run --config`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use runwasi_tests::{Command, Containers, bundle::Bundle};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Name of the guest in its root file system.
const GUEST: &str = "/guest.wat";

/// A container whose root file system holds one guest. `config` can be changed until it runs.
pub(crate) struct Guest {
    // Holds the directory of the bundle until the container is gone.
    _dir: TempDir,
    bundle: Bundle,
    program: String,
}

impl Guest {
    /// A guest of the pod that all guests of a case share: on the per-pod shim they are neighbours
    /// in one process only then.
    pub(crate) fn new(c: &Containers, text: &str) -> Result<Self> {
        let dir = TempDir::new()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        let cgroup = format!("/{}", c.fixture.namespace());
        let mut bundle = Bundle::create(dir.path().join("b"), &[], &cgroup)?;
        bundle.file(GUEST, text)?;
        for inside in ["etc", "proc", "data"] {
            fs::create_dir(bundle.path().join("rootfs").join(inside))?;
        }
        bundle.config["root"]["path"] = json!(bundle.path().join("rootfs"));
        bundle.config["annotations"] = json!({
            "io.kubernetes.cri.sandbox-id": c.id("pod"),
            "io.kubernetes.cri.container-type": "container",
        });
        Ok(Self { _dir: dir, bundle, program: GUEST.into() })
    }

    /// Another export than `_start`; for components, too.
    pub(crate) fn export(mut self, name: &str) -> Self {
        self.program = format!("{GUEST}#{name}");
        self
    }

    /// A memory limit in bytes.
    pub(crate) fn memory(mut self, limit: u64) -> Self {
        self.config()["linux"]["resources"]["memory"]["limit"] = json!(limit);
        self
    }

    /// A user other than root.
    pub(crate) fn user(mut self, id: u32) -> Self {
        self.config()["process"]["user"] = json!({ "uid": id, "gid": id });
        self
    }

    /// Config of the container.
    pub(crate) fn config(&mut self) -> &mut Value {
        &mut self.bundle.config
    }

    /// A path in the root file system, on the host.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        self.bundle.path().join("rootfs").join(Path::new(path.trim_start_matches('/')))
    }

    /// `ctr run FLAGS --config … ID` of the guest.
    pub(crate) fn command(&mut self, c: &Containers, flags: &[&str], id: &str) -> Result<Command> {
        c.run_config(&mut self.bundle, flags, id, &[&self.program])
    }

    /// Starts it in the background and returns its id.
    pub(crate) fn detached(&mut self, c: &Containers) -> Result<String> {
        let id = c.next_id();
        self.command(c, &["-d"], &id)?.run()?.ok()?;
        Ok(id)
    }
}
