//! Errors of the daemon, whose texts containerd and operators read.

use std::{io, path::PathBuf};

use runwasi_core::{
    bootstrap::BootstrapError, bundle::allowed_roots::BundleError, id::IdError,
    network::NetworkError, sandbox::error::SandboxError,
};

use crate::state_dir::RecordError;

/// Reason for a refusal or a failure of the daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// An id is invalid.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The bundle is unusable, outside of the bundle roots, or of another sandbox.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The config of the bundle or the socket of the sandbox is unusable.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The network of the bundle is unusable.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The record of the sandbox cannot be written or removed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The sandbox refuses the request.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The daemon takes no new sandboxes any more.
    #[error("this daemon (pid {}) is leaving and takes no new sandboxes", std::process::id())]
    Leaving,
    /// Another process serves the sandbox's socket.
    #[error("socket {} is served by another process{owner}, not by this daemon", socket.display())]
    Squatted {
        /// The socket.
        socket: PathBuf,
        /// Pid of that process in parentheses, empty if it is unknown.
        owner: String,
    },
    /// Without a guard, no process can start another daemon.
    #[error(
        "this daemon (pid {}) runs without --guard and cannot start another one: \
         start it yourself, and it takes over",
        std::process::id()
    )]
    NoGuard,
    /// The successor has failed to start. This daemon continues.
    #[error(
        "the new daemon does not start ({reason}), this one (pid {}) goes on: see its log",
        std::process::id()
    )]
    NotReloaded {
        /// How the successor has ended.
        reason: String,
    },
    /// A blocking task of the daemon panicked or was cancelled.
    #[error("{what}: {reason}")]
    Lost {
        /// Name of the task.
        what: &'static str,
        /// Error of the join.
        reason: String,
    },
}

/// The error of work on the blocking pool without a result.
pub(super) fn lost(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |error| DaemonError::Lost { what, reason: error.to_string() }
}
