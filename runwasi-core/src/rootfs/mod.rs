//! Root file system and volumes of a container: one tree of mounts without an entry in the host's
//! mount table.
//!
//! The tree is attached in the process's private mount `namespace`, and its descriptor is the
//! guest's preopen. When the process ends, also by SIGKILL, the kernel removes the namespace and
//! all trees. All mounts of a guest are `nodev,nosuid`: a device node or a setuid file in an image
//! is a plain file. The exception is our own `/dev`, which is not `nodev`.
//!
//! | step | mount namespace | file |
//! |---|---|---|
//! | open the root and the volumes as detached mounts | host's | `volatile`, `mounts`, `copy`, `volumes` |
//! | attach the root, find the places, attach the volumes | private | `attach`, `namespace`, `volumes` |
//! | `nodev`, `nosuid`, `ro` | private | `attributes` |
//! | take kernel interfaces of the host out | private | `interfaces` |
//! | bring later mounts of the host in | private | `following` |
//! | hide and restrict paths of `config.json` | private | `masks` |
//!
//! `upper` is for the guest's `fsync(2)` while it runs.

mod attach;
mod attributes;
mod copy;
mod copy_up;
mod devices;
mod directory;
mod error;
mod following;
mod interfaces;
mod masks;
mod mount_table;
mod mounts;
mod namespace;
mod options;
mod shared_memory;
mod upper;
mod volatile;
mod volumes;
pub(crate) mod waiting;

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tokio::sync::watch;

pub(crate) use self::devices::standard_stream;
use self::{
    copy::{Copy, HostMounts},
    directory::Directory,
    following::Following,
    mount_table::mount_id,
    namespace::{MountNamespace, Tree},
    volatile::Volatile,
    volumes::{Attached, Volume},
    waiting::Storage,
};
pub use self::{
    error::RootfsError,
    mounts::{MountConfig, unmount_leftovers},
    shared_memory::SharedMemory,
    upper::{Extent, Upper},
};
use crate::{
    blocking,
    bundle::{config::Config, mounts::Source},
    digest::Digest,
};

/// Creates the mount namespace of this process before the first container needs it. Blocks.
pub fn prepare() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        MountNamespace::of_process().map_err(|error| namespace::named(&error))?;
    }
    Ok(())
}

/// The file systems of one container. Dropping it unmounts them on the blocking pool;
/// [`Rootfs::gone`] tells when that is done.
#[derive(Debug)]
pub struct Rootfs {
    /// `Some` until the drop.
    mounts: Option<Mounts>,
    layers: Option<Layers>,
    upper: Option<Arc<Upper>>,
    slow: Vec<PathBuf>,
    gone: watch::Receiver<()>,
}

/// Identity of the layers of an overlay that is mounted on `/`.
#[derive(Debug)]
struct Layers {
    /// The kernel's number of the overlay's mount.
    mount: u64,
    /// Digest of the list of read-only layers. It is the same for all containers of an image.
    digest: Digest,
}

#[derive(Debug)]
struct Mounts {
    /// Volumes whose later mounts are taken over.
    // Dropped before the trees, to which nothing more may come.
    _following: Vec<Following>,
    /// Tree of `/`, and those of the directories without a mount point in it. Empty for an ordinary
    /// user, since attaching mounts needs root.
    // Dropped before the directories: after it only descriptors hold the file systems.
    trees: Vec<Tree>,
    /// `/` first, then the directories without a mount point in its tree.
    directories: Vec<Directory>,
    // Dropped when the overlay is unmounted.
    _volatile: Option<Volatile>,
    // The last field, hence dropped last: its receivers are told after the end of all mounts.
    _gone: watch::Sender<()>,
}

/// Notification of the end of a container's file systems.
#[derive(Clone, Debug)]
pub struct Gone(Option<watch::Receiver<()>>);

impl Gone {
    /// For a container without file systems.
    pub(crate) fn already() -> Self {
        Self(None)
    }

