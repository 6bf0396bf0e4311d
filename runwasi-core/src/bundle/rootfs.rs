//! A container's root file system and volumes as *detached* mounts. Made by `container`, used by engines as preopens
//! and by `image` to read the artifact.
//!
//! `fsopen(2)`/`open_tree(2)` give a mount that is in no mount table: its fd is all there is of it. The guest's
//! preopens are such fds; when they are closed, also by kill -9, the mount is gone and nothing has to be unmounted.
//! Everything a guest sees is `nodev,nosuid`: a device node or a setuid file in an image is just a file.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree, unmount,
    },
};

use tokio::sync::{RwLock, watch};

use crate::{
    bundle::{
        config::{Config, Source, VolumeConfig},
        mounts,
    },
    image::Digest,
    sys::{self, MountRestriction},
};

/// In the bundle: what is mounted by way of the mount table is mounted here.
const MOUNT_POINT: &str = "rootfs";

/// The kernel's limit for one string of `fsconfig(2)`, with its NUL.
const FSCONFIG_STRING: usize = 256;

/// A mount as containerd describes it in `Create`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountConfig {
    /// `overlay`, `bind`, …
    pub kind: String,
    /// Device or directory.
    pub source: String,
    /// `mount(8)` options.
    pub options: Vec<String>,
}

/// The file systems of one container. Dropping it lets the kernel take them away, which writes back what is dirty and
/// can take long: so that happens on the blocking pool, and [`Rootfs::gone`] tells when it is done.
#[derive(Debug)]
pub struct Rootfs {
    /// Taken only in drop.
    mounts: Option<Mounts>,
    layers: Option<Layers>,
    names: Arc<RwLock<()>>,
    gone: watch::Receiver<()>,
}

/// What `/` is made of, if it is an overlay.
#[derive(Debug)]
struct Layers {
    /// The number of its mount.
    mount: u64,
    /// Of the list of read-only layers: all containers of an image have the same.
    digest: Digest,
}

#[derive(Debug)]
struct Mounts {
    /// `/` first, then the volumes.
    directories: Vec<Directory>,
    /// The last field, hence dropped last: its receivers see the end of all mounts.
    _gone: watch::Sender<()>,
}

/// Resolves when the file systems of a container are gone.
#[derive(Clone, Debug)]
pub struct Gone(Option<watch::Receiver<()>>);

impl Gone {
    /// For a container without file systems.
    pub(crate) fn already() -> Self {
        Self(None)
    }

    /// Waits until the last user of the file systems has left and the kernel has taken them away.
    pub async fn wait(&mut self) {
        if let Some(gone) = &mut self.0 {
            // Nothing is ever sent: an error is the end of the sender.
            while gone.changed().await.is_ok() {}
        }
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let Some(mounts) = self.mounts.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(mounts))),
            Err(_) => drop(mounts),
        }
    }
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    /// Replaced once, by [`Rootfs::share`]; locked for that and for looks.
    file: Mutex<Arc<File>>,
    shared: AtomicBool,
    read_only: bool,
}

/// A directory the guest is given.
#[derive(Clone, Debug)]
pub struct Preopen<'a> {
    /// Where the guest sees it, absolute.
    pub path: &'a Path,
    /// The directory.
    pub directory: Arc<File>,
    /// Whether the engine has to refuse writes, because the kernel does not.
    pub read_only: bool,
}

