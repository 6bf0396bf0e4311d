//! Containers of small guests in the text format, made by hand and run by `ctr run --config`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Result;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Command, Containers, bundle::Bundle};

/// Name of the guest in its root file system.
const GUEST: &str = "/guest.wat";

/// A container whose root file system holds one guest. `config` can be changed until it runs.
pub struct Guest {
    // Holds the directory of the bundle until the container is gone.
    _dir: TempDir,
    bundle: Bundle,
    program: String,
}

impl Guest {
    /// A guest of the pod that all guests of a case share: on the per-pod shim they are neighbours
    /// in one process only then.
    pub fn new(c: &Containers, text: impl AsRef<[u8]>) -> Result<Self> {
        let dir = TempDir::new()?;
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        // Below a directory of the namespace, as `ctr` and the kubelet have it: at the root the
        // guests of all containers together would weigh more than the services beside them.
        let cgroup = format!("/{}/guests", c.fixture.namespace());
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
    pub fn export(mut self, name: &str) -> Self {
        self.program = format!("{GUEST}#{name}");
        self
    }

    /// A memory limit in bytes.
    pub fn memory(mut self, limit: u64) -> Self {
        self.config()["linux"]["resources"]["memory"]["limit"] = json!(limit);
        self
    }

    /// A user other than root.
    pub fn user(mut self, id: u32) -> Self {
        self.config()["process"]["user"] = json!({ "uid": id, "gid": id });
        self
    }

    /// A host directory at this path.
    pub fn volume(mut self, source: &Path, destination: &str) -> Self {
        self.config()["mounts"] = json!([{ "destination": destination, "type": "bind",
            "source": source, "options": ["rbind", "rw"] }]);
        self
    }

    /// One more annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.config()["annotations"][key] = json!(value);
        self
    }

    /// Config of the container.
    pub fn config(&mut self) -> &mut Value {
        &mut self.bundle.config
    }

    /// A path in the root file system, on the host.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.bundle.path().join("rootfs").join(Path::new(path.trim_start_matches('/')))
    }

    /// `ctr run FLAGS --config … ID` of the guest.
    pub fn command(&mut self, c: &Containers, flags: &[&str], id: &str) -> Result<Command> {
        c.run_config(&mut self.bundle, flags, id, &[&self.program])
    }

    /// Starts it in the background and returns its id.
    pub fn detached(&mut self, c: &Containers) -> Result<String> {
        let id = c.next_id();
        self.command(c, &["-d"], &id)?.run()?.ok()?;
        Ok(id)
    }
}
