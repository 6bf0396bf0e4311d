//! What is unusual about a bed's containerd; called by tests and benches, read by `containerd`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::containerd::Containerd;

/// How a containerd is to be; see [`Containerd::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    pub(crate) containerd: Option<PathBuf>,
    pub(crate) kept: Vec<String>,
    pub(crate) extra: String,
    pub(crate) env: Vec<(String, OsString)>,
}

impl Builder {
    /// Another containerd program than the one in `PATH`; its `ctr` must lie beside it.
    pub fn program(mut self, containerd: impl Into<PathBuf>) -> Self {
        self.containerd = Some(containerd.into());
        self
    }

    /// Keeps a plugin that is disabled otherwise, for instance `io.containerd.grpc.v1.cri`.
    pub fn keep_plugin(mut self, id: &str) -> Self {
        self.kept.push(id.to_owned());
        self
    }

    /// More lines for the configuration file.
    pub fn config(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self
    }

    /// An environment variable for containerd, and so for its shims.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Result<Containerd> {
        Containerd::with(self)
    }
}
