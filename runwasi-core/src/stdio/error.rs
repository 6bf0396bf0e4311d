//! Errors of opening standard streams. Their texts reach users through containerd.

use std::{io, path::PathBuf};

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// The path cannot be opened as what it should be.
    #[error("{stream} {}: {source}", path.display())]
    Open {
        /// stdin, stdout or stderr.
        stream: &'static str,
        /// The path containerd gave.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The stream is of a kind that is not supported.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// The requested stream or address.
        what: String,
        /// The reason.
        why: &'static str,
    },
    /// The address of a stream is not valid.
    #[error("{stream} {address:?}: {reason}")]
    Address {
        /// stdin, stdout or stderr.
        stream: &'static str,
        /// The address that containerd gave.
        address: String,
        /// The fault of the address.
        reason: String,
    },
    /// The logger does not run.
    #[error("logger {}: {source}", program.display())]
    Logger {
        /// Its program.
        program: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system gives no terminal.
    #[error("terminal: {0}")]
    Terminal(#[source] io::Error),
}

impl StdioError {
    /// True for a path with a file of another kind than a FIFO.
    pub(super) fn is_no_fifo(&self) -> bool {
        // Of Tokio, and of no system call.
        matches!(self, Self::Open { source, .. }
            if source.kind() == io::ErrorKind::InvalidInput && source.raw_os_error().is_none())
    }
}
