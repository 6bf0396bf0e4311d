//! Requests of containerd that create processes.

use std::path::PathBuf;

use crate::{
    id::Id,
    options::RuntimeOptions,
    rootfs::MountConfig,
    stdio::paths::StdioPaths,
    traces::{context::SpanContext, start::StartTrace},
};

/// Content of containerd's `Create`.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    /// The container's id.
    pub id: Id,
    /// The bundle directory.
    pub bundle: PathBuf,
    /// Mounts of the root file system. Empty if the bundle's root is ready to use.
    pub mounts: Vec<MountConfig>,
    /// The init's streams.
    pub stdio: StdioPaths,
    /// Settings for the engine.
    pub options: RuntimeOptions,
    /// Options of runc's type, if the client has sent such ones: a protobuf `Any` for the `start`
    /// of a delegate.
    pub runc_options: Vec<u8>,
    /// True if the container is to go on from a checkpoint.
    pub checkpoint: bool,
    /// The span that containerd's call belongs to, if it names one.
    pub parent: Option<SpanContext>,
    /// Trace of the start. Begun by the sandbox.
    pub trace: StartTrace,
}

/// Content of containerd's `Exec`.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// The process's id, unique in its container.
    pub id: Id,
    /// Its specification in JSON.
    pub spec: Vec<u8>,
    /// Its streams.
    pub stdio: StdioPaths,
    /// The span that containerd's call belongs to, if it names one.
    pub parent: Option<SpanContext>,
    /// Trace of the start. Begun by the sandbox.
    pub trace: StartTrace,
}
