//! Which Docker a fixture has, of those that `scripts/dockers` has fetched; read by
//! [`Docker`](super::Docker).

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::runtime::target_dir;

/// A Docker Engine that tests run against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Engine {
    /// 26, the first that can name a containerd runtime in its `daemon.json`.
    V26,
    /// The newest one.
    #[default]
    Newest,
}

impl Engine {
    /// The folder with its packages, unpacked. That it is not there is an error with the reason
    /// that was found when it was fetched.
    pub(super) fn folder(self) -> Result<PathBuf> {
        let name = match self {
            Self::V26 => "26",
            Self::Newest => "new",
        };
        let all = target_dir().join("dockers");
        let folder = all.join(name);
        if folder.join("usr/sbin/dockerd").exists() {
            return Ok(folder.canonicalize()?);
        }
        let reason = fs::read_to_string(all.join(format!("{name}.missing")));
        let reason = reason.unwrap_or_else(|_| "`scripts/setup test` fetches it".to_owned());
        bail!("docker {name} is not at {}: {reason}", folder.display())
    }
}
