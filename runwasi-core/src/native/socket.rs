//! The socket of a delegate, seen from outside. It is served or left; only one start at a time
//! makes one of its name.

use std::{fs, io, os::unix::net::UnixStream, path::Path};

use crate::containerd::shim_client::ShimAddress;

/// True if a process serves it.
pub(super) fn is_served(address: &ShimAddress) -> bool {
    path(address).is_some_and(|path| UnixStream::connect(path).is_ok())
}

/// Removes one that no process serves.
pub(super) fn remove_left(address: &ShimAddress) {
    let Some(path) = path(address).filter(|_| !is_served(address)) else { return };
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "the socket of a native runtime stays behind");
        }
        _ => {}
    }
}

fn path(address: &ShimAddress) -> Option<&Path> {
    address.address.strip_prefix("unix://").map(Path::new)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_a_socket_without_a_process_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = ShimAddress { address: format!("unix://{}", path.display()), version: 2 };
        remove_left(&address);
        let listener = UnixListener::bind(&path).unwrap();
        remove_left(&address);
        assert!(is_served(&address) && path.exists());
        drop(listener);
        remove_left(&address);
        assert!(!is_served(&address) && !path.exists());
    }
}
