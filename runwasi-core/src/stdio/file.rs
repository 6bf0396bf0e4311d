//! Output to a file, for `file://` addresses.
//!
//! Written to in the guest's own call: a write to a file waits for no reader. When it returns, the
//! bytes are in the file. On a file system that may wait for its server, perhaps for ever, that is
//! one of the container's file calls ([`crate::scheduler::file_calls`]). A character device is no
//! such file: a terminal may be full, and then a write waits for its reader as with a pipe.

use std::{
    convert::identity,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use rustix::io::Errno;
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    error::StdioError,
    readiness::{self, Direction},
};
use crate::{
    blocking::blocking,
    lock::{Mutex, get_or_start},
    rootfs::waiting,
    sys,
};

/// Stack of the thread that closes files.
const STACK: usize = 64 << 10;

/// A file opened for appending, or a device. Clones write to the same one.
#[derive(Clone, Debug)]
pub struct Output(Arc<OutputFile>);

#[derive(Debug)]
enum OutputFile {
    /// Its writes may wait for a disk, and for nothing else.
    Regular(File),
    /// Its writes and its close may wait for the server of a file system.
    Remote(RemoteFile),
    /// Its writes return at once, perhaps with `WouldBlock`. It is not watched if it never does
    /// that: `/dev/null`, for example.
    Device(File, Option<AsyncFd<File>>),
}

#[derive(Debug)]
struct RemoteFile {
    /// `Some` until the drop.
    file: Option<File>,
    path: PathBuf,
}

/// The thread that closes such files, once there is one. Not the blocking pool: a close may wait
/// for ever, and the pool also makes and deletes containers.
static CLOSER: Mutex<Option<mpsc::Sender<File>>> = Mutex::new(None);

impl Drop for RemoteFile {
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let closer = get_or_start(&mut CLOSER.lock(), start_closer).map(|closer| closer.clone());
        match closer {
            // An error: the thread has gone, and the file is closed here.
            Ok(closer) => drop(closer.send(file)),
            Err(_) => drop(file),
        }
    }
}

fn start_closer() -> io::Result<mpsc::Sender<File>> {
    let (sender, files) = mpsc::channel();
    let work = move || files.into_iter().for_each(drop::<File>);
    thread::Builder::new().name("close".into()).stack_size(STACK).spawn(work)?;
    Ok(sender)
}

/// A file as it was found.
enum OpenedOutput {
    Regular(File),
    Remote(File),
    Device(File),
}

