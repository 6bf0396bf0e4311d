//! Specification of the process for which an engine prepares an instance.

use std::{borrow::Cow, collections::HashMap, path::PathBuf, sync::Arc};

use super::{
    extensions::Extensions,
    fault::FaultRecord,
    notes::{ArtifactNote, Notes},
};
use crate::{
    artifact::{
        Artifact, ArtifactError, Program, lookup,
        oci::{Images, named::IMAGE_NAME},
    },
    credentials::Credentials,
    id::Id,
    network::Network,
    observe::Subject,
    resources::memory::Memory,
    rootfs::Rootfs,
    stdio::Stdio,
};

/// Specification of one process for its engine.
///
/// Built by the container for [`Engine::prepare`](super::Engine::prepare). Clones share the root
/// file system, the streams and the memory account: the streams close, and the file systems are
/// unmounted, when the last clone is dropped. An instance therefore keeps its specification until
/// it is dropped itself, and no longer.
// Further fields must not break engines of other crates.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct InstanceSpec {
    /// The container's id.
    pub container: Id,
    /// Program and arguments, never empty. The first names the artifact, see
    /// [`InstanceSpec::find`].
    pub args: Vec<String>,
    /// Environment, `(name, value)` in the order of `config.json`.
    pub env: Vec<(String, String)>,
    /// Absolute working directory. It exists in the root file system.
    pub cwd: PathBuf,
    /// Credentials with which the guest opens files. If they are set, the thread that polls the
    /// guest has to make the file calls, because only that thread has them. The engine opens its
    /// own files with [`crate::credentials::as_host`].
    pub credentials: Option<Arc<Credentials>>,
    /// `RLIMIT_NOFILE`: one more than the guest's highest possible file descriptor.
    pub open_files: u32,
    /// The container's annotations.
    pub annotations: Arc<HashMap<String, String>>,
    /// The container's root file system and volumes.
    pub rootfs: Arc<Rootfs>,
    /// The file named by `args[0]`, looked up like the program of any container: by its absolute
    /// path, with a slash relative to `cwd`, else through `PATH` and last in `cwd`. A suffix
    /// `#name` selects the export to call. See [`InstanceSpec::find`].
    pub file: Result<Program, ArtifactError>,
    /// Access to the container's image.
    pub images: Arc<dyn Images>,
    /// The guest's standard streams.
    pub stdio: Stdio,
    /// The container's memory. The engine has to charge every growth of the guest to it, and to
    /// fail a growth that it refuses.
    pub memory: Arc<Memory>,
    /// The engine's own values for the container, shared by all its processes.
    pub extensions: Arc<Extensions>,
    /// The sandbox's network. A guest's sockets have to be created inside it, see [`Network::run`].
    pub network: Network,
    /// Identity of the container in the log.
    // Hidden: its type is one of this repository alone.
    #[doc(hidden)]
    pub subject: Arc<Subject>,
    /// Fault that ends the process, see [`InstanceSpec::fault`].
    pub(crate) faults: Arc<FaultRecord>,
}

impl InstanceSpec {
    /// Finds the program named by `args[0]`: the file, or without such a file a wasm layer of the
    /// container's image. A single layer matches any name, one of several matches by its title.
    pub async fn find(&self) -> Result<Program, ArtifactError> {
        // Lazily, since the image costs a request to containerd. An engine without wasm programs
        // uses only `file`.
        let named = self.annotations.get(IMAGE_NAME).map(String::as_str);
        lookup::find(&self.file, &self.args, &self.container, named, &*self.images).await
    }

    /// Reads a program returned by [`InstanceSpec::find`], and notes it for operators.
    pub async fn read(&self, program: &Program) -> Result<Artifact, ArtifactError> {
        let artifact = lookup::load(program, &self.rootfs, &*self.images).await?;
        let note = ArtifactNote { path: artifact.path.clone(), digest: Some(artifact.digest) };
        self.extensions.get_or_make(Notes::default).set_artifact(note);
        Ok(artifact)
    }

    /// The environment of a guest without a working directory of its own, like that of WASI preview
    /// 1: `PWD` is [`InstanceSpec::cwd`], unless the container sets it.
    pub fn environment(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let pwd = self.env("PWD").is_none().then(|| ("PWD", self.cwd.to_string_lossy()));
        self.env.iter().map(|(name, value)| (name.as_str(), value.into())).chain(pwd)
    }

    /// The value of an environment variable. The last entry counts if there are several.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}
