//! Errors of an engine. Their texts reach users through containerd.

use std::path::PathBuf;

use crate::{artifact::ArtifactError, settings::SettingsError};

/// Why an engine could not make or run an instance. The text reaches the user through containerd.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The artifact could not be found or read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The artifact, or what the container asks of it, is wrong.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// The artifact, as the guest would name it.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The container asks for something this engine does not do.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why it is not done.
        why: String,
    },
    /// A setting is unknown or wrong, or cannot be had any more.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No memory, instance slot or other bounded resource is left.
    #[error("out of {what}: {reason}")]
    Exhausted {
        /// Which resource.
        what: &'static str,
        /// The engine's own words.
        reason: String,
    },
    /// Anything else that stopped the engine.
    #[error("{0}")]
    Failed(String),
}
