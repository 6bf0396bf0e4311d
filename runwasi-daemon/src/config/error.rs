//! What is wrong with the settings, and where it stands. `main` prints it.

use std::{io, path::PathBuf};

use runwasi_core::settings::SettingsError;

use super::keys::{Key, MAX_BYTES};

/// What is wrong, and where it stands.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A word of the command line that is no flag and no command.
    #[error("{word}: unknown; --help shows what there is")]
    Unknown {
        /// The word.
        word: String,
    },
    /// Flags that cannot be understood; the source names the flag.
    #[error(transparent)]
    Arguments(#[from] lexopt::Error),
    /// What is wrong in the table `[engine]`.
    #[error(transparent)]
    Engine(#[from] SettingsError),
    /// A flag or an environment variable with a value that means nothing.
    #[error("{origin}: {reason}")]
    Value {
        /// The flag or the variable.
        origin: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
    /// The file cannot be read.
    #[error("{}: {source} (named by {named_by})", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The flag or the variable that named it, or `default`.
        named_by: &'static str,
        /// The system's error.
        source: io::Error,
    },
    /// The file is a directory, a FIFO or the like.
    #[error("{}: not a regular file (named by {named_by})", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
        /// The flag or the variable that named it, or `default`.
        named_by: &'static str,
    },
    /// The file is larger than 1 MiB.
    #[error("{}: larger than {} bytes", path.display(), MAX_BYTES)]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8, or not TOML.
    #[error("{}:{line}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The parser's words.
        reason: String,
    },
    /// The file has a key that is none.
    #[error("{}:{line}: unknown key {key:?}, expected one of {}", path.display(), Key::list())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// A key of the file has a value that means nothing.
    #[error("{}:{line}: {key}: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key.
        key: &'static str,
        /// What is wrong with the value.
        reason: String,
    },
}
