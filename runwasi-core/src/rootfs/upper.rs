//! `fsync(2)` of a guest whose root file system is a volatile overlay.
//!
//! Such an overlay ignores the call. What the guest has written lies in the upper directory, under
//! the same path as in the overlay: there the file is opened again, and its sync is the one that
//! any other overlay makes. If the file cannot be found there, all of its file system is synced.
//!
//! `O_SYNC` and `O_DSYNC` need nothing of this: the kernel opens the file of the upper directory
//! with the flags of the guest, and each write has reached the disk when it returns (tested below).

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, fdatasync, fstat, fsync, openat, openat2, syncfs,
    },
    io::Errno,
};
use tokio::sync::Semaphore;

use super::mount_table::mount_id;
use crate::{blocking::blocking, credentials::as_host};

/// Syncs of one container under way at once. Each takes a thread of the blocking pool.
const MOST: usize = 4;

/// Times that a file is looked for whose path changes.
const TRIES: usize = 3;

/// Suffix that the kernel gives the path of a file that has lost its name.
const DELETED: &[u8] = b" (deleted)";

/// Extent of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// The content, and what is needed to read it: `fdatasync(2)`.
    Data,
    /// The attributes as well: `fsync(2)`.
    All,
}

impl Extent {
    /// Syncs a file.
    pub fn sync(self, file: impl AsFd) -> io::Result<()> {
        Ok(match self {
            Self::Data => fdatasync(file),
            Self::All => fsync(file),
        }?)
    }
}

/// Upper directory of the volatile overlay at a container's `/`.
#[derive(Debug)]
pub struct Upper {
    directory: PathBuf,
    /// The kernel's number of the overlay's mount.
    mount: u64,
    /// Path of the overlay in the paths of its descriptors.
    top: PathBuf,
    syncs: Arc<Semaphore>,
}

/// The part of a file system that a file has.
enum SyncTarget {
    File(OwnedFd),
    /// All of the file system, by its directory.
    Somewhere(OwnedFd),
    /// No part: the file was never written, or nothing of it remains after its last close.
    Nowhere,
}

impl Upper {
    /// `root` is the attached root of the overlay.
    pub(super) fn new(directory: PathBuf, root: &File) -> io::Result<Self> {
        let mount = mount_id(root).ok_or(io::ErrorKind::Unsupported)?;
        let syncs = Arc::new(Semaphore::new(MOST));
        Ok(Self { directory, mount, top: path(root)?, syncs })
    }

    /// True for a file of the overlay: one whose own `fsync(2)` does nothing.
    pub fn has(&self, file: &File) -> bool {
        mount_id(file) == Some(self.mount)
    }

    /// Brings a file of the overlay to the disk, on the blocking pool. If the future is dropped,
    /// the sync still runs to its end; it keeps no file of the overlay.
    pub async fn sync(&self, file: &File, extent: Extent) -> io::Result<()> {
        // As the host: the guest's user may not read what it may write.
        let found = as_host(|| self.find(file))?;
        let Ok(turn) = self.syncs.clone().acquire_owned().await else {
            // The semaphore is never closed.
            return Err(Errno::IO.into());
        };
        let work = move || {
            // Held until the end, also without a waiter.
            let _turn = turn;
            found.sync(extent)
        };
        blocking(work, |error| error).await
    }

    fn find(&self, file: &File) -> io::Result<SyncTarget> {
        if fstat(file)?.st_nlink == 0 {
            return Ok(SyncTarget::Nowhere);
        }
        for _ in 0..TRIES {
            let Ok(path_in_overlay) = path(file) else { break };
            let Some(inner) = self.inner(&path_in_overlay) else { break };
            let opened = match self.open(inner) {
                Ok(opened) => SyncTarget::File(opened),
                Err(Errno::NOENT) => SyncTarget::Nowhere,
                Err(_) => break,
            };
            // Otherwise it may be another file, which has the name now.
            if path(file).is_ok_and(|path| path == path_in_overlay) {
                return Ok(opened);
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(SyncTarget::Somewhere(openat(CWD, &self.directory, flags, Mode::empty())?))
    }

    /// The path below the upper directory. Absent for a file that has lost its name.
    fn inner<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let lost = path.as_os_str().as_bytes().ends_with(DELETED);
        path.strip_prefix(&self.top).ok().filter(|_| !lost)
    }

    fn open(&self, inner: &Path) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let upper = openat(CWD, &self.directory, flags, Mode::empty())?;
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        // No link is followed: the guest makes them.
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let named = openat2(&upper, inner, flags | OFlags::NOFOLLOW, Mode::empty(), resolve)?;
        // Looked at before it is opened: the host's mount has devices, and an image may bring one
        // that a guest renames to this place.
        let kind = FileType::from_raw_mode(fstat(&named)?.st_mode);
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(Errno::INVAL);
        }
        // `NONBLOCK`: no lease of another process is waited for.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(CWD, link(&named), flags, Mode::empty())
    }
}

impl SyncTarget {
    fn sync(self, extent: Extent) -> io::Result<()> {
        match self {
            Self::File(file) => extent.sync(file),
            Self::Somewhere(directory) => Ok(syncfs(directory)?),
            Self::Nowhere => Ok(()),
        }
    }
}

