//! Opening of a guest's files below one of its directories ([`crate::paths`]), without waiting.
//!
//! Opening a FIFO waits for its other end, and opening a file under another process's lease waits
//! until the lease is given back: a kill could not end either. So every opening is non-blocking,
//! and the kind is that of the opened file. The kind of the file that had the name before says
//! nothing: another container or a process of the host may have renamed a FIFO into its place.
//!
//! The kernel answers the opening of a file under a lease at once, and asks the holder to give it
//! back. The opening is then tried again, with pauses in which no thread is held.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::fd::AsFd,
};

use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat};

use crate::{
    paths::{Start, patiently},
    rootfs::standard_stream,
};

/// Manner of an opening.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenHow {
    /// Follow a symbolic link in the last part of the path.
    pub follow: bool,
    /// Create a missing file.
    pub create: bool,
    /// Create the file, which must be missing.
    pub exclusive: bool,
    /// Cut the file to length 0.
    pub truncate: bool,
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Write at the end of the file, wherever it is.
    // Of the open file, not of each write (`RWF_APPEND`), which overlayfs of Linux 5.10 to 6.7
    // ignores.
    pub append: bool,
    /// Completion of each write.
    pub synchronized: Synchronized,
}

/// `O_DSYNC`.
// rustix's own flag of this name is `O_SYNC` on Linux, with its raw system calls.
pub const DSYNC: OFlags = OFlags::from_bits_retain(libc::O_DSYNC.cast_unsigned());

/// Completion of a write, as the flags `O_DSYNC` and `O_SYNC` of `open(2)` ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronized {
    /// When the kernel has the data.
    #[default]
    No,
    /// When the storage has the data.
    Data,
    /// When the storage has the data and all metadata.
    File,
}

/// An opened file that is no FIFO and no socket.
#[derive(Debug)]
pub enum Opened {
    /// A directory.
    Directory(File),
    /// A regular file, or a character device of the container's `/dev`.
    File(File),
    /// A standard stream, by its number, and a descriptor of its name in `/dev`. The name has
    /// nothing to read or to write: the engine has the stream itself.
    Stream(u32, File),
}

/// Opens a path with the credentials of the calling thread. Dropping the future ends the tries.
pub async fn open(start: Start<'_>, path: &str, how: OpenHow) -> io::Result<Opened> {
    let path = CString::new(path)?;
    patiently(|| open_now(start, &path, how)).await
}

/// One opening. The error `WouldBlock` stands for a lease, or for renames during every try.
fn open_now(start: Start<'_>, path: &CStr, how: OpenHow) -> io::Result<Opened> {
    let mode = if how.create { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    match start.open(path, flags(how), mode) {
        Ok(file) => look(file.into(), how),
        // A standard stream, a socket, or a FIFO without a reader.
        Err(rustix::io::Errno::NXIO) => stream(start, path, how),
        Err(error) => Err(error.into()),
    }
}

/// The standard stream with this path.
fn stream(start: Start<'_>, path: &CStr, how: OpenHow) -> io::Result<Opened> {
    let mut flags = OFlags::PATH | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, !how.follow);
    let node = start.open(path, flags, Mode::empty())?;
    let seen = fstat(&node)?;
    let is_device = FileType::from_raw_mode(seen.st_mode) == FileType::CharacterDevice;
    match standard_stream(seen.st_rdev).filter(|_| is_device) {
        Some(number) => Ok(Opened::Stream(number, node.into())),
        None => Err(rustix::io::Errno::ACCESS.into()),
    }
}

fn flags(how: OpenHow) -> OFlags {
    // `NOCTTY`: a terminal must not become that of this process.
    let mut flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    flags |= match (how.read, how.write) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        _ => OFlags::RDONLY,
    };
    flags.set(OFlags::CREATE, how.create);
    flags.set(OFlags::EXCL, how.exclusive);
    flags.set(OFlags::TRUNC, how.truncate);
    flags.set(OFlags::NOFOLLOW, !how.follow);
    flags.set(OFlags::APPEND, how.append);
    flags |= match how.synchronized {
        Synchronized::No => OFlags::empty(),
        Synchronized::Data => DSYNC,
        Synchronized::File => OFlags::SYNC,
    };
    flags
}

