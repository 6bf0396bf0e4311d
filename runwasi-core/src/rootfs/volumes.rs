//! The mounts of `config.json`: opened on the host, then attached at their destinations in the
//! container's tree.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, mknodat, openat2, readlinkat,
        statat,
    },
    io::Errno,
};

use super::{
    attributes,
    copy::{Copy, HostMounts, copy_directory},
    devices::{self, make_tmpfs},
    directory::Directory,
    error::RootfsError,
    interfaces::{self, LeftOut},
    namespace::{Inside, Tree},
    options::mount_flag,
    shared_memory::SharedMemory,
    waiting,
};
use crate::{
    bundle::config::{Source, VolumeConfig},
    sys::MountRestriction,
};

/// Default size of a tmpfs. containerd gives `/dev/shm` and `/run` the same size.
const TMPFS_SIZE: &str = "65536k";

/// Maximum of symbolic links in a path to a place. The kernel has the same limit.
const MAX_LINKS: usize = 40;

/// A mount of `config.json`, opened and not yet attached.
pub(super) struct Volume<'a> {
    config: &'a VolumeConfig,
    /// Path in the container without `.` and `..`.
    destination: PathBuf,
    opened: Opened<'a>,
    /// Mount point, created before the root file system becomes read-only.
    place: Option<OwnedFd>,
}

enum Opened<'a> {
    /// Our own `/dev`. Its clone is made inside the private namespace.
    Devices,
    /// A detached mount of a directory.
    Directory(Copy),
    /// A detached mount of a single file.
    File(OwnedFd),
    /// The pod's `/dev/shm`. Its clone is made inside the private namespace.
    Memory(&'a SharedMemory),
}

impl<'a> Volume<'a> {
    /// Opens the source, in the host's mount namespace.
    pub(super) fn open(
        bundle: &Path,
        config: &'a VolumeConfig,
        host: &HostMounts,
        memory: Option<&'a SharedMemory>,
    ) -> Result<Self, RootfsError> {
        let opened = match &config.source {
            Source::Devices => Opened::Devices,
            Source::PodMemory => {
                let failed = RootfsError::directory("/dev/shm of the pod", &config.destination);
                Opened::Memory(memory.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?)
            }
            Source::Tmpfs { options } => {
                let failed = RootfsError::directory("tmpfs", &config.destination);
                Opened::Directory(Copy::single(tmpfs(options).map_err(failed)?))
            }
            Source::Bind { path, recursive } => bind(&bundle.join(path), *recursive, host)?,
        };
        let destination = clean(&config.destination);
        Ok(Self { config, destination, opened, place: None })
    }

    /// True if its file calls may wait for more than a local disk.
    pub(super) fn may_wait(&self, bundle: &Path, host: &HostMounts) -> bool {
        let Source::Bind { path, .. } = &self.config.source else { return false };
        match &self.opened {
            Opened::Directory(copy) => {
                waiting::volume(&copy.mount)
                    || copy.has_mounts && waiting::below(host.below(&bundle.join(path)))
            }
            Opened::File(file) => waiting::volume(file),
            Opened::Devices | Opened::Memory(_) => false,
        }
    }

    /// Path in the container.
    pub(super) fn destination(&self) -> &Path {
        &self.destination
    }

    fn is_directory(&self) -> bool {
        !matches!(self.opened, Opened::File(_))
    }

