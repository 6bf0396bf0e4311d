//! Errors of a container's file systems. Their texts reach users through containerd.

use std::{
    io,
    path::{Path, PathBuf},
};

/// A file system that cannot be set up, or a path that cannot be opened in it.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A mount of `Create` failed.
    #[error("mount {kind} {source_path} on rootfs (options {options}): {source}")]
    Mount {
        /// The mount's type.
        kind: String,
        /// The mount's source.
        source_path: String,
        /// Its options.
        options: String,
        /// The system's error.
        source: io::Error,
    },
    /// A directory on the host cannot be used.
    #[error("{what} {}: {source}", path.display())]
    Directory {
        /// What it is for.
        what: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A mount of `config.json` cannot be put where the container is to see it.
    #[error("mounts: {}: {source}", destination.display())]
    Destination {
        /// The path in the container.
        destination: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The working directory is not there.
    #[error("process.cwd {}: {source}", path.display())]
    Cwd {
        /// The path in the guest.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl RootfsError {
    /// Names the directory of the host and its purpose.
    pub(super) fn directory(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Directory { what, path: path.to_owned(), source }
    }

    /// Names the place in the container.
    pub(super) fn destination(destination: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Destination { destination: destination.to_owned(), source }
    }
}