/// Path of an open file, as the kernel tells it.
fn path(file: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(link(file))
}

/// The kernel's link to an open file.
fn link(file: impl AsFd) -> PathBuf {
    Path::new("/proc/self/fd").join(file.as_fd().as_raw_fd().to_string())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::MetadataExt};

    use super::*;
    use crate::{
        bundle::config::Config,
        rootfs::{MountConfig, Rootfs},
    };

    /// A container with an overlay on the disk of the temporary files.
    fn container() -> (tempfile::TempDir, Rootfs) {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let bundle = tempfile::tempdir().unwrap();
        let path = |name: &str| bundle.path().join(name);
        for name in ["lower/d", "upper", "work", "rootfs"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["lower/kept", "lower/changed", "lower/d/deep"] {
            fs::write(path(name), "of the image").unwrap();
        }
        let process = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["/a"]}"#;
        let config =
            format!(r#"{{"ociVersion":"1.0.2","root":{{"path":"rootfs"}},"process":{process}}}"#);
        fs::write(path("config.json"), config).unwrap();
        let config = Config::load(bundle.path()).unwrap();
        let option = |name: &str| format!("{name}dir={}", path(name).display());
        let options = ["lower", "upper", "work"].map(option).to_vec();
        let mount = MountConfig { kind: "overlay".into(), source: "overlay".into(), options };
        let rootfs = Rootfs::mount_in_pod(bundle.path(), &config, &[mount], (None, true));
        let rootfs = rootfs.unwrap();
        (bundle, rootfs)
    }

    /// Opens a path as a guest does.
    fn open(rootfs: &Rootfs, path: &str, flags: OFlags) -> File {
        let root = rootfs.preopens().next().unwrap().directory;
        openat(&*root, path, flags | OFlags::CLOEXEC, Mode::from(0o600)).unwrap().into()
    }

    /// Inode in the upper directory; None for a file that needs no sync.
    fn found(upper: &Upper, file: &File) -> Option<u64> {
        match upper.find(file).unwrap() {
            SyncTarget::File(found) => Some(File::from(found).metadata().unwrap().ino()),
            SyncTarget::Nowhere => None,
            SyncTarget::Somewhere(_) => panic!("all of the file system would be synced"),
        }
    }

    #[tokio::test]
    async fn files_of_the_overlay_are_found_in_the_upper_directory() {
        let (bundle, rootfs) = container();
        let upper = rootfs.upper().expect("the overlay is volatile");
        let inode =
            |path: &str| Some(fs::metadata(bundle.path().join("upper").join(path)).unwrap().ino());
        let write = OFlags::RDWR | OFlags::CREATE;
        let new = open(&rootfs, "new", write);
        assert!(upper.has(&new) && !upper.has(&File::open("/dev/shm").unwrap()));
        assert_eq!(found(upper, &new), inode("new"));
        let mut changed = open(&rootfs, "changed", OFlags::RDWR);
        changed.write_all(b"x").unwrap();
        assert_eq!(found(upper, &changed), inode("changed"));
        let directory = open(&rootfs, ".", OFlags::RDONLY);
        assert_eq!(found(upper, &directory), inode("."));
        rustix::fs::renameat(&directory, "new", &directory, "d/renamed").unwrap();
        assert_eq!(found(upper, &new), inode("d/renamed"));
        for file in [&new, &changed, &directory] {
            upper.sync(file, Extent::All).await.unwrap();
            upper.sync(file, Extent::Data).await.unwrap();
        }
    }

    #[tokio::test]
    async fn nothing_is_synced_for_unwritten_and_removed_files() {
        let (_bundle, rootfs) = container();
        let upper = rootfs.upper().unwrap();
        let removed = open(&rootfs, "removed", OFlags::RDWR | OFlags::CREATE);
        let root = open(&rootfs, ".", OFlags::RDONLY);
        rustix::fs::unlinkat(&root, "removed", rustix::fs::AtFlags::empty()).unwrap();
        let kept = open(&rootfs, "kept", OFlags::RDONLY);
        for file in [&removed, &kept] {
            assert_eq!(found(upper, file), None);
            upper.sync(file, Extent::All).await.unwrap();
        }
    }

    #[tokio::test]
    async fn file_that_is_not_found_has_its_file_system_synced() {
        let (_bundle, rootfs) = container();
        let upper = rootfs.upper().unwrap();
        let root = open(&rootfs, ".", OFlags::RDONLY);
        let file = open(&rootfs, "first", OFlags::RDWR | OFlags::CREATE);
        let flags = rustix::fs::AtFlags::empty();
        rustix::fs::linkat(&root, "first", &root, "second", flags).unwrap();
        rustix::fs::unlinkat(&root, "first", flags).unwrap();
        // The name that the kernel tells is that of another file.
        drop(open(&rootfs, "first (deleted)", OFlags::RDWR | OFlags::CREATE));
        assert!(matches!(upper.find(&file).unwrap(), SyncTarget::Somewhere(_)));
        upper.sync(&file, Extent::All).await.unwrap();
    }
}