/// Why a file system could not be set up or a path in it not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// A mount of `Create` failed.
    #[error("mount {kind} {source_path} on rootfs (options {options}): {source}")]
    Mount {
        /// The mount's type.
        kind: String,
        /// The mount's source.
        source_path: String,
        /// Its options.
        options: String,
        /// The system's error.
        source: io::Error,
    },
    /// A directory on the host cannot be used.
    #[error("{what} {}: {source}", path.display())]
    Directory {
        /// What it is for.
        what: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The working directory is not there.
    #[error("process.cwd {}: {source}", path.display())]
    Cwd {
        /// The path in the guest.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Rootfs {
    /// Mounts everything detached. Blocks: call it on the blocking pool.
    pub fn mount(bundle: &Path, config: &Config, mounts: &[MountConfig]) -> Result<Self, RootfsError> {
        // Where containerd's own shims mount, whatever `root.path` says, and where `delete` looks.
        let target = bundle.join(MOUNT_POINT);
        let path = bundle.join(&config.root);
        let root = match mounts {
            [] => clone_tree(&path, true).map_err(directory("root.path", &path))?,
            [only] => mount_detached(only, &target)?,
            several => attach_and_clone(several, &target)?,
        };
        let layers = Layers::of(mounts, &root);
        // The last one lies on top.
        let read_only = config.read_only || mounts.last().is_some_and(|mount| mount.has("ro"));
        let restrict_root = |read_only| {
            restrict(&root, MountRestriction { read_only, recursive: true }).map_err(directory("root.path", &path))
        };
        restrict_root(read_only && config.volumes.is_empty())?;
        // An ordinary user (examples and tests) cannot make file systems.
        let can_make = rustix::process::geteuid().is_root();
        let wanted = config.volumes.iter().filter(|volume| can_make || matches!(volume.source, Source::Bind { .. }));
        let volumes = wanted.map(|volume| Volume::make(bundle, &root, volume));
        let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
        if read_only && !volumes.is_empty() {
            // Only now: places for the volumes had to be made.
            restrict_root(true)?;
        }
        let others = volumes.into_iter().filter_map(|volume| volume.attach(&root)).collect::<Vec<_>>();
        let (sender, gone) = watch::channel(());
        // The kernel refuses writes; an engine that did would refuse those to writable volumes in the tree, too.
        let mut directories = vec![Directory::new(PathBuf::from("/"), root, read_only && !can_make)];
        directories.extend(others);
        let mounts = Mounts { directories, _gone: sender };
        Ok(Self { mounts: Some(mounts), layers, names: Arc::default(), gone })
    }

    /// For engines that look at a file before they open it: held for reading from the look to the opening, for writing while a guest
    /// gives files other names. So no process of the container can put another file in its place.
    pub fn names(&self) -> Arc<RwLock<()>> {
        self.names.clone()
    }

    /// What names the layers that this file is from, if it lies in `/` itself, not in a volume, and `/` is an overlay.
    pub(crate) fn layers_of(&self, file: &File) -> Option<Digest> {
        let layers = self.layers.as_ref()?;
        (mount_of(file)? == layers.mount).then_some(layers.digest)
    }

    /// Tells when the file systems are gone.
    pub fn gone(&self) -> Gone {
        Gone(Some(self.gone.clone()))
    }

    /// The directories the guest is given: `/` first, then its volumes.
    pub fn preopens(&self) -> impl Iterator<Item = Preopen<'_>> {
        self.directories().iter().map(|directory| Preopen {
            path: &directory.path,
            directory: directory.file(),
            read_only: directory.read_only,
        })
    }

    /// Takes over an engine's own opening of the preopen number `n` in the order of [`Rootfs::preopens`]: the same
    /// directory, so one file descriptor does for both. The first one counts, the init's: an exec's would be kept beyond its end.
    pub fn share(&self, n: usize, opened: Arc<File>) {
        if let Some(directory) = self.directories().get(n)
            && !directory.shared.swap(true, Ordering::Relaxed)
        {
            *directory.file.lock().unwrap_or_else(PoisonError::into_inner) = opened;
        }
    }

    fn directories(&self) -> &[Directory] {
        self.mounts.as_ref().map_or(&[], |mounts| &mounts.directories)
    }

    /// Opens a file for reading by its absolute path in the guest. Symbolic links and `..` cannot leave the file system it lies in,
    /// and a FIFO does not block.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        self.open_with(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).map(File::from)
    }

    /// Checks that the working directory is there.
    pub fn check_cwd(&self, cwd: &Path) -> Result<(), RootfsError> {
        let opened = self.open_with(cwd, OFlags::PATH | OFlags::DIRECTORY);
        opened.map(drop).map_err(|source| RootfsError::Cwd { path: cwd.to_owned(), source })
    }

    fn open_with(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        // The deepest preopen that holds the path; `/` holds all.
        let preopen = self.preopens().filter(|p| path.starts_with(p.path)).max_by_key(|p| p.path.as_os_str().len());
        let preopen = preopen.ok_or(io::ErrorKind::NotFound)?;
        let inner = path.strip_prefix(preopen.path).unwrap_or(path);
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&*preopen.directory, inner, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

impl Layers {
    fn of(mounts: &[MountConfig], root: &OwnedFd) -> Option<Self> {
        let [MountConfig { kind, options, .. }] = mounts else { return None };
        let lower = options.iter().find_map(|option| option.strip_prefix("lowerdir=")).filter(|_| kind == "overlay")?;
        Some(Self { mount: mount_of(root)?, digest: Digest::of(lower.as_bytes()) })
    }
}

/// The number of the mount that something open lies in.
fn mount_of(fd: impl AsFd) -> Option<u64> {
    let told = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

/// A mount of `config.json` on its way into the tree.
struct Volume<'a> {
    config: &'a VolumeConfig,
    mount: OwnedFd,
    is_directory: bool,
    /// Where it goes; why there is no such place otherwise.
    place: io::Result<OwnedFd>,
}

impl<'a> Volume<'a> {
    fn make(bundle: &Path, root: &OwnedFd, config: &'a VolumeConfig) -> Result<Self, RootfsError> {
        let (mount, is_directory) = match &config.source {
            Source::Devices => (mounts::devices().map_err(directory("our own", Path::new("/dev")))?, true),
            Source::Tmpfs { options } => {
                let failed = directory("tmpfs", &config.destination);
                let tmpfs = mounts::tmpfs(options).map_err(&failed)?;
                restrict(&tmpfs, MountRestriction { read_only: config.read_only, recursive: true }).map_err(failed)?;
                (tmpfs, true)
            }
            Source::Bind { path, recursive } => bind(&bundle.join(path), *recursive, config.read_only)?,
        };
        let place = mounts::place(root, &config.destination, is_directory);
        Ok(Self { config, mount, is_directory, place })
    }

    /// Puts it into the tree. Where that cannot be, a directory is the answer: the guest is given it beside the tree.
    fn attach(self, root: &OwnedFd) -> Option<Directory> {
        let Self { config, mount, is_directory, place } = self;
        // Found anew: what was mounted since may lie above the place that was made.
        let place = place.and_then(|_| mounts::place(root, &config.destination, is_directory));
        let Err(error) = place.and_then(|place| mounts::attach(&mount, place)) else { return None };
        let path = config.destination.display();
        if is_directory {
            tracing::debug!(%path, %error, "not mounted in the tree, given beside it");
            return Some(Directory::new(config.destination.clone(), mount, config.read_only));
        }
        // WASI can preopen directories only.
        tracing::warn!(%path, %error, "a volume that is a single file is left out");
        None
    }
}

/// A private copy of a directory or file of the host.
fn bind(source: &Path, recursive: bool, read_only: bool) -> Result<(OwnedFd, bool), RootfsError> {
    let failed = directory("volume", source);
    let metadata = std::fs::metadata(source).map_err(&failed)?;
    let kind = metadata.file_type();
    if !kind.is_dir() && !kind.is_file() {
        let reason = "is neither a directory nor a regular file";
        return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, reason)));
    }
    let whole_host = recursive && mounts::holds_interfaces(source);
    if whole_host {
        tracing::warn!("the host's root is mounted without the mounts below it: its /proc is no guest's");
    }
    let tree = clone_tree(source, recursive && !whole_host).map_err(&failed)?;
    if mounts::is_interface(&tree).map_err(&failed)? {
        let reason = "is a kernel interface of the host, which no guest gets";
        return Err(failed(io::Error::new(io::ErrorKind::PermissionDenied, reason)));
    }
    restrict(&tree, MountRestriction { read_only, recursive: true }).map_err(&failed)?;
    Ok((tree, kind.is_dir()))
}