/// Refuses an opened FIFO or socket. Calls of other files wait as usual from here on.
fn look(file: File, how: OpenHow) -> io::Result<Opened> {
    let kind = FileType::from_raw_mode(fstat(file.as_fd())?.st_mode);
    if matches!(kind, FileType::Fifo | FileType::Socket | FileType::Unknown) {
        return Err(rustix::io::Errno::ACCESS.into());
    }
    match kind {
        FileType::Directory => return Ok(Opened::Directory(file)),
        // The kernel ignores `NONBLOCK` in the calls of a regular file.
        FileType::RegularFile => {}
        // Of our flags, this call changes `NONBLOCK` and `APPEND` alone.
        _ => fcntl_setfl(file.as_fd(), flags(how) & OFlags::APPEND)?,
    }
    Ok(Opened::File(file))
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::symlink,
        path::Path,
        time::{Duration, Instant},
    };

    use rustix::fs::{CWD, fcntl_getfl, mknodat};
    use tempfile::TempDir;

    use super::*;
    use crate::{paths::Roots, sys::Lease};

    const READ: OpenHow = OpenHow {
        follow: true,
        create: false,
        exclusive: false,
        truncate: false,
        read: true,
        write: false,
        append: false,
        synchronized: Synchronized::No,
    };

    fn directory() -> (TempDir, File) {
        let directory = tempfile::tempdir().unwrap();
        let opened = File::open(directory.path()).unwrap();
        (directory, opened)
    }

    async fn open(directory: &File, path: &str, how: OpenHow) -> io::Result<Opened> {
        super::open(Start::new(directory, false, &Roots::default()), path, how).await
    }

    fn code(opened: io::Result<Opened>) -> rustix::io::Errno {
        rustix::io::Errno::from_io_error(&opened.unwrap_err()).unwrap()
    }

    #[tokio::test]
    async fn fifos_and_sockets_are_refused_without_waiting() {
        let (place, directory) = directory();
        mknodat(CWD, place.path().join("fifo"), FileType::Fifo, Mode::from(0o666), 0).unwrap();
        symlink("fifo", place.path().join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
        for name in ["fifo", "link", "socket"] {
            for how in [
                READ,
                OpenHow { read: false, write: true, ..READ },
                OpenHow { write: true, ..READ },
            ] {
                let opened = open(&directory, name, how).await;
                assert_eq!(code(opened), rustix::io::Errno::ACCESS, "{name} {how:?}");
            }
        }
    }

    #[tokio::test]
    async fn paths_stay_below_the_directory() {
        let (place, directory) = directory();
        symlink("/etc/passwd", place.path().join("out")).unwrap();
        for path in ["..", "/etc/passwd", "out", "../../etc/passwd"] {
            let opened = open(&directory, path, READ).await;
            assert_eq!(code(opened), rustix::io::Errno::PERM, "{path}");
        }
        let nul = open(&directory, "a\0b", READ).await;
        assert_eq!(nul.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn devices_wait_as_usual_and_new_files_are_created_once() {
        let (place, directory) = directory();
        let how = OpenHow { create: true, exclusive: true, write: true, ..READ };
        let opened = open(&directory, "new", how).await.unwrap();
        assert!(matches!(opened, Opened::File(_)));
        let devices = File::open("/dev").unwrap();
        let null = open(&devices, "null", OpenHow { write: true, ..READ }).await.unwrap();
        let Opened::File(null) = null else { panic!("a directory") };
        let flags = fcntl_getfl(&null).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK) && flags.contains(OFlags::RDWR), "{flags:?}");
        let again = open(&directory, "new", how).await;
        assert_eq!(code(again), rustix::io::Errno::EXIST);
        fs::create_dir(place.path().join("inner")).unwrap();
        let inner = open(&directory, "inner", READ).await.unwrap();
        assert!(matches!(inner, Opened::Directory(_)));
    }

    #[tokio::test]
    async fn synchronized_files_stay_so() {
        let (_place, directory) = directory();
        for (synchronized, wanted) in [
            (Synchronized::No, OFlags::empty()),
            (Synchronized::Data, DSYNC),
            (Synchronized::File, OFlags::SYNC),
        ] {
            let how = OpenHow { create: true, write: true, synchronized, ..READ };
            let Opened::File(file) = open(&directory, "file", how).await.unwrap() else {
                panic!("a directory");
            };
            // `O_SYNC` includes the bit of `O_DSYNC`.
            assert_eq!(fcntl_getfl(&file).unwrap() & OFlags::SYNC, wanted);
        }
    }

    #[tokio::test]
    async fn appending_is_a_flag_of_the_open_file() {
        let (_place, directory) = directory();
        let devices = File::open("/dev").unwrap();
        for append in [false, true] {
            for (place, name) in [(&directory, "file"), (&devices, "null")] {
                let how = OpenHow { create: true, write: true, append, ..READ };
                let Opened::File(file) = open(place, name, how).await.unwrap() else {
                    panic!("a directory");
                };
                let flags = fcntl_getfl(&file).unwrap();
                assert_eq!(flags.contains(OFlags::APPEND), append, "{name}");
            }
        }
    }

    /// Opens `leased` for writing, and gives the lease back after a while.
    async fn opened_under_a_lease(path: &Path) -> Duration {
        let held = Duration::from_millis(200);
        let lease = Lease::write(path).unwrap();
        let directory = File::open(path.parent().unwrap()).unwrap();
        let begin = Instant::now();
        let giving_back = async {
            tokio::time::sleep(held).await;
            drop(lease);
        };
        let how = OpenHow { write: true, ..READ };
        let opening = open(&directory, "leased", how);
        // On one thread: an opening that waits in the kernel would keep the lease from its end.
        let (opened, ()) = tokio::join!(opening, giving_back);
        assert!(matches!(opened.unwrap(), Opened::File(_)));
        assert!(begin.elapsed() >= held);
        begin.elapsed()
    }

    #[tokio::test]
    async fn lease_of_another_process_holds_no_thread() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("leased");
        fs::write(&path, "content").unwrap();
        let waited = opened_under_a_lease(&path).await;
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
}
