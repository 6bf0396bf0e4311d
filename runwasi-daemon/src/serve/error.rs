//! Reasons why a daemon cannot serve.

use std::io;

use runwasi_core::{
    EngineError, bootstrap::BootstrapError, requirements::RequirementError, server::ServeError,
};

use crate::{metrics::listener::ListenError, state_dir::RecordError, traces::TracesError};

/// Reason why a daemon cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeFailure {
    /// The kernel or the privileges do not meet a requirement.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// A system call failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation or its object.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// A socket cannot be bound.
    #[error(transparent)]
    Socket(#[from] BootstrapError),
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] RecordError),
    /// Metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ListenError),
    /// Traces cannot be exported.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The engine could not be built.
    #[error("engine: {0}")]
    Engine(#[from] EngineError),
    /// The manager API cannot be served.
    #[error("manager API: {0}")]
    Manager(#[from] ServeError),
    /// A second signal has cut the drain short.
    #[error("left at once by a second signal, {sandboxes} sandboxes with it")]
    Hurried {
        /// Number of sandboxes that still existed.
        sandboxes: usize,
    },
}

pub(super) fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServeFailure {
    let what = what.into();
    move |source| ServeFailure::Io { what, source }
}