impl Output {
    /// Opens the file. Makes it and its directory if missing, as `containerd-shim-runc-v2` does. To
    /// be called on the Tokio runtime with the reactor that shall watch a device.
    pub(super) async fn open(stream: &'static str, path: PathBuf) -> Result<Self, StdioError> {
        let named = path.clone();
        // On a blocking thread: the file system may be slow, and control threads must answer.
        let opened = match blocking(move || open(&path), identity).await {
            Ok(OpenedOutput::Regular(file)) => Ok(OutputFile::Regular(file)),
            Ok(OpenedOutput::Remote(file)) => {
                Ok(OutputFile::Remote(RemoteFile { file: Some(file), path: named.clone() }))
            }
            Ok(OpenedOutput::Device(file)) => {
                watched(&file).map(|watched| OutputFile::Device(file, watched))
            }
            Err(error) => Err(error),
        };
        let file = opened.map_err(|source| StdioError::Open { stream, path: named, source })?;
        Ok(Self(Arc::new(file)))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.file()?.write(bytes) {
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
        matches!(*self.0, OutputFile::Regular(_) | OutputFile::Remote(_))
    }

    /// Its path, if writes may wait for more than a local disk.
    pub(super) fn slow(&self) -> Option<&Path> {
        match &*self.0 {
            OutputFile::Remote(remote) => Some(&remote.path),
            OutputFile::Regular(_) | OutputFile::Device(..) => None,
        }
    }

    /// Writes all bytes to a regular file on the blocking pool.
    pub(super) async fn write_all_aside(&self, bytes: Vec<u8>) -> io::Result<()> {
        let output = self.clone();
        blocking(move || output.file()?.write_all(&bytes), identity).await
    }

    fn file(&self) -> io::Result<&File> {
        match &*self.0 {
            OutputFile::Regular(file) | OutputFile::Device(file, _) => Ok(file),
            // Absent only in the drop.
            OutputFile::Remote(remote) => Ok(remote.file.as_ref().ok_or(Errno::BADF)?),
        }
    }

    fn watched(&self) -> Option<&AsyncFd<File>> {
        match &*self.0 {
            OutputFile::Device(_, watched) => watched.as_ref(),
            OutputFile::Regular(_) | OutputFile::Remote(_) => None,
        }
    }
}

/// Opens a file of any kind that is written to.
fn open(path: &Path) -> io::Result<OpenedOutput> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    // `O_NONBLOCK`: the open of a FIFO in the file's place must not wait for a reader. `O_NOCTTY`:
    // a terminal must not become that of this process.
    let file = File::options()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    // Of the open file, not of the path, which may change in between.
    let kind = file.metadata()?.file_type();
    if kind.is_char_device() {
        return Ok(OpenedOutput::Device(file));
    }
    if kind.is_file() {
        return Ok(if waiting::opened(&file) {
            OpenedOutput::Remote(file)
        } else {
            OpenedOutput::Regular(file)
        });
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
    use std::{
        io::Read,
        os::fd::{AsFd, AsRawFd},
    };

    use rustix::{
        fs::{CWD, FileType, Mode, mknodat},
        mount::{
            FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string,
            fsmount, fsopen,
        },
    };
    use tokio::{
        runtime::Handle,
        time::{Duration, Instant, timeout},
    };

    use super::{
        super::{paths::StreamTarget, streams},
        *,
    };

    async fn opened(path: &str) -> streams::Output {
        let place = StreamTarget::File(path.into());
        let reactor = Handle::current();
        streams::Output::open("stdout", place, Instant::now(), &reactor).await.unwrap()
    }

    #[tokio::test]
    async fn write_to_a_full_terminal_waits_for_its_reader() {
        let (master, slave) = sys::terminal::open().unwrap();
        let output = opened(&format!("/proc/self/fd/{}", slave.as_raw_fd())).await;
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
        let null = opened("/dev/null").await;
        null.write_all(&[b'x'; 4096]).await.unwrap();
        null.writable().await.unwrap();
        let error = opened("/dev/full").await.write_all(b"x").await.unwrap_err();
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
    async fn write_to_a_disk_that_becomes_full_returns_what_it_took() {
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(context.as_fd(), "size", "64k").unwrap();
        fsconfig_create(context.as_fd()).unwrap();
        // In no mount table: it goes with its descriptor.
        let flags = FsMountFlags::FSMOUNT_CLOEXEC;
        let disk = fsmount(context.as_fd(), flags, MountAttrFlags::empty()).unwrap();
        let output = opened(&format!("/proc/self/fd/{}/log", disk.as_raw_fd())).await;
        assert_eq!(output.write(&[b'x'; 100_000]).await.unwrap(), 64 << 10);
        let error = output.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[tokio::test]
    async fn file_of_a_file_system_that_may_wait_is_slow_and_a_local_one_is_not() {
        let local = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        let output = Output::open("stdout", local.path().to_owned()).await.unwrap();
        assert_eq!(output.slow(), None);
        // A file of procfs is none of a local disk either.
        let path = Path::new("/proc/self/comm");
        let output = Output::open("stdout", path.to_owned()).await.unwrap();
        assert_eq!(output.slow(), Some(path));
        assert!(output.is_regular());
        drop(output);
        // By the thread for it, which has its name once it runs.
        let has_one = || {
            let threads = fs::read_dir("/proc/self/task").unwrap();
            let name = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("comm"));
            threads.filter_map(|thread| name(thread.ok()?).ok()).any(|name| name == "close\n")
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while !has_one() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
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
