//! Reasons to stop. Each names the file, and the line where there is one.

use std::io;

use crate::host::HostError;

/// A reason why nothing, or nothing further, was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration that this program does not understand, or that another has changed.
    #[error("{file}:{line}: {reason}")]
    Config {
        /// The file, as a path of the host.
        file: String,
        /// The line, from 1 on.
        line: usize,
        /// What is wrong, and what helps.
        reason: String,
    },
    /// A file that is in the way.
    #[error("{path}: {reason}")]
    File {
        /// The path on the host, or of the image.
        path: String,
        /// What is wrong, and what helps.
        reason: String,
    },
    /// A system call on a file failed.
    #[error("{path}: {source}")]
    Io {
        /// The path on the host, or of the image.
        path: String,
        /// The call's error.
        source: io::Error,
    },
    /// Pods or containers of these runtimes are there.
    #[error(
        "{} pods or containers of these runtimes are there, the first is {first}; remove them, or use --force",
        count
    )]
    InUse {
        /// Their number.
        count: usize,
        /// containerd's namespace and id of one of them.
        first: String,
    },
    /// A program of the host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// containerd does not run with the new configuration.
    #[error("containerd is not back with the new configuration: {reason}; {restored}")]
    NotBack {
        /// The last answer.
        reason: String,
        /// How it went with the previous one.
        restored: String,
    },
    /// This change of a configuration has failed before, and containerd is not restarted for it
    /// yet.
    #[error(
        "{file}: {fault} (tries: {times}); it is tried again in {seconds} s, or at once with --retry, \
         or if the configuration is another"
    )]
    NotAgain {
        /// The file, as a path of the host.
        file: String,
        /// Outcome of the change.
        fault: &'static str,
        /// How often it was tried.
        times: u32,
        /// The time until the next try.
        seconds: u64,
    },
}

impl Error {
    pub(crate) fn config(file: &str, line: usize, reason: impl Into<String>) -> Self {
        Self::Config { file: file.to_owned(), line, reason: reason.into() }
    }

    pub(crate) fn file(path: &str, reason: impl Into<String>) -> Self {
        Self::File { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn io(path: &str, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), source: source.into() }
    }
}