    /// Waits until the last user of the file systems has left and the kernel has removed them.
    pub async fn wait(&mut self) {
        if let Some(gone) = &mut self.0 {
            // Nothing is ever sent, so the error of the dropped sender is the only event. A
            // receiver that is polled after the drop gets it as well.
            while gone.changed().await.is_ok() {}
        }
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let Some(mounts) = self.mounts.take() else { return };
        match tokio::runtime::Handle::try_current() {
            // Removing a file system writes back its dirty pages and can take long. The task may
            // run unobserved: `Gone` tells its end.
            Ok(runtime) => blocking::eventually(&runtime, move || drop(mounts)),
            Err(_) => drop(mounts),
        }
    }
}

/// A preopened directory of the guest.
#[derive(Clone, Debug)]
pub struct Preopen<'a> {
    /// Absolute path in the guest.
    pub path: &'a Path,
    /// The directory.
    pub directory: Arc<File>,
    /// True if the engine has to refuse writes, because the kernel does not.
    pub read_only: bool,
}

impl Rootfs {
    /// Mounts everything. Blocks: call it on the blocking pool.
    #[doc(hidden)]
    pub fn mount(
        bundle: &Path,
        config: &Config,
        mounts: &[MountConfig],
    ) -> Result<Self, RootfsError> {
        Self::mount_in_pod(bundle, config, mounts, (None, false))
    }

    /// Like [`Rootfs::mount`], for a container of a pod with this `/dev/shm`. `may_be_volatile` if
    /// the engine syncs files by [`Rootfs::upper`].
    pub(crate) fn mount_in_pod(
        bundle: &Path,
        config: &Config,
        mounts: &[MountConfig],
        (memory, may_be_volatile): (Option<&SharedMemory>, bool),
    ) -> Result<Self, RootfsError> {
        let path = bundle.join(&config.root);
        let host = HostMounts::default();
        let propagation = config.root_propagation;
        let upper = Storage::of_upper(mounts);
        let volatile = Volatile::mount(bundle, mounts, (may_be_volatile, upper));
        let (root, volatile) = match volatile {
            Some((root, volatile)) => (Copy::single(root), Some(volatile)),
            None => (mounts::open_root(bundle, &path, mounts, propagation, &host)?, None),
        };
        let layers = Layers::of(mounts, &root.mount);
        // The last mount lies on top, so its options decide.
        let read_only = config.read_only || mounts.last().is_some_and(|mount| mount.has("ro"));
        let (sender, gone) = watch::channel(());
        let mut slow = Vec::new();
        // A later mount may be of any file system.
        if root.following.is_some() || waiting::root(&root.mount, mounts, upper) {
            slow.push(PathBuf::from("/"));
        }
        let attached = if rustix::process::geteuid().is_root() {
            let volumes = config.volumes.iter();
            let volumes = volumes.map(|volume| Volume::open(bundle, volume, &host, memory));
            let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
            let waiting = volumes.iter().filter(|volume| volume.may_wait(bundle, &host));
            slow.extend(waiting.map(|volume| volume.destination().to_owned()));
            let attached = attach::attach(&path, root, volumes, read_only, config)?;
            interfaces::warn(bundle, &attached.left_out);
            for one in &attached.following {
                one.follow().map_err(RootfsError::directory("propagation", &path))?;
            }
            attached
        } else {
            let directories = beside(bundle, root.mount, config, read_only)?;
            masks::refuse(&directories, config)?;
            Attached { directories, ..Attached::default() }
        };
        let upper = upper_of(volatile.as_ref(), &attached.directories, config)
            .map_err(RootfsError::directory("volatile overlay", &path))?;
        let mounts = Mounts {
            _following: attached.following,
            trees: attached.trees,
            directories: attached.directories,
            _volatile: volatile,
            _gone: sender,
        };
        Ok(Self { mounts: Some(mounts), layers, upper, slow, gone })
    }

    /// Digest of the layers that contain the files of a mount, if `/` is an overlay and the mount
    /// is that of `/` itself and not a volume. The mount has the kernel's number of it.
    pub(crate) fn layers_of(&self, mount: Option<u64>) -> Option<Digest> {
        let layers = self.layers.as_ref()?;
        (mount? == layers.mount).then_some(layers.digest)
    }

    /// The upper directory, if `/` is a volatile overlay: `fsync(2)` of its files does nothing, and
    /// has to be replaced by [`Upper::sync`].
    pub fn upper(&self) -> Option<&Arc<Upper>> {
        self.upper.as_ref()
    }

    /// Directories of the guest whose calls may wait for more than a local disk.
    pub(crate) fn slow(&self) -> &[PathBuf] {
        &self.slow
    }

