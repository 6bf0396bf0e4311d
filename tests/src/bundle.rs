//! Bundle directories as containerd makes them; given by `shim` and by tests to a shim's own command line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containerd_shim_protos::api::Mount;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

use crate::runtime::target_dir;

/// A bundle directory: `config.json`, `rootfs` and whatever a test adds or takes away.
#[derive(Debug)]
pub struct Bundle {
    dir: PathBuf,
    /// What [`Bundle::write`] writes into `config.json`.
    pub config: Value,
}

impl Bundle {
    /// Makes `dir` with a `rootfs` and a `config.json` that runs `args` in namespace-neutral surroundings.
    pub fn create(dir: PathBuf, args: &[&str], cgroup: &str) -> Result<Self> {
        fs::create_dir_all(dir.join("rootfs"))
            .with_context(|| format!("cannot make {}", dir.display()))?;
        let kinds = ["pid", "ipc", "uts", "mount"].map(|kind| json!({ "type": kind }));
        let config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": args,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "cwd": "/",
            },
            "root": { "path": "rootfs" },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "linux": { "cgroupsPath": cgroup, "namespaces": kinds },
        });
        let bundle = Self { dir, config };
        bundle.write()?;
        Ok(bundle)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Writes `config.json` anew.
    pub fn write(&self) -> Result<()> {
        self.write_config(&serde_json::to_vec(&self.config)?)
    }

    /// Writes these bytes as `config.json`, whatever they are.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        let file = self.dir.join("config.json");
        let new = self.dir.join("config.json.new");
        // Replaced at once: a `ctr` of an earlier run may just be reading it.
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Puts the guest program, natively and as wasm, into the rootfs.
    pub fn add_guests(&self) -> Result<()> {
        let guests = target_dir().join("guests");
        for (built, name) in [("wasmtest.wasm", "wasmtest.wasm"), ("wasmtest-native", "wasmtest")] {
            let file = guests.join(built);
            let to = self.dir.join("rootfs").join(name);
            fs::copy(&file, to).with_context(|| {
                format!("{} is missing: `make images` builds it", file.display())
            })?;
        }
        fs::create_dir_all(self.dir.join("rootfs/proc"))?;
        Ok(())
    }

    /// Puts a file into the rootfs.
    pub fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let file = self.dir.join("rootfs").join(name.trim_start_matches('/'));
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Files and directories in the bundle, those containerd makes left out: what a shim wrote there.
    pub fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !["rootfs", "config.json", "log"].contains(&name.as_str()));
        names.sort();
        names
    }
}

/// Makes a FIFO.
pub fn fifo(path: &Path) -> Result<()> {
    mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// The mount that containerd's overlay snapshotter describes for a snapshot of one layer.
pub fn overlay(snapshot: &Path, layer: &Path) -> Result<Mount> {
    let part = |name: &str| -> Result<String> {
        let path = snapshot.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    };
    let mut mount = Mount::new();
    mount.type_ = "overlay".to_owned();
    mount.source = "overlay".to_owned();
    mount.options = vec![
        "index=off".to_owned(),
        format!("workdir={}", part("work")?),
        format!("upperdir={}", part("fs")?),
        format!("lowerdir={}", layer.display()),
    ];
    Ok(mount)
}