    /// True if this destination lies below the other's.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.destination != other.destination && self.destination.starts_with(&other.destination)
    }

    /// True if this path is its destination or lies below it.
    pub(super) fn contains(&self, path: &Path) -> bool {
        path.starts_with(&self.destination)
    }

    /// True if its destination is this path or lies below it.
    fn contained_in(&self, path: &Path) -> bool {
        self.destination.starts_with(path)
    }

    /// Finds its mount point in the root file system and creates it if it is missing.
    pub(super) fn make_place(&mut self, root: &OwnedFd) -> Result<(), RootfsError> {
        match place(root, &self.destination, self.is_directory()) {
            Ok(found) => {
                self.place = Some(found);
                Ok(())
            }
            // The file system itself is read-only: a directory becomes a preopen beside the tree.
            Err(error) if self.is_directory() && is_read_only(&error) => Ok(()),
            Err(error) => Err(RootfsError::destination(&self.config.destination)(error)),
        }
    }

    /// True for `/dev` with mounts below it for which our `/dev` has no place.
    pub(super) fn is_devices_with(&self, rest: &VecDeque<Self>) -> bool {
        let shm = self.destination.join(devices::SHM);
        matches!(self.opened, Opened::Devices)
            && self.place.is_some()
            && rest.iter().any(|volume| volume.is_below(self) && !volume.contained_in(&shm))
    }

    /// Attaches a `/dev` that is the container's alone, with places for the volumes below it.
    pub(super) fn attach_devices(
        self,
        inside: &Inside,
        root: &OwnedFd,
        rest: &mut VecDeque<Self>,
    ) -> Result<(), RootfsError> {
        let failed = RootfsError::destination(&self.config.destination);
        let Some(place) = &self.place else { return Ok(()) };
        let devices = inside.attach_devices(place).map_err(&failed)?;
        for n in 0..rest.len() {
            let volume = &rest[n];
            // Inside another volume its place is looked up later.
            let direct = |other: &Self| !(volume.is_below(other) && other.is_below(&self));
            if volume.is_below(&self) && rest.iter().all(direct) {
                rest[n].make_place(root)?;
            }
        }
        inside.restrict_devices(&devices).map_err(&failed)
    }

    /// Attaches the volume to the tree of `root`, or as a tree of its own if that one has no mount
    /// point for it. Returns the latter as a separate preopen.
    pub(super) fn attach(
        self,
        inside: &Inside,
        root: &OwnedFd,
        left_out: &mut Vec<LeftOut>,
    ) -> Result<Option<(Tree, Directory)>, RootfsError> {
        let failed = RootfsError::destination(&self.config.destination);
        let is_directory = self.is_directory();
        let found = self.place.map_or_else(|| place(root, &self.destination, is_directory), Ok);
        let place = match found {
            Ok(place) => Some(place),
            Err(error) if is_directory && is_read_only(&error) => None,
            Err(error) => return Err(failed(error)),
        };
        let read_only = self.config.read_only;
        let restriction = MountRestriction { read_only, recursive: true };
        let (copy, restriction) = match self.opened {
            // Already restricted on creation. `nodev` would make its devices unusable.
            Opened::Devices => (Copy::single(inside.devices().map_err(&failed)?), None),
            Opened::Directory(copy) => (copy, Some(restriction)),
            Opened::File(mount) => (Copy::single(mount), Some(restriction)),
            Opened::Memory(memory) => {
                (Copy::single(memory.copy(inside).map_err(&failed)?), Some(restriction))
            }
        };
        let Copy { mount, has_mounts } = copy;
        let own_tree = match &place {
            Some(place) => inside.attach(&mount, place).map(|()| None),
            // Attached all the same: only the mounts of an attached tree can be told and taken out.
            None => inside.attach_root(&mount).map(Some),
        };
        let own_tree = own_tree.map_err(&failed)?;
        if let Some(restriction) = restriction {
            attributes::restrict(inside, &mount, restriction).map_err(&failed)?;
        }
        if has_mounts {
            let found = interfaces::leave_out(inside, &mount).map_err(&failed)?;
            left_out.extend(found.into_iter().map(|one| one.below(&self.destination)));
        }
        let beside = |tree| (tree, Directory::new(self.destination, mount, read_only));
        Ok(own_tree.map(beside))
    }

    /// Returns the directory as a separate preopen, for an ordinary user without the right to
    /// attach mounts.
    pub(super) fn beside(self) -> Result<Directory, RootfsError> {
        match self.opened {
            Opened::Directory(Copy { mount, .. }) => {
                Ok(Directory::new(self.destination, mount, self.config.read_only))
            }
            Opened::File(_) | Opened::Devices | Opened::Memory(_) => {
                let reason = "only root can mount a single file";
                let error = io::Error::new(io::ErrorKind::PermissionDenied, reason);
                Err(RootfsError::destination(&self.config.destination)(error))
            }
        }
    }
}

fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem
}

/// Makes the working directory and its parents if they are missing, as runc does.
pub(super) fn make_directory(root: &OwnedFd, cwd: &Path) -> Result<(), RootfsError> {
    match place(root, cwd, true) {
        Ok(_) => Ok(()),
        // The check of the working directory has the better error if it is missing.
        Err(error) if is_read_only(&error) => Ok(()),
        Err(source) => Err(RootfsError::Cwd { path: cwd.to_owned(), source }),
    }
}

