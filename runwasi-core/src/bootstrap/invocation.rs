//! An invocation by containerd, and the shim that it invokes.

use std::{env, path::PathBuf};

use containerd_shim::Flags;

use super::BootstrapError;
use crate::id::Id;

/// Identity of a shim, for `-v` and `-info`.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The runtime's name as users write it: `io.containerd.wasmtime.v1`.
    pub runtime: &'static str,
    /// The shim's version.
    pub version: &'static str,
    /// The engine and its version.
    pub engine: &'static str,
    /// Names of the annotations `io.runwasi.*` that the engine reads, as in
    /// [`Engine::annotations`](crate::engine::Engine::annotations).
    pub annotations: &'static [&'static str],
}

/// A checked invocation by containerd.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// containerd's namespace.
    pub namespace: Id,
    /// The container's id.
    pub id: Id,
    /// containerd's gRPC socket. It is part of the name of our socket.
    pub address: String,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// True if containerd asked for debug logs.
    pub debug: bool,
}

impl Invocation {
    pub(crate) fn check(flags: Flags) -> Result<Self, BootstrapError> {
        let namespace = Id::parse("-namespace", &flags.namespace)?;
        let id = Id::parse("-id", &flags.id)?;
        // Without `-bundle` the working directory is the bundle: containerd starts shims in it.
        let bundle = if flags.bundle.is_empty() {
            env::current_dir()
                .map_err(|source| BootstrapError::Io { what: "current directory".into(), source })?
        } else {
            PathBuf::from(flags.bundle)
        };
        Ok(Self { namespace, id, address: flags.address, bundle, debug: flags.debug })
    }
}
