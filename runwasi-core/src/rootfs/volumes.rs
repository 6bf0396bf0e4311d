//! The mounts of `config.json`: opened on the host, then attached at their destinations in the
//! container's tree.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStringExt, fs::FileTypeExt},
    },
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, chmodat, fstat, mkdirat, mknodat, openat2,
        readlinkat,
    },
    io::Errno,
};

use super::{
    attributes,
    copy::{Copy, HostMounts, copy_directory},
    copy_up,
    devices::{self, make_tmpfs},
    directory::Directory,
    error::RootfsError,
    following::Following,
    interfaces::{self, LeftOut},
    namespace::{Inside, Tree},
    shared_memory::SharedMemory,
    waiting,
};
use crate::{
    bundle::{
        mount_options::{MountOptions, Propagation},
        mounts::{Source, VolumeConfig},
    },
    sys::{MountAttributes, MountChange},
};

/// Default size of a tmpfs. containerd gives `/dev/shm` and `/run` the same size.
const TMPFS_SIZE: &str = "65536k";

/// Maximum of symbolic links in a path to a place. The kernel has the same limit.
const MAX_LINKS: usize = 40;

/// File systems of a container in the private namespace.
#[derive(Default)]
pub(super) struct Attached {
    pub(super) trees: Vec<Tree>,
    /// `/` and the volumes without a mount point in its tree.
    pub(super) directories: Vec<Directory>,
    pub(super) left_out: Vec<LeftOut>,
    /// Volumes whose later mounts are taken over.
    pub(super) following: Vec<Following>,
    /// Mounts that become read-only when all others are attached.
    pub(super) late: Vec<OwnedFd>,
}

/// Root of a container's tree, not yet attached.
pub(super) struct Root {
    pub(super) copy: Copy,
    pub(super) options: MountOptions,
    /// True if it becomes read-only when all places are made.
    pub(super) read_only: bool,
}

