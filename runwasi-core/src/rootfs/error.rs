//! Errors of a container's file systems. Their texts reach users through containerd.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::sys;

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
        /// Its purpose.
        what: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A mount of `config.json` cannot be attached at its destination in the container.
    #[error("mounts: {}: {source}", destination.display())]
    Destination {
        /// The path in the container.
        destination: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A path of the container cannot be restricted.
    #[error("{field}: {}: {source}", path.display())]
    Path {
        /// The field of `config.json`.
        field: &'static str,
        /// The path in the container.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The working directory does not exist.
    #[error("process.cwd {}: {source}", path.display())]
    Cwd {
        /// The path in the guest.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl RootfsError {
    /// Returns a conversion that names the directory of the host and its purpose.
    pub(super) fn directory(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Directory { what, path: path.to_owned(), source: with_kernel(source) }
    }

    /// Returns a conversion that names the field and the path in the container.
    pub(super) fn path(field: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Path { field, path: path.to_owned(), source: with_kernel(source) }
    }

    /// Returns a conversion that names the destination in the container.
    pub(super) fn destination(destination: &Path) -> impl Fn(io::Error) -> Self {
        move |source| {
            let destination = destination.to_owned();
            Self::Destination { destination, source: with_kernel(source) }
        }
    }
}

/// Adds the kernel's release to the error of a missing system call.
fn with_kernel(error: io::Error) -> io::Error {
    // ENOSYS alone does not tell an old kernel from a seccomp filter; the release lets the user
    // decide.
    if error.raw_os_error() != Some(libc::ENOSYS) {
        return error;
    }
    let reason = format!("{error}: Linux {} lacks it, or a filter hides it", sys::kernel_release());
    io::Error::new(error.kind(), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_system_call_names_the_kernel() {
        let error = || io::Error::from_raw_os_error(libc::ENOSYS);
        let release = sys::kernel_release();
        let said = RootfsError::directory("root.path", Path::new("/x"))(error()).to_string();
        assert!(said.starts_with("root.path /x: ") && said.contains(&release), "{said}");
        let said = RootfsError::destination(Path::new("/v"))(error()).to_string();
        assert!(said.starts_with("mounts: /v: ") && said.contains(&release), "{said}");
        let other = io::Error::from_raw_os_error(libc::EROFS);
        let said = RootfsError::destination(Path::new("/v"))(other).to_string();
        assert!(!said.contains(&release), "{said}");
    }
}
