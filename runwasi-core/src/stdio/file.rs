//! Output to a file, for `file://` addresses.
//!
//! Written to in the guest's own call: a write to a file waits for no reader. When it returns, the
//! bytes are in the file.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::task::spawn_blocking;

use super::error::StdioError;

/// A file opened for appending. Clones write to the same file.
#[derive(Clone, Debug)]
pub struct Output(Arc<File>);

impl Output {
    /// Opens the file. Makes it and its directory if missing, as `containerd-shim-runc-v2` does.
    pub(super) async fn open(stream: &'static str, path: PathBuf) -> Result<Self, StdioError> {
        let named = path.clone();
        // On a blocking thread: the file system may be slow, and control threads must answer.
        let opened = spawn_blocking(move || open(&path))
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        let file = opened.map_err(|source| StdioError::Open { stream, path: named, source })?;
        Ok(Self(Arc::new(file)))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    // `O_NONBLOCK`: the open of a FIFO in the file's place must not wait for a reader.
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // Of the open file, not of the path, which may change in between.
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[tokio::test]
    async fn output_is_appended_to_a_file_made_with_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/log");
        for text in ["one ", "two"] {
            let output = Output::open("stdout", path.clone()).await.unwrap();
            assert_eq!(output.try_write(text.as_bytes()).unwrap(), text.len());
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "one two");
    }

    #[tokio::test]
    async fn a_path_to_no_file_is_refused_with_the_path() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from(0o600), 0).unwrap();
        // A FIFO with a reader can be opened for writing, but is not a file.
        let _reader =
            File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&fifo).unwrap();
        for path in [fifo.as_path(), directory.path(), Path::new("/dev/null/log")] {
            let error = Output::open("stdout", path.to_owned()).await.unwrap_err().to_string();
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
