//! containerd's runtime-v2 contract around the server: [`start`], [`serve`], [`delete`], [`info`].
//!
//! `start` binds the socket, forks the server and prints the address at once. Connections wait in
//! the backlog of the socket until the server accepts them.

pub mod delete;
pub mod info;
pub mod invocation;
pub mod protocol;
pub mod serve;
pub mod socket;
pub mod start;

use std::{io, path::PathBuf};

use crate::{
    bundle::config::ConfigError, engine::error::EngineError, id::IdError, network::NetworkError,
    requirements::RequirementError, server::ServeError, settings::SettingsError,
};

/// Why an invocation failed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The command line is invalid.
    #[error("{0}")]
    Arguments(String),
    /// An id is invalid.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The kernel or the privileges are insufficient.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
    /// The bundle's `config.json` is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The bundle's network namespace cannot be used.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The socket's path does not fit into `sockaddr_un`.
    #[error("socket path {} has {length} bytes, at most {limit} are possible", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The greatest length.
        limit: usize,
    },
    /// The server of the sandbox lives and has not let the container go.
    #[error(
        "container {container} is not removed: its server and its socket {} stay: {reason}",
        socket.display()
    )]
    ServerLives {
        /// Id of the container.
        container: String,
        /// Socket of the server.
        socket: PathBuf,
        /// Result of the calls.
        reason: String,
    },
    /// An operation of the system failed.
    #[error("{what}: {source}")]
    Io {
        /// The operation, or its file.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// containerd's message on stdin is of an unknown kind.
    #[error("stdin: {0}")]
    Stdin(String),
    /// A message could not be encoded.
    #[error("encode the reply: {0}")]
    Encode(String),
    /// A setting of the environment is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The engine could not be built.
    #[error("engine: {0}")]
    Engine(#[from] EngineError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Adapter for `map_err` that names the operation.
pub(crate) fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> BootstrapError {
    let what = what.into();
    move |source| BootstrapError::Io { what, source }
}
