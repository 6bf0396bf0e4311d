//! Errors of an engine.

use std::{io, path::PathBuf};

use crate::{artifact::ArtifactError, resources::memory::BeyondLimit, settings::SettingsError};

/// An engine could not prepare or run an instance. The text reaches the user through containerd.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The artifact could not be found or read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The artifact is invalid, or does not fit the container's settings.
    #[error("{}: {reason}", path.display())]
    Invalid {
        /// Path of the artifact in the guest.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The container requests a feature that this engine does not support.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// The requested feature.
        what: String,
        /// The reason why it is not supported.
        why: String,
    },
    /// A setting of the container is unknown or invalid: an annotation, or a variable of its
    /// environment. The text names it.
    #[error("{0}")]
    Annotation(String),
    /// A setting is unknown or invalid, or can no longer be changed.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No memory, instance slot or other bounded resource is left.
    #[error("out of {what}: {reason}")]
    Exhausted {
        /// The resource.
        what: &'static str,
        /// The engine's own text.
        reason: String,
    },
    /// Any other failure of the engine.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    /// Error of a start: the guest's first memory is beyond the limit of its container.
    pub fn begins_beyond(limit: BeyondLimit) -> Self {
        let reason = format!("what the guest begins with: {limit}");
        Self::Exhausted { what: "memory", reason }
    }
}

/// For errors of the system without a variant of their own.
impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
