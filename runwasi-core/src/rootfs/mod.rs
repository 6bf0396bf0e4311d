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
//! | attach the root, find the places, attach the volumes | private | `namespace`, `volumes` |
//! | `nodev`, `nosuid`, `ro` | private | `attributes` |
//! | take kernel interfaces of the host out | private | `interfaces` |
//! | bring later mounts of the host in | private | `following` |
//! | hide and restrict paths of `config.json` | private | `masks` |
//!
//! `upper` is for the guest's `fsync(2)` while it runs.

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
    collections::VecDeque,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    mount::MountAttrFlags,
};
use tokio::sync::watch;

pub(crate) use self::devices::standard_stream;
use self::{
    copy::{Copy, HostMounts},
    directory::Directory,
    following::Following,
    mount_table::mount_id,
    namespace::{MountNamespace, Tree},
    volatile::Volatile,
    volumes::{Attached, Root, Volume},
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
    bundle::{config::Config, mount_options::MountOptions, mounts::Source},
    digest::Digest,
    sys::{MountAttributes, MountChange},
};

/// Creates the mount namespace of this process before the first container needs it. Blocks.
pub fn prepare() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        MountNamespace::of_process().map_err(|error| named(&error))?;
    }
    Ok(())
}

/// Names the private namespace and the capabilities that its creation needs.
fn named(error: &io::Error) -> io::Error {
    let needs = "needs CAP_SYS_ADMIN and CAP_SYS_CHROOT";
    io::Error::new(error.kind(), format!("private mount namespace ({needs}): {error}"))
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
    /// That of `/`, and those of the directories without a mount point in it. None for an ordinary
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

    /// Like [`Rootfs::mount`], for a container of a pod with this `/dev/shm`. `may_be_volatile` if the
    /// engine syncs files by [`Rootfs::upper`].
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
        let mut following = Vec::new();
        let (trees, directories) = if rustix::process::geteuid().is_root() {
            let volumes = config.volumes.iter();
            let volumes = volumes.map(|volume| Volume::open(bundle, volume, &host, memory));
            let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
            let waiting = volumes.iter().filter(|volume| volume.may_wait(bundle, &host));
            slow.extend(waiting.map(|volume| volume.destination().to_owned()));
            let attached = attach(&path, root, volumes, read_only, config)?;
            interfaces::warn(bundle, &attached.left_out);
            for one in &attached.following {
                one.follow().map_err(RootfsError::directory("propagation", &path))?;
            }
            following = attached.following;
            (attached.trees, attached.directories)
        } else {
            let directories = beside(bundle, root.mount, config, read_only)?;
            masks::refuse(&directories, config)?;
            (Vec::new(), directories)
        };
        let upper = match (&volatile, directories.first()) {
            // A mount of `config.json` may have taken its place.
            (Some(volatile), Some(root)) if !volumes::cover_root(&config.volumes) => {
                let upper = Upper::new(volatile.upper.clone(), &root.file());
                // An error: without it a guest's sync would do nothing.
                Some(Arc::new(upper.map_err(RootfsError::directory("volatile overlay", &path))?))
            }
            _ => None,
        };
        let mounts = Mounts {
            _following: following,
            trees,
            directories,
            _volatile: volatile,
            _gone: sender,
        };
        Ok(Self { mounts: Some(mounts), layers, upper, slow, gone })
    }

    /// Digest of the layers that contain the files of a mount, if `/` is an overlay and the mount is
    /// that of `/` itself and not a volume. The mount has the kernel's number of it.
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

/// Attaches the root and its volumes in the private namespace, makes a missing working directory,
/// and restricts paths.
fn attach(
    path: &Path,
    root: Copy,
    mut volumes: Vec<Volume<'_>>,
    read_only: bool,
    config: &Config,
) -> Result<Attached, RootfsError> {
    let cwd = volumes::clean(&config.process.cwd);
    let failed = RootfsError::directory("root.path", path);
    let cover = volumes::take_root(&mut volumes);
    let namespace = MountNamespace::of_process().map_err(|error| failed(named(&error)))?;
    let inside = namespace.enter().map_err(|error| failed(named(&error)))?;
    let mut attached = Attached::default();
    let mut root = Root { copy: root, options: MountOptions::default(), read_only };
    if let Some(cover) = cover {
        root = cover.cover(&inside, root, &mut attached)?;
    }
    let has_cwd = cwd != Path::new("/");
    let in_volume = volumes.iter().any(|volume| volume.contains(&cwd));
    let makes_cwd = has_cwd && !in_volume;
    // The root stays writable until all mount points and the working directory exist.
    let has_volumes = !volumes.is_empty();
    let is_late = root.read_only && (makes_cwd || has_volumes);
    let read_only_tree = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
    let Root { copy, mut options, read_only } = root;
    if read_only && !is_late {
        options.tree = options.tree.then(read_only_tree);
    }
    attached.trees.push(inside.attach_root(&copy.mount).map_err(&failed)?);
    // Before the volumes: their mount points must not lie in an interface.
    let found = volumes::settle(&inside, &copy, &options, false).map_err(&failed)?;
    attached.left_out.extend(found.into_iter().map(|one| one.below(Path::new("/"))));
    let Copy { mount: root, has_mounts, following } = copy;
    let is_single = !has_mounts && following.is_none();
    attached.following.extend(following);
    for n in 0..volumes.len() {
        let (before, rest) = volumes.split_at_mut(n);
        // The mount point of a volume inside another is looked up once the other is attached.
        if !before.iter().any(|other| rest[0].is_below(other)) {
            rest[0].make_place(&root)?;
        }
    }
    if makes_cwd {
        volumes::make_directory(&root, &cwd)?;
    }
    if is_late {
        if is_single {
            // After the volumes: a link in one may lead to a place that is still to be made.
            attached.late.push(root.try_clone().map_err(&failed)?);
        } else {
            // With the mounts below it, hence before the volumes, which may be writable.
            let change = MountChange::RESTRICTED.with(read_only_tree);
            attributes::change(&inside, &root, change).map_err(&failed)?;
        }
    }
    let mut rest = VecDeque::from(volumes);
    while let Some(volume) = rest.pop_front() {
        if volume.is_devices_with(&rest) {
            volume.attach_devices(&inside, &root, &mut rest)?;
        } else {
            volume.attach(&inside, &root, &mut attached)?;
        }
    }
    // Again if it was made before: a link may lead into a volume.
    if has_cwd && has_volumes {
        volumes::make_directory(&root, &cwd)?;
    }
    for mount in &attached.late {
        let change = MountChange::single(read_only_tree);
        attributes::change(&inside, mount, change).map_err(&failed)?;
    }
    // `read_only` is false because the kernel refuses writes. An engine that did so would also
    // refuse writes to writable volumes in the tree.
    attached.directories.insert(0, Directory::new(PathBuf::from("/"), root, false));
    masks::apply(&inside, &attached.directories, config)?;
    Ok(attached)
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
