//! Output to a file, for `file://` addresses.
//!
//! Written to in the guest's own call: a write to a file waits for no reader. When it returns, the
//! bytes are in the file. A character device is no such file: a terminal may be full, and then a
//! write waits for its reader as with a pipe.

use std::{
    convert::identity,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{
    error::StdioError,
    readiness::{self, Direction},
};
use crate::{blocking::blocking, sys};

/// A file opened for appending, or a device. Clones write to the same one.
#[derive(Clone, Debug)]
pub struct Output(Arc<OutputFile>);

#[derive(Debug)]
enum OutputFile {
    /// Its writes may wait for a disk, and for nothing else.
    Regular(File),
    /// Its writes return at once, perhaps with `WouldBlock`. It is not watched if it never does
    /// that: `/dev/null`, for example.
    Device(File, Option<AsyncFd<File>>),
}

impl Output {
    /// Opens the file. Makes it and its directory if missing, as `containerd-shim-runc-v2` does. To
    /// be called on the Tokio runtime with the reactor that shall watch a device.
    pub(super) async fn open(stream: &'static str, path: PathBuf) -> Result<Self, StdioError> {
        let named = path.clone();
        // On a blocking thread: the file system may be slow, and control threads must answer.
        let opened = blocking(move || open(&path), identity).await;
        let opened = opened.and_then(|(file, is_device)| match is_device {
            true => watched(&file).map(|watched| OutputFile::Device(file, watched)),
            false => Ok(OutputFile::Regular(file)),
        });
        let file = opened.map_err(|source| StdioError::Open { stream, path: named, source })?;
        Ok(Self(Arc::new(file)))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.file().write(bytes) {
            // Not first: a device that is never full may tell no readiness. Once more, so that what
            // is waited for is a change after this attempt.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.watched() {
                Some(device) => device.try_io(Interest::WRITABLE, |mut file| file.write(bytes)),
                None => Err(error),
            },
            result => result,
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self.watched() {
            Some(device) => readiness::wait_for(device, Direction::Write).await,
            None => Ok(()),
        }
    }

    /// True if a write may wait for a disk.
    pub(super) fn is_regular(&self) -> bool {
        matches!(*self.0, OutputFile::Regular(_))
    }

    /// Writes all bytes to a regular file on the blocking pool.
    pub(super) async fn write_all_aside(&self, bytes: Vec<u8>) -> io::Result<()> {
        let output = self.clone();
        blocking(move || output.file().write_all(&bytes), identity).await
    }

    fn file(&self) -> &File {
        let (OutputFile::Regular(file) | OutputFile::Device(file, _)) = &*self.0;
        file
    }

    fn watched(&self) -> Option<&AsyncFd<File>> {
        match &*self.0 {
            OutputFile::Device(_, watched) => watched.as_ref(),
            OutputFile::Regular(_) => None,
        }
    }
}

/// Opens a file, and tells if it is a device.
fn open(path: &Path) -> io::Result<(File, bool)> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    // `O_NONBLOCK`: the open of a FIFO in the file's place must not wait for a reader. `O_NOCTTY`: a
    // terminal must not become that of this process.
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    // Of the open file, not of the path, which may change in between.
    let kind = file.metadata()?.file_type();
    if kind.is_file() || kind.is_char_device() {
        return Ok((file, kind.is_char_device()));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"))
}

/// Watches a device, if it can be watched.
fn watched(device: &File) -> io::Result<Option<AsyncFd<File>>> {
    match sys::watch(device.try_clone()?) {
        Ok(watched) => Ok(Some(watched)),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::AsRawFd};

    use rustix::fs::{CWD, FileType, Mode, mknodat};
    use tokio::time::{Duration, Instant, timeout};

    use super::{
        super::{paths::StreamTarget, streams},
        *,
    };

    async fn device(path: &str) -> streams::Output {
        let place = StreamTarget::File(path.into());
        streams::Output::open("stdout", place, Instant::now()).await.unwrap()
    }

    #[tokio::test]
    async fn write_to_a_full_terminal_waits_for_its_reader() {
        let (master, slave) = sys::terminal::open().unwrap();
        let output = device(&format!("/proc/self/fd/{}", slave.as_raw_fd())).await;
        let bytes = vec![b'x'; 1 << 20];
        let write = output.write_all(&bytes);
        tokio::pin!(write);
        assert!(
            timeout(Duration::from_secs(1), &mut write).await.is_err(),
            "a terminal took 1 MiB"
        );
        let master = sys::watch(master).unwrap();
        let read = async {
            let mut buffer = [0; 4096];
            let mut left = bytes.len();
            while left > 0 {
                let read = master.async_io(Interest::READABLE, |mut file| file.read(&mut buffer));
                left -= read.await.unwrap();
            }
        };
        let both = async { tokio::join!(write, read) };
        let (written, ()) = timeout(Duration::from_secs(60), both).await.unwrap();
        written.unwrap();
    }

    #[tokio::test]
    async fn device_that_cannot_be_watched_is_written_to() {
        let null = device("/dev/null").await;
        null.write_all(&[b'x'; 4096]).await.unwrap();
        null.writable().await.unwrap();
        let error = device("/dev/full").await.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

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
