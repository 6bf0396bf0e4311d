//! Writes OCI bundles. Used by tests and examples.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::json;

/// A bundle in the making: `config.json` and the files of its root file system.
pub struct BundleBuilder {
    directory: PathBuf,
    args: Vec<String>,
    env: Vec<String>,
    cwd: String,
    annotations: BTreeMap<String, String>,
    files: Vec<(String, Vec<u8>)>,
    memory_limit: Option<u64>,
}

impl BundleBuilder {
    /// A bundle in `directory`, which is made, running `args`.
    pub fn new(directory: &Path, args: &[&str]) -> Self {
        Self {
            directory: directory.to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            cwd: "/".into(),
            annotations: BTreeMap::new(),
            files: Vec::new(),
            memory_limit: None,
        }
    }

    /// Adds `NAME=value` to the environment.
    pub fn env(mut self, entry: &str) -> Self {
        self.env.push(entry.to_owned());
        self
    }

    /// Sets the working directory, `/` otherwise.
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

    /// Limits the container's memory, in bytes.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Writes everything; the answer is the bundle's directory.
    pub fn write(self) -> io::Result<PathBuf> {
        let root = self.directory.join("rootfs");
        fs::create_dir_all(&root)?;
        for (path, bytes) in &self.files {
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
            "annotations": self.annotations,
            "linux": { "resources": { "memory": { "limit": self.memory_limit } } },
        });
        fs::write(self.directory.join("config.json"), config.to_string())?;
        Ok(self.directory)
    }
}
