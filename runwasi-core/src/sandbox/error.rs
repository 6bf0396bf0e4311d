//! Errors of requests to a sandbox. Their texts reach users through containerd.

use std::sync::Arc;

use crate::{
    bundle::hooks::HookError,
    container::error::{CreateError, ExecError},
    id::Id,
    network::NetworkError,
    process::ProcessError,
};

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// There is no such container.
    #[error("container {id}: not found")]
    NotFound {
        /// Its id.
        id: Id,
    },
    /// The container has no such exec process.
    #[error("process {exec} in container {id}: not found")]
    ProcessNotFound {
        /// The container's id.
        id: Id,
        /// The exec's id.
        exec: String,
    },
    /// A container of this id exists or is being created.
    #[error("container {id}: already exists")]
    AlreadyExists {
        /// Its id.
        id: Id,
    },
    /// The sandbox is managed, and has not been started or is being stopped.
    #[error("container {id}: its sandbox is not ready")]
    NotReady {
        /// The container's id.
        id: Id,
    },
    /// The server of the sandbox is being stopped, and takes no further work.
    #[error("container {id}: its sandbox is being stopped")]
    Stopping {
        /// The container's id.
        id: Id,
    },
    /// The namespaces of the sandbox could not be made as `config.json` wants them.
    #[error("create container {id}: {source}")]
    Namespaces {
        /// The container's id.
        id: Id,
        /// Why.
        source: Arc<NetworkError>,
    },
    /// The OS process of the sandbox was killed, which has ended the sandbox.
    #[error("container {id}: process {pid} of its sandbox was killed, which has ended the sandbox")]
    Killed {
        /// The container's id.
        id: Id,
        /// The process.
        pid: u32,
    },
    /// The container could not be created.
    #[error("create container {id}: {source}")]
    Create {
        /// Its id.
        id: Id,
        /// Why.
        source: CreateError,
    },
    /// The exec process could not be prepared.
    #[error("exec {exec} in container {id}: {source}")]
    Exec {
        /// The container's id.
        id: Id,
        /// The exec's id.
        exec: Id,
        /// Why.
        source: Box<ExecError>,
    },
    /// A hook that follows the container's start failed.
    #[error("container {id}: {source}")]
    Hook {
        /// The container's id.
        id: Id,
        /// The hook and its error.
        source: HookError,
    },
    /// The native runtime of the container failed.
    #[error("container {id}: native runtime: {reason}")]
    Native {
        /// The container's id.
        id: Id,
        /// The runtime's own words.
        reason: String,
    },
    /// The process refused or failed.
    #[error("container {id}: {source}")]
    Process {
        /// The container's id.
        id: Id,
        /// Why.
        source: ProcessError,
    },
}