impl Directory {
    fn new(path: PathBuf, file: OwnedFd, read_only: bool) -> Self {
        Self { path, file: Mutex::new(Arc::new(file.into())), shared: AtomicBool::new(false), read_only }
    }

    fn file(&self) -> Arc<File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn directory(what: &'static str, path: &Path) -> impl Fn(io::Error) -> RootfsError {
    move |source| RootfsError::Directory { what, path: path.to_owned(), source }
}

/// A private copy of the mounts at `path`.
fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    match open_tree(CWD, path, flags) {
        Ok(tree) => Ok(tree),
        // Without CAP_SYS_ADMIN (examples and tests of an ordinary user) the directory itself has to do.
        Err(rustix::io::Errno::PERM) => Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
        Err(error) => Err(error.into()),
    }
}

fn restrict(tree: &OwnedFd, restriction: MountRestriction) -> io::Result<()> {
    match sys::restrict_mount(tree, restriction) {
        // The same ordinary user; engines still refuse writes to what is read-only.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) && !rustix::process::geteuid().is_root() => Ok(()),
        result => result,
    }
}

/// One mount without touching the mount table, if the kernel can; otherwise through it, briefly.
fn mount_detached(config: &MountConfig, target: &Path) -> Result<OwnedFd, RootfsError> {
    let bind = config.kind == "bind" || config.has("bind") || config.has("rbind");
    let detached = if bind {
        return clone_tree(Path::new(&config.source), config.has("rbind")).map_err(|source| config.failed(source));
    } else if config.kind == "overlay" {
        overlay(config)
    } else {
        Err(io::ErrorKind::Unsupported.into())
    };
    // A kernel before 6.8 has no `lowerdir+`; the table way also gives the error that users know.
    detached.or_else(|_| attach_and_clone(std::slice::from_ref(config), target))
}