/// Resolves `.` and `..` by the text alone, as runc does for `mounts[].destination`.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            // `..` of the root is the root, so it does not matter if anything was removed.
            Component::ParentDir => drop(cleaned.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// Clones the mount of a directory or file of the host.
fn bind(source: &Path, recursive: bool, host: &HostMounts) -> Result<Opened<'static>, RootfsError> {
    let failed = RootfsError::directory("volume", source);
    // Checked before the clone, which would also accept a socket or a device.
    let kind = std::fs::metadata(source).map_err(&failed)?.file_type();
    if !kind.is_dir() && !kind.is_file() {
        let reason = "is neither a directory nor a regular file";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    // A recursive bind of `/` would bring the host's own `/proc` and `/sys` along.
    let whole_host = recursive && is_host_root(source);
    if whole_host {
        tracing::warn!(
            "the host's root is mounted without the mounts below it: its /proc is no guest's"
        );
    }
    // Of a file nothing can be below, so the host's mounts are not asked.
    let recursive = recursive && kind.is_dir() && !whole_host;
    let copy = copy_directory(source, recursive, host).map_err(&failed)?;
    Ok(if kind.is_dir() { Opened::Directory(copy) } else { Opened::File(copy.mount) })
}

/// True if `source` is the host's root directory, by device and inode number.
fn is_host_root(source: &Path) -> bool {
    let id = |path: &Path| {
        let found = statat(CWD, path, AtFlags::empty()).ok()?;
        Some((found.st_dev, found.st_ino))
    };
    let root = id(Path::new("/"));
    // Two failures are no equality.
    root.is_some() && root == id(source)
}

/// Creates a detached tmpfs with options of `mount(8)`. Flags of the mount itself are left to the
/// caller.
fn tmpfs(options: &[String]) -> io::Result<OwnedFd> {
    let of_the_file_system = |option: &&String| {
        // `tmpcopyup` is an option of runc: it copies the image's files from below the mount.
        // Guests do not get this copy.
        mount_flag(option).is_none() && !is_propagation(option) && *option != "tmpcopyup"
    };
    let options = options.iter().filter(of_the_file_system);
    let settings = options.map(|option| match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option.as_str(), None),
    });
    // The default size comes first, so that a size among the options replaces it.
    make_tmpfs([("size", Some(TMPFS_SIZE))].into_iter().chain(settings))
}

/// True for the options of `mount(8)` that set the propagation.
fn is_propagation(option: &str) -> bool {
    // Ignored, since every mount of a container is private: later mounts of the host do not appear
    // in the container, nor the other way round.
    matches!(
        option,
        "private"
            | "rprivate"
            | "shared"
            | "rshared"
            | "slave"
            | "rslave"
            | "unbindable"
            | "runbindable"
    )
}

/// Finds the mount point at `path` inside the tree of `root`, and creates it if it is missing. No
/// link of the image leads out of the tree. The target of a dangling link is created inside the
/// tree.
fn place(root: impl AsFd, path: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match step_to(root.as_fd(), &path, is_directory)? {
            Step::Arrived(place) => return Ok(place),
            Step::Link(target) => path = target,
        }
    }
    Err(Errno::LOOP.into())
}

enum Step {
    Arrived(OwnedFd),
    /// The path contains a dangling link. This path has the link's target in its place.
    Link(PathBuf),
}

fn step_to(root: impl AsFd, path: &Path, is_directory: bool) -> io::Result<Step> {
    let root = root.as_fd();
    let mut reached = PathBuf::from(".");
    let is_name =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let mut names = path.components().filter(is_name).peekable();
    while let Some(name) = names.next() {
        let parent = reached.clone();
        reached.push(name);
        // Resolved from the root at every step, because `..` and links must not leave the tree.
        if inside(root, &reached, OFlags::PATH).is_ok() {
            continue;
        }
        let directory = inside(root, &parent, OFlags::PATH | OFlags::DIRECTORY)?;
        let name: &Path = name.as_ref();
        let made = match names.peek().is_some() || is_directory {
            true => mkdirat(&directory, name, Mode::from(0o755)),
            false => mknodat(&directory, name, FileType::RegularFile, Mode::from(0o644), 0),
        };
        match made {
            Ok(()) => {}
            // The name exists but did not resolve: a dangling link, or a name created meanwhile.
            Err(Errno::EXIST) => {
                let Ok(target) = readlinkat(&directory, name, Vec::new()) else { continue };
                let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                // `join` with an absolute target yields that target, which the root then bounds.
                let around = parent.join(target);
                return Ok(Step::Link(names.fold(around, |path, name| path.join(name))));
            }
            Err(error) => return Err(error.into()),
        }
    }
    inside(root, &reached, OFlags::PATH).map(Step::Arrived)
}

fn inside(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}
