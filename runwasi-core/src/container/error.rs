//! Errors of creating containers and further processes. Their texts reach users through containerd.

use std::{io, path::PathBuf};

use crate::{
    bundle::{
        allowed_roots::BundleError, config::ConfigError, hooks::HookError,
        process::ProcessConfigError,
    },
    engine::error::EngineError,
    process::{ProcessError, execs::ExecsError},
    rootfs::RootfsError,
    settings::SettingsError,
    stdio::error::StdioError,
};

/// Why a container could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// `config.json` is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mount failed, or the working directory is missing.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A stream could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A hook refuses.
    #[error(transparent)]
    Hook(#[from] HookError),
    /// The bundle does not lie where bundles may.
    #[error(transparent)]
    Place(#[from] BundleError),
    /// The runtime options cannot be read.
    #[error(transparent)]
    Options(#[from] SettingsError),
    /// A file of the bundle could not be written.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Why a process could not be added to a container.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The container has a process of that id, or it is being made.
    #[error("already exists")]
    AlreadyExists,
    /// The container's init is in no state for it.
    #[error(transparent)]
    Init(ProcessError),
    /// The init has ended meanwhile.
    #[error("the container has ended")]
    Ended,
    /// The pause container of a pod has no file systems.
    #[error("a container of type sandbox runs no programs")]
    NoPrograms,
    /// Its specification is wrong.
    #[error(transparent)]
    Config(#[from] ProcessConfigError),
    /// The working directory is missing.
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    /// A stream could not be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The engine refuses.
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