fn overlay(config: &MountConfig) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "overlay")?;
    for option in &config.options {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => overlay_layers(&context, layers)?,
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            None if mount_flag(option).is_some() => {}
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let attributes = if config.has("ro") { MountAttrFlags::MOUNT_ATTR_RDONLY } else { MountAttrFlags::empty() };
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn overlay_layers(context: &OwnedFd, layers: &str) -> io::Result<()> {
    if layers.len() < FSCONFIG_STRING {
        return Ok(fsconfig_set_string(context.as_fd(), "lowerdir", layers)?);
    }
    if layers.contains('\\') {
        // Escaped colons and backslashes have other rules with `lowerdir+`.
        return Err(io::ErrorKind::Unsupported.into());
    }
    layers.split(':').try_for_each(|layer| Ok(fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?))
}

/// Mounts on `target`, copies the tree and unmounts at once, so that the mounts are in the table for an instant only.
/// A crash in that instant is cleaned up by `delete`.
fn attach_and_clone(mounts: &[MountConfig], target: &Path) -> Result<OwnedFd, RootfsError> {
    let mut attached = Attached { target, count: 0 };
    for config in mounts {
        attach(config, target).map_err(|source| config.failed(source))?;
        attached.count += 1;
    }
    let tree = clone_tree(target, true).map_err(directory("rootfs", target));
    drop(attached);
    tree
}

/// Unmounts as often as something was mounted.
struct Attached<'a> {
    target: &'a Path,
    count: usize,
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        for _ in 0..self.count {
            if let Err(error) = unmount(self.target, UnmountFlags::DETACH) {
                tracing::error!(target = %self.target.display(), %error, "cannot unmount");
            }
        }
    }
}

fn attach(config: &MountConfig, target: &Path) -> io::Result<()> {
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    let mut data = Vec::new();
    for option in &config.options {
        match mount_flag(option) {
            Some(flag) => flags |= flag,
            None => data.push(option.as_str()),
        }
    }
    let data = std::ffi::CString::new(data.join(","))?;
    Ok(mount(config.source.as_str(), target, config.kind.as_str(), flags, data.as_c_str())?)
}

/// The options of `mount(8)` that are flags of `mount(2)`; those that undo a default mean nothing here.
pub(super) fn mount_flag(option: &str) -> Option<MountFlags> {
    Some(match option {
        "ro" => MountFlags::RDONLY,
        "bind" => MountFlags::BIND,
        "rbind" => MountFlags::BIND | MountFlags::REC,
        "noexec" => MountFlags::NOEXEC,
        "noatime" => MountFlags::NOATIME,
        "nodiratime" => MountFlags::NODIRATIME,
        "relatime" => MountFlags::RELATIME,
        "strictatime" => MountFlags::STRICTATIME,
        "sync" => MountFlags::SYNCHRONOUS,
        "dirsync" => MountFlags::DIRSYNC,
        "rw" | "nodev" | "nosuid" | "dev" | "suid" | "exec" | "atime" | "diratime" | "async" | "defaults" => {
            MountFlags::empty()
        }
        _ => return None,
    })
}

impl MountConfig {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    fn failed(&self, source: io::Error) -> RootfsError {
        let options = self.options.join(",");
        RootfsError::Mount { kind: self.kind.clone(), source_path: self.source.clone(), options, source }
    }
}

