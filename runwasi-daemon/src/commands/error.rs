//! Errors of the commands, and the exit statuses that tell them apart.

use std::{io, path::PathBuf, process::ExitCode};

use crate::manager::client::ClientError;

/// Exit status without a daemon, as `systemctl status` has it.
const ABSENT: u8 = 3;
/// Exit status without permission.
const DENIED: u8 = 4;

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// No daemon lives.
    #[error(
        "daemon not running at {}: start it with 'systemctl start {program}' or '{program}'",
        socket.display()
    )]
    Absent {
        /// The manager socket.
        socket: PathBuf,
        /// Name of the daemon's program and unit.
        program: &'static str,
    },
    /// The user may not ask.
    #[error("{}: {source}: only the daemon's user, root, may ask it", path.display())]
    Denied {
        /// The socket or its directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Daemons live, and none takes new sandboxes.
    #[error("no daemon at {} takes new sandboxes: 'status' shows what there is", socket.display())]
    NoneServes {
        /// The manager socket.
        socket: PathBuf,
    },
    /// A daemon does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Anything else, as a text for the user.
    #[error("{0}")]
    Other(String),
}

impl CommandError {
    /// The exit status of the command.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Absent { .. } => ABSENT.into(),
            Self::Denied { .. } => DENIED.into(),
            Self::NoneServes { .. } | Self::Client(_) | Self::Io { .. } | Self::Other(_) => {
                ExitCode::FAILURE
            }
        }
    }
}

/// An error that names its object itself, or has none: stdout.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Other(error.to_string())
    }
}
