//! Errors of creating containers and further processes. Their texts reach users through containerd.

use std::{io, path::PathBuf};

use crate::{
    bundle::{
        allowed_roots::BundleError, config::ConfigError, hooks::HookError,
        process::ProcessConfigError,
    },
    engine::error::EngineError,
    native::error::NativeError,
    network::NetworkError,
    process::{ProcessError, execs::ExecsError},
    rootfs::RootfsError,
    settings::SettingsError,
    stdio::error::StdioError,
};

/// A container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// `config.json` is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mount failed, or the working directory is missing.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A stream could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The engine refused the process or its settings.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A hook failed.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The bundle lies outside the allowed directories.
    #[error(transparent)]
    Place(#[from] BundleError),
    /// The runtime options cannot be read.
    #[error(transparent)]
    Options(#[from] SettingsError),
    /// The program is native, and native containers cannot be run.
    #[error("{} is a native program: {source}", path.display())]
    Native {
        /// The program's path in the container.
        path: PathBuf,
        /// Why.
        source: NativeError,
    },
    /// The PID namespace of the sandbox cannot be made.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// A guest cannot go on from a checkpoint.
    #[error("restoring a checkpoint is not supported: a guest's state cannot be written down")]
    Checkpoint,
    /// A file of the bundle could not be written.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A process could not be added to a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container has a process with this id, or is creating one.
    #[error("already exists")]
    AlreadyExists,
    /// The state of the container's init does not allow it.
    #[error(transparent)]
    Init(ProcessError),
    /// The init has ended in the meantime.
    #[error("the container has ended")]
    Ended,
    /// The container is the pause container of a pod, which has no file systems.
    #[error("a container of type sandbox runs no programs")]
    NoPrograms,
    /// The process's specification is invalid.
    #[error(transparent)]
    Config(#[from] ProcessConfigError),
    /// A stream could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The process could not be prepared.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl From<ExecsError> for ExecError {
    fn from(cause: ExecsError) -> Self {
        match cause {
            ExecsError::AlreadyExists => Self::AlreadyExists,
            ExecsError::Ended => Self::Ended,
        }
    }
}