/// Unmounts what a crash may have left on `<bundle>/rootfs`. Used by `delete`; fine when there is nothing.
pub fn unmount_leftovers(bundle: &Path) {
    let target = bundle.join(MOUNT_POINT);
    // Several mounts may lie on each other; anything but success means that none is left (EINVAL, ENOENT).
    while unmount(&target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn config(bundle: &Path) -> Config {
        let json = r#"{"ociVersion":"1.1.0","root":{"path":"rootfs"},"process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["/a"]}}"#;
        std::fs::write(bundle.join("config.json"), json).unwrap();
        std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
        Config::load(bundle).unwrap()
    }

    fn read(rootfs: &Rootfs, path: &str) -> io::Result<String> {
        let mut text = String::new();
        rootfs.open(Path::new(path))?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn a_link_in_the_image_cannot_lead_out_of_it() {
        let bundle = tempfile::tempdir().unwrap();
        let config = config(bundle.path());
        let root = bundle.path().join("rootfs");
        std::fs::write(bundle.path().join("secret"), "host").unwrap();
        std::fs::write(root.join("secret"), "guest").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("up")).unwrap();
        std::os::unix::fs::symlink(bundle.path().join("secret"), root.join("absolute")).unwrap();
        let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
        assert_eq!(read(&rootfs, "/up").unwrap(), "guest");
        assert_eq!(read(&rootfs, "/../../secret").unwrap(), "guest");
        assert!(read(&rootfs, "/absolute").is_err());
    }

    #[test]
    fn an_overlay_is_mounted_without_a_trace_in_the_mount_table() {
        if !rustix::process::geteuid().is_root() {
            panic!("this test mounts an overlay and must run as root");
        }
        let bundle = tempfile::tempdir().unwrap();
        let config = config(bundle.path());
        // Many long layers: more than one fsconfig string can hold.
        let layers: Vec<_> = (0..6).map(|i| bundle.path().join(format!("layer-{i}-{}", "x".repeat(60)))).collect();
        for (i, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join(format!("f{i}")), format!("{i}")).unwrap();
        }
        std::fs::create_dir(bundle.path().join("upper")).unwrap();
        std::fs::create_dir(bundle.path().join("work")).unwrap();
        let lower = layers.iter().map(|layer| layer.to_str().unwrap()).collect::<Vec<_>>().join(":");
        let path = |name: &str| bundle.path().join(name).to_str().unwrap().to_owned();
        let options = vec![
            format!("lowerdir={lower}"),
            format!("upperdir={}", path("upper")),
            format!("workdir={}", path("work")),
        ];
        let overlay = MountConfig { kind: "overlay".into(), source: "overlay".into(), options };
        let bind = MountConfig {
            kind: "bind".into(),
            source: layers[5].to_str().unwrap().to_owned(),
            options: vec!["rbind".into()],
        };
        for mounts in [vec![overlay.clone()], vec![overlay, bind]] {
            let rootfs = Rootfs::mount(bundle.path(), &config, &mounts).unwrap();
            assert_eq!(read(&rootfs, "/f5").unwrap(), "5");
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!table.contains(bundle.path().to_str().unwrap()), "{table}");
        }
    }

    #[test]
    fn a_mount_that_fails_is_an_error_with_its_source_and_leaves_nothing() {
        let bundle = tempfile::tempdir().unwrap();
        let config = config(bundle.path());
        for kind in ["overlay", "bind", "ext4"] {
            let mount = MountConfig {
                kind: kind.into(),
                source: "/nonexistent/x".into(),
                options: vec!["lowerdir=/nonexistent/y".into()],
            };
            let error = Rootfs::mount(bundle.path(), &config, &[mount]).unwrap_err().to_string();
            assert!(error.contains("/nonexistent"), "{error}");
        }
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(bundle.path().to_str().unwrap()), "{table}");
    }

    #[test]
    fn a_missing_working_directory_is_named() {
        let bundle = tempfile::tempdir().unwrap();
        let config = config(bundle.path());
        let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
        rootfs.check_cwd(Path::new("/")).unwrap();
        let error = rootfs.check_cwd(Path::new("/no/where")).unwrap_err().to_string();
        assert!(error.contains("/no/where"), "{error}");
    }
}
