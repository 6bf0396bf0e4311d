//! What an engine is told about the process whose instance it prepares.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use super::extensions::Extensions;
use crate::{
    artifact::{Artifact, ArtifactError, Program, lookup, oci::Images},
    id::Id,
    network::Network,
    resources::memory::Memory,
    rootfs::Rootfs,
    stdio::Stdio,
    sys::credentials::Credentials,
};

/// Everything an engine may know about the process it prepares.
#[derive(Clone, Debug)]
pub struct InstanceSpec {
    /// The container's id.
    pub container: Id,
    /// Program and arguments; never empty. The first names the artifact, see [`InstanceSpec::find`].
    pub args: Vec<String>,
    /// Environment, `(name, value)` in the order of `config.json`.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute, known to exist in the root file system.
    pub cwd: PathBuf,
    /// As whom the guest opens files. If there is one, file calls are to be made by the thread that polls the guest: it is entered
    /// there. What the engine opens for itself is opened with [`crate::credentials::as_host`].
    pub credentials: Option<Arc<Credentials>>,
    /// `RLIMIT_NOFILE`: one more than the highest file descriptor the guest may have.
    pub open_files: u32,
    /// The container's annotations.
    pub annotations: Arc<HashMap<String, String>>,
    /// The container's root file system and volumes.
    pub rootfs: Arc<Rootfs>,
    /// The file that `args[0]` names, looked up as a container's program is: absolute, with a slash relative to `cwd`, else through
    /// `PATH` and last in `cwd`; a suffix `#name` selects the export to call. See [`InstanceSpec::find`].
    pub file: Result<Program, ArtifactError>,
    /// Where the image of the container is looked at.
    pub images: Arc<dyn Images>,
    /// Where the guest's standard streams go.
    pub stdio: Stdio,
    /// The container's memory: what a guest can grow is to be charged to it, and what it refuses is not to be given.
    pub memory: Arc<Memory>,
    /// What the engine keeps for the container; the same for all its processes.
    pub extensions: Arc<Extensions>,
    /// The sandbox's network: a guest's sockets are to be made inside it, see [`Network::run`].
    pub network: Network,
}

impl InstanceSpec {
    /// Finds the program that `args[0]` names: the file, or, where there is none, a wasm layer of the container's image. Of one layer
    /// any name will do, of several it is the title. Only then is containerd asked; an engine whose programs are no wasm never does.
    pub async fn find(&self) -> Result<Program, ArtifactError> {
        lookup::find(&self.file, &self.args, &self.container, &*self.images).await
    }

    /// Reads a program that was found.
    pub async fn read(&self, program: &Program) -> Result<Artifact, ArtifactError> {
        lookup::load(program, &self.rootfs, &*self.images).await
    }

    /// The value of an environment variable, the last one if it is given twice.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}