    /// A notification of the end of these file systems.
    pub fn gone(&self) -> Gone {
        Gone(Some(self.gone.clone()))
    }

    /// The preopened directories of the guest: `/` first, then the volumes outside its tree.
    pub fn preopens(&self) -> impl Iterator<Item = Preopen<'_>> {
        self.directories().iter().map(|directory| Preopen {
            path: &directory.path,
            directory: directory.file(),
            read_only: directory.read_only,
        })
    }

    /// Replaces the descriptor of preopen number `n`, in the order of [`Rootfs::preopens`], by the
    /// engine's own descriptor of the same directory. Only the first call for each preopen counts.
    pub fn share(&self, n: usize, opened: Arc<File>) {
        // One descriptor does for both. The first is the init's; an exec's would be kept beyond the
        // end of its process. `Relaxed` is enough: the mutex publishes the file.
        if let Some(directory) = self.directories().get(n)
            && !directory.shared.swap(true, Ordering::Relaxed)
        {
            *directory.file.lock() = opened;
        }
    }

    fn directories(&self) -> &[Directory] {
        self.mounts.as_ref().map_or(&[], |mounts| &mounts.directories)
    }

    /// Opens a file for reading by its absolute path in the guest. Symbolic links and `..` cannot
    /// leave the preopen that contains it, and a FIFO does not block.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
    }

    /// The same only to be looked at: also a file that cannot be opened for reading.
    pub(crate) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open_with(path, OFlags::PATH)
    }

    /// Checks that the working directory exists.
    pub fn check_cwd(&self, cwd: &Path) -> Result<(), RootfsError> {
        // The attached root is a directory, and `/` is the top of it.
        let is_attached = self.mounts.as_ref().is_some_and(|mounts| !mounts.trees.is_empty());
        if is_attached && cwd == Path::new("/") {
            return Ok(());
        }
        let opened = self.open_with(cwd, OFlags::PATH | OFlags::DIRECTORY);
        opened.map(drop).map_err(|source| RootfsError::Cwd { path: cwd.to_owned(), source })
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // The deepest preopen that contains the path; `/` contains all.
        let preopen = self
            .preopens()
            .filter(|p| path.starts_with(p.path))
            .max_by_key(|p| p.path.as_os_str().len());
        let preopen = preopen.ok_or(io::ErrorKind::NotFound)?;
        let inner = path.strip_prefix(preopen.path).unwrap_or(path);
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        // The guest controls all names in the tree: links are resolved inside the preopen.
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&*preopen.directory, inner, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

impl Layers {
    fn of(mounts: &[MountConfig], root: &OwnedFd) -> Option<Self> {
        // With several mounts the file may lie in another one than the overlay.
        let [only] = mounts else { return None };
        let lower = only.overlay_option("lowerdir")?;
        Some(Self { mount: mount_id(root)?, digest: Digest::of(lower.as_bytes()) })
    }
}

/// The upper directory of `/`, if that is a volatile overlay. Without it a guest's sync would do
/// nothing.
fn upper_of(
    volatile: Option<&Volatile>,
    directories: &[Directory],
    config: &Config,
) -> io::Result<Option<Arc<Upper>>> {
    match (volatile, directories.first()) {
        // A mount of `config.json` may have taken its place.
        (Some(volatile), Some(root)) if !volumes::cover_root(&config.volumes) => {
            Ok(Some(Arc::new(Upper::new(volatile.upper.clone(), &root.file())?)))
        }
        _ => Ok(None),
    }
}

/// The preopens for an ordinary user (examples and tests): without attached mounts and without new
/// file systems.
fn beside(
    bundle: &Path,
    root: OwnedFd,
    config: &Config,
    read_only: bool,
) -> Result<Vec<Directory>, RootfsError> {
    let mut directories = vec![Directory::new(PathBuf::from("/"), root, read_only)];
    for volume in &config.volumes {
        if matches!(volume.source, Source::Bind { .. }) {
            let volume = Volume::open(bundle, volume, &HostMounts::default(), None)?;
            let mut directory = volume.beside()?;
            if directory.path == Path::new("/") {
                // It covers all that was there before.
                directory.read_only |= read_only;
                directories.clear();
            }
            directories.push(directory);
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests;
