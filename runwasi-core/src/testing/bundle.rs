//! Builder of OCI bundles.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// Builder of a bundle: `config.json` and the files of the root file system.
pub struct BundleBuilder {
    directory: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    annotations: BTreeMap<String, String>,
    files: Vec<(String, Vec<u8>)>,
    memory_limit: Option<u64>,
    mounts: Vec<Value>,
}

impl BundleBuilder {
    /// A bundle that runs `args`. `write` creates `directory`.
    pub fn new(directory: &Path, args: &[&str]) -> Self {
        Self {
            directory: directory.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            cwd: "/".into(),
            annotations: BTreeMap::new(),
            files: Vec::new(),
            memory_limit: None,
            mounts: Vec::new(),
        }
    }

    /// Adds `NAME=value` to the environment.
    pub fn env(mut self, entry: &str) -> Self {
        self.env.push(entry.to_owned());
        self
    }

    /// Sets the working directory. The default is `/`.
    pub fn cwd(mut self, cwd: &str) -> Self {
        cwd.clone_into(&mut self.cwd);
        self
    }

    /// Adds an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a file to the root file system.
    pub fn file(mut self, path: &str, bytes: impl AsRef<[u8]>) -> Self {
        self.files.push((path.to_owned(), bytes.as_ref().to_vec()));
        self
    }

    /// Sets the memory limit of the container, in bytes.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Mounts a `/dev`.
    pub fn devices(mut self) -> Self {
        self.mounts.push(json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs" }));
        self
    }

    /// Writes the bundle. Returns its directory.
    pub fn write(self) -> io::Result<PathBuf> {
        let root = self.directory.join("rootfs");
        fs::create_dir_all(&root)?;
        for (path, bytes) in &self.files {
            // `join` with an absolute path would leave the root.
            let path = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap_or(&root))?;
            fs::write(path, bytes)?;
        }
        let config = json!({
            "ociVersion": "1.1.0",
            "root": { "path": "rootfs" },
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": self.args,
                "env": self.env,
                "cwd": self.cwd,
            },
            "mounts": self.mounts,
            // A limit of `null` is read as no limit.
            "annotations": self.annotations,
            "linux": { "resources": { "memory": { "limit": self.memory_limit } } },
        });
        fs::write(self.directory.join("config.json"), config.to_string())?;
        Ok(self.directory)
    }
}
