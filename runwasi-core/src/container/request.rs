//! The requests of containerd that make processes.

use std::path::PathBuf;

use crate::{id::Id, options::RuntimeOptions, rootfs::MountConfig, stdio::paths::StdioPaths};

/// What containerd's `Create` says.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The container's id.
    pub id: Id,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// What to mount as root file system; empty if the bundle's root is ready to use.
    pub mounts: Vec<MountConfig>,
    /// The init's streams.
    pub stdio: StdioPaths,
    /// Settings for the engine.
    pub options: RuntimeOptions,
}

/// What containerd's `Exec` says.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// The process's id, unlike any other of its container.
    pub id: Id,
    /// Its specification, JSON.
    pub spec: Vec<u8>,
    /// Its streams.
    pub stdio: StdioPaths,
}
