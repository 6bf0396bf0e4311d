//! A socket in the place of a predecessor's: bound beside it, and renamed to its path as the last
//! step of a start. A client finds the old socket or the new one at any time, never a missing one.

use std::{
    fs, io,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::{Path, PathBuf},
};

use runwasi_core::bootstrap::{
    BootstrapError,
    socket::{self, SocketFile},
};

/// The file of a bound socket that does not have its path yet. Removed with the value.
#[derive(Debug)]
pub(crate) struct Replacement {
    temporary: PathBuf,
    path: PathBuf,
    file: Option<SocketFile>,
}

/// The file of a listening socket. Removed with the value, unless a successor has put its own
/// there.
// A field of this type comes before that of the listener, which must be open at the removal.
#[derive(Debug)]
pub(crate) struct OwnFile(Option<SocketFile>);

impl Replacement {
    /// Binds a socket of mode 0600 at `temporary`, which is to get the name `path`. No other
    /// process uses the name `temporary` at this time; a killed one may have left it.
    pub(crate) fn bind(path: &Path, temporary: PathBuf) -> io::Result<(Self, UnixListener)> {
        match fs::symlink_metadata(path) {
            // `rename` would replace any kind of file, also one that was put there by mistake.
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::Error::other("it is not a socket"));
            }
            _ => {}
        }
        socket::remove_if_dead(&temporary).map_err(io::Error::other)?;
        let listener = socket::listener(&temporary)?;
        // Read before the rename: afterwards the name may belong to a successor's socket.
        let file = SocketFile::at(&temporary).map(|file| file.renamed(path));
        Ok((Self { temporary, path: path.to_owned(), file }, listener))
    }

    /// Gives the socket its path.
    pub(crate) fn rename(mut self) -> io::Result<OwnFile> {
        fs::rename(&self.temporary, &self.path)?;
        Ok(OwnFile(self.file.take()))
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // An error: the socket has its path.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl OwnFile {
    /// Removes the file, unless a successor has put its own there. Blocks.
    pub(crate) fn remove(&self) -> Result<(), BootstrapError> {
        self.0.as_ref().map_or(Ok(()), SocketFile::remove)
    }
}

impl Drop for OwnFile {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::error!(%error, "a socket stays behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_replaced_by_the_rename_and_not_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let files = || fs::read_dir(directory.path()).unwrap().count();
        let first = UnixListener::bind(&path).unwrap();
        let own = SocketFile::of(&first).unwrap();
        let bind = || Replacement::bind(&path, path.with_extension("new")).unwrap();
        // One that is given up.
        drop(bind());
        assert_eq!(files(), 1);
        let (replacement, listener) = bind();
        own.remove().unwrap();
        assert!(!path.exists(), "it had its path too early");
        let file = replacement.rename().unwrap();
        assert!(socket::is_alive(&path));
        drop(file);
        drop(listener);
        assert_eq!(files(), 0);
    }
}