/// A mount of `config.json`, opened and not yet attached.
pub(super) struct Volume<'a> {
    config: &'a VolumeConfig,
    /// Path in the container without `.` and `..`.
    destination: PathBuf,
    opened: Opened<'a>,
    /// True if its mount point is in the root file system, created before that becomes read-only.
    has_place: bool,
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
            Source::Tmpfs => {
                let made = tmpfs(&config.options.rest);
                let made = made.map_err(RootfsError::destination(&config.destination))?;
                Opened::Directory(Copy::single(made))
            }
            Source::Bind { path, recursive } => {
                bind(&bundle.join(path), *recursive, config.options.propagation, host)?
            }
        };
        let destination = clean(&config.destination);
        Ok(Self { config, destination, opened, has_place: false })
    }

    /// True if its file calls may wait for more than a local disk.
    pub(super) fn may_wait(&self, bundle: &Path, host: &HostMounts) -> bool {
        let Source::Bind { path, .. } = &self.config.source else { return false };
        match &self.opened {
            // A later mount may be of any file system.
            Opened::Directory(copy) if copy.following.is_some() => true,
            Opened::Directory(copy) => {
                waiting::opened(&copy.mount)
                    || copy.has_mounts && waiting::below(host.below(&bundle.join(path)))
            }
            Opened::File(file) => waiting::opened(file),
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

    /// Makes it the root of the tree. A tmpfs begins with what it covers.
    pub(super) fn cover(
        self,
        inside: &Inside,
        covered: Root,
        attached: &mut Attached,
    ) -> Result<Root, RootfsError> {
        let failed = RootfsError::destination(&self.config.destination);
        let mut options = self.config.options.clone();
        let mut read_only = covered.read_only;
        let Opened::Directory(copy) = self.opened else {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        };
        if self.config.source == Source::Tmpfs {
            let Copy { mount, .. } = &covered.copy;
            // Attached, so that no kernel interface is copied from it.
            attached.trees.push(inside.attach_root(mount).map_err(&failed)?);
            settle(inside, &covered.copy, &covered.options, false).map_err(&failed)?;
            begin_tmpfs(&copy.mount, mount, &options).map_err(&failed)?;
            read_only |= options.is_read_only();
            options = options.writable();
        }
        // Not dropped here: its end leads out of the namespace.
        attached.following.extend(covered.copy.following);
        Ok(Root { copy, options, read_only })
    }

    /// Finds its mount point in the root file system and creates it if it is missing.
    pub(super) fn make_place(&mut self, root: &OwnedFd) -> Result<(), RootfsError> {
        match place(root, &self.destination, self.is_directory()) {
            Ok(_) => {
                self.has_place = true;
                Ok(())
            }
            // The file system itself is read-only. There may be a place once other volumes are
            // attached; else a directory becomes a preopen beside the tree.
            Err(error) if is_read_only(&error) => Ok(()),
            Err(error) => Err(RootfsError::destination(&self.config.destination)(error)),
        }
    }

    /// True for `/dev` with mounts below it for which our `/dev` has no place.
    pub(super) fn is_devices_with(&self, rest: &VecDeque<Self>) -> bool {
        let shm = self.destination.join(devices::SHM);
        matches!(self.opened, Opened::Devices)
            && self.has_place
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
        let place = place(root, &self.destination, true).map_err(&failed)?;
        let devices = inside.attach_devices(&place).map_err(&failed)?;
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
    /// point for it.
    pub(super) fn attach(
        self,
        inside: &Inside,
        root: &OwnedFd,
        attached: &mut Attached,
    ) -> Result<(), RootfsError> {
        let failed = RootfsError::destination(&self.config.destination);
        let is_directory = self.is_directory();
        // Now and not when it was made: a link may lead into a volume that was attached meanwhile.
        let place = match place(root, &self.destination, is_directory) {
            Ok(place) => Some(place),
            Err(error) if is_directory && is_read_only(&error) => None,
            Err(error) => return Err(failed(error)),
        };
        let options = &self.config.options;
        let is_devices = matches!(self.opened, Opened::Devices);
        let copy = match self.opened {
            Opened::Devices => Copy::single(inside.devices().map_err(&failed)?),
            Opened::Directory(copy) => copy,
            Opened::File(mount) => Copy::single(mount),
            Opened::Memory(memory) => Copy::single(memory.copy(inside).map_err(&failed)?),
        };
        if self.config.source == Source::Tmpfs
            && let Some(place) = &place
        {
            begin_tmpfs(&copy.mount, place, options).map_err(&failed)?;
        }
        let own_tree = match &place {
            Some(place) => inside.attach(&copy.mount, place).map(|()| None),
            // Attached all the same: only the mounts of an attached tree can be told and taken out.
            None => inside.attach_root(&copy.mount).map(Some),
        };
        let own_tree = own_tree.map_err(&failed)?;
        // `/dev` was restricted on creation. `nodev` would make its devices unusable.
        if !is_devices {
            let late = self.config.source == Source::Tmpfs && options.is_read_only();
            let found = settle(inside, &copy, options, late).map_err(&failed)?;
            attached.left_out.extend(found.into_iter().map(|one| one.below(&self.destination)));
            if late {
                attached.late.push(copy.mount.try_clone().map_err(&failed)?);
            }
        }
        attached.following.extend(copy.following);
        if let Some(tree) = own_tree {
            attached.trees.push(tree);
            let read_only = options.is_read_only();
            attached.directories.push(Directory::new(self.destination, copy.mount, read_only));
        }
        Ok(())
    }

    /// Returns the directory as a separate preopen, for an ordinary user without the right to
    /// attach mounts.
    pub(super) fn beside(self) -> Result<Directory, RootfsError> {
        match self.opened {
            Opened::Directory(Copy { mount, .. }) => {
                let read_only = self.config.options.is_read_only();
                Ok(Directory::new(self.destination, mount, read_only))
            }
            Opened::File(_) | Opened::Devices | Opened::Memory(_) => {
                let reason = "only root can mount a single file";
                let error = io::Error::new(io::ErrorKind::PermissionDenied, reason);
                Err(RootfsError::destination(&self.config.destination)(error))
            }
        }
    }
}

/// True if one of these mounts lies at `/`.
pub(super) fn cover_root(volumes: &[VolumeConfig]) -> bool {
    volumes.iter().any(|volume| clean(&volume.destination) == Path::new("/"))
}

/// Takes the last mount at `/` out of the list, and those before it, which it covers. Called in the
/// host's namespace: the end of a volume that follows its source leads there.
pub(super) fn take_root<'a>(volumes: &mut Vec<Volume<'a>>) -> Option<Volume<'a>> {
    let last = volumes.iter().rposition(|volume| volume.destination == Path::new("/"))?;
    volumes.drain(..=last).next_back()
}

/// Restricts an attached copy, gives it the attributes of its options and takes kernel interfaces
/// out. A tmpfs with mounts below it stays writable until these are made.
pub(super) fn settle(
    inside: &Inside,
    copy: &Copy,
    options: &MountOptions,
    stays_writable: bool,
) -> io::Result<Vec<LeftOut>> {
    let writable = stays_writable.then(|| options.clone().writable());
    let &MountOptions { top, tree, .. } = writable.as_ref().unwrap_or(options);
    let all = MountChange::RESTRICTED.with(tree);
    let Copy { mount, has_mounts, following } = copy;
    if let Some(following) = following {
        attributes::change(inside, mount, all.with(top))?;
        following.begin(inside, mount, tree)?;
        return Ok(Vec::new());
    }
    if !has_mounts {
        // One change for both: there is nothing below.
        attributes::change(inside, mount, all.with(top))?;
        return Ok(Vec::new());
    }
    attributes::change(inside, mount, all)?;
    if top != MountAttributes::NONE {
        attributes::change(inside, mount, MountChange::single(top))?;
    }
    interfaces::leave_out(inside, mount)
}

/// Gives a new tmpfs the mode and, on request, the content of the directory below it, as runc does.
fn begin_tmpfs(mount: &OwnedFd, place: &OwnedFd, options: &MountOptions) -> io::Result<()> {
    if !options.rest.iter().any(|option| option.starts_with("mode=")) {
        let mode = Mode::from_raw_mode(fstat(place)?.st_mode);
        chmodat(mount, ".", mode, AtFlags::empty())?;
    }
    if options.copy_up { copy_up::copy_up(place, mount) } else { Ok(()) }
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
fn bind(
    source: &Path,
    recursive: bool,
    propagation: Propagation,
    host: &HostMounts,
) -> Result<Opened<'static>, RootfsError> {
    let failed = RootfsError::directory("volume", source);
    // Checked before the clone, which would also accept a FIFO or a device. A socket is there as in
    // any volume (`/dev/log`): no guest can open one.
    let kind = std::fs::metadata(source).map_err(&failed)?.file_type();
    if !kind.is_dir() && !kind.is_file() && !kind.is_socket() {
        let reason = "is neither a directory, a regular file nor a socket";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    // Of a file nothing can be below, so the host's mounts are not asked.
    let propagation = if kind.is_dir() { propagation } else { Propagation::Private };
    let recursive = recursive && kind.is_dir();
    let copy = copy_directory(source, recursive, propagation, host).map_err(&failed)?;
    Ok(if kind.is_dir() { Opened::Directory(copy) } else { Opened::File(copy.mount) })
}

/// Creates a detached tmpfs with options of `mount(8)` that are not of the mount itself.
fn tmpfs(options: &[String]) -> io::Result<OwnedFd> {
    let settings = options.iter().map(|option| match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option.as_str(), None),
    });
    // The default size comes first, so that a size among the options replaces it.
    let made = make_tmpfs([("size", Some(TMPFS_SIZE))].into_iter().chain(settings));
    made.map_err(|error| match error.raw_os_error() {
        // Of all options together, or of the system.
        Some(_) => io::Error::new(error.kind(), format!("options: {}: {error}", options.join(","))),
        None => error,
    })
}

/// Finds the mount point at `path` inside the tree of `root`, and creates it if it is missing. No
/// link of the image leads out of the tree. The target of a dangling link is created inside the
/// tree.
fn place(root: impl AsFd, path: &Path, is_directory: bool) -> io::Result<OwnedFd> {
    // Most are there.
    if let Ok(place) = inside(root.as_fd(), path, OFlags::PATH) {
        return Ok(place);
    }
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

pub(super) fn inside(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}
