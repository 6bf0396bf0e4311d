//! A container's root file system and volumes: one tree of mounts that no mount table of the host
//! shows.
//!
//! The tree is attached in the process's private mount [`namespace`]; its descriptor is the guest's
//! preopen. When the process ends, also by SIGKILL, the kernel takes the namespace and all trees away.
//! Everything a guest sees is `nodev,nosuid`: a device node or a setuid file in an image is just a
//! file.
//!
//! | step | mount namespace | file |
//! |---|---|---|
//! | root file system and sources of volumes as detached mounts | host's | [`mounts`], [`volumes`] |
//! | attach the root, find the places, attach the volumes | private | [`namespace`], [`volumes`] |
//! | `nodev`, `nosuid`, `ro` | private | [`attributes`] |

mod attributes;
mod devices;
mod directory;
mod error;
mod mounts;
mod namespace;
mod volumes;

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, atomic::Ordering},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use tokio::sync::{RwLock, watch};

use self::{
    directory::Directory,
    mounts::mount_id,
    namespace::{MountNamespace, Tree},
    volumes::Volume,
};
pub use self::{
    error::RootfsError,
    mounts::{MountConfig, unmount_leftovers},
};
use crate::{
    bundle::config::{Config, Source},
    digest::Digest,
    sys::MountRestriction,
};

/// Makes the process's mount namespace, which the first container needs. Blocks.
pub fn prepare() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        MountNamespace::of_process().map_err(|error| named(&error))?;
    }
    Ok(())
}

fn named(error: &io::Error) -> io::Error {
    let needs = "needs CAP_SYS_ADMIN and CAP_SYS_CHROOT";
    io::Error::new(error.kind(), format!("private mount namespace ({needs}): {error}"))
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
    /// The first field, hence dropped first: detaching it leaves the file systems to the descriptors.
    /// `None` for an ordinary user, who attaches nothing.
    _tree: Option<Tree>,
    /// `/` first, then directories that have no place in its tree.
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

impl Rootfs {
    /// Mounts everything. Blocks: call it on the blocking pool.
    pub fn mount(
        bundle: &Path,
        config: &Config,
        mounts: &[MountConfig],
    ) -> Result<Self, RootfsError> {
        let path = bundle.join(&config.root);
        let root = mounts::open_root(bundle, &path, mounts)?;
        let layers = Layers::of(mounts, &root);
        // The last one lies on top.
        let read_only = config.read_only || mounts.last().is_some_and(|mount| mount.has("ro"));
        let (sender, gone) = watch::channel(());
        let (tree, directories) = if rustix::process::geteuid().is_root() {
            let volumes = config.volumes.iter().map(|volume| Volume::open(bundle, volume));
            let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
            let (tree, directories) = attach(&path, root, volumes, read_only)?;
            (Some(tree), directories)
        } else {
            (None, beside(bundle, root, config, read_only)?)
        };
        let mounts = Mounts { _tree: tree, directories, _gone: sender };
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
        (mount_id(file)? == layers.mount).then_some(layers.digest)
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
        let preopen = self
            .preopens()
            .filter(|p| path.starts_with(p.path))
            .max_by_key(|p| p.path.as_os_str().len());
        let preopen = preopen.ok_or(io::ErrorKind::NotFound)?;
        let inner = path.strip_prefix(preopen.path).unwrap_or(path);
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&*preopen.directory, inner, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }
}

impl Layers {
    fn of(mounts: &[MountConfig], root: &OwnedFd) -> Option<Self> {
        let [only] = mounts else { return None };
        let lower = only.overlay_option("lowerdir")?;
        Some(Self { mount: mount_id(root)?, digest: Digest::of(lower.as_bytes()) })
    }
}

/// Attaches the root and its volumes in the private namespace. The directories are `/` and those that
/// have no place in its tree.
fn attach(
    path: &Path,
    root: OwnedFd,
    mut volumes: Vec<Volume<'_>>,
    read_only: bool,
) -> Result<(Tree, Vec<Directory>), RootfsError> {
    let failed = RootfsError::directory("root.path", path);
    let namespace = MountNamespace::of_process().map_err(|error| failed(named(&error)))?;
    let inside = namespace.enter().map_err(|error| failed(named(&error)))?;
    let tree = inside.attach_root(&root).map_err(&failed)?;
    let restrict_root = |read_only| {
        let restriction = MountRestriction { read_only, recursive: true };
        attributes::restrict(&inside, &root, restriction).map_err(&failed)
    };
    restrict_root(read_only && volumes.is_empty())?;
    for n in 0..volumes.len() {
        let (before, rest) = volumes.split_at_mut(n);
        // The place of one that lies in another is found when the other is there.
        if !before.iter().any(|other| rest[0].is_below(other)) {
            rest[0].make_place(&root)?;
        }
    }
    if read_only && !volumes.is_empty() {
        // After the places, before the volumes, which may be writable.
        restrict_root(true)?;
    }
    let mut beside = Vec::new();
    for volume in volumes {
        beside.extend(volume.attach(&inside, &root)?);
    }
    // The kernel refuses writes; an engine that did would refuse those to writable volumes in the tree.
    let mut directories = vec![Directory::new(PathBuf::from("/"), root, false)];
    directories.extend(beside);
    Ok((tree, directories))
}

/// The directories for an ordinary user (examples and tests), who attaches nothing and makes no file
/// systems.
fn beside(
    bundle: &Path,
    root: OwnedFd,
    config: &Config,
    read_only: bool,
) -> Result<Vec<Directory>, RootfsError> {
    let mut directories = vec![Directory::new(PathBuf::from("/"), root, read_only)];
    for volume in &config.volumes {
        if matches!(volume.source, Source::Bind { .. }) {
            directories.push(Volume::open(bundle, volume)?.beside()?);
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn config(bundle: &Path) -> Config {
        config_with(bundle, "")
    }

    fn config_with(bundle: &Path, mounts: &str) -> Config {
        let process = r#"{"user":{"uid":0,"gid":0},"cwd":"/","args":["/a"]}"#;
        let root = r#"{"path":"rootfs"}"#;
        let json = format!(
            r#"{{"ociVersion":"1.1.0","root":{root},"process":{process},"mounts":[{mounts}]}}"#
        );
        std::fs::write(bundle.join("config.json"), json).unwrap();
        std::fs::create_dir_all(bundle.join("rootfs")).unwrap();
        Config::load(bundle).unwrap()
    }

    fn bind(source: &str, destination: &str) -> String {
        let source = format!(r#""type":"bind","source":"{source}","options":["bind"]"#);
        format!(r#"{{"destination":"{destination}",{source}}}"#)
    }

    fn names_in(rootfs: &Rootfs, path: &str) -> Vec<String> {
        let directory = rootfs.open(Path::new(path)).unwrap();
        let entries = rustix::fs::Dir::read_from(directory).unwrap();
        let name = |entry: rustix::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }

    /// The mounts that the private namespace has of a source directory.
    fn attached(source: &Path) -> usize {
        let inside = MountNamespace::of_process().unwrap().enter().unwrap();
        let name = source.file_name().unwrap().to_str().unwrap();
        inside.mount_table().unwrap().lines().filter(|line| line.contains(name)).count()
    }

    #[test]
    fn volumes_nested_in_volumes_are_listed_by_their_parents() {
        let bundle = tempfile::tempdir().unwrap();
        let tmpfs = r#"{"destination":"/v","type":"tmpfs","source":"tmpfs"}"#;
        std::fs::create_dir(bundle.path().join("inner")).unwrap();
        std::fs::write(bundle.path().join("inner/f"), "inner").unwrap();
        std::fs::write(bundle.path().join("single"), "single").unwrap();
        let mounts = [tmpfs.to_owned(), bind("inner", "/v/inner"), bind("single", "/v/single")];
        let config = config_with(bundle.path(), &mounts.join(","));
        let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
        assert_eq!(names_in(&rootfs, "/"), ["v"]);
        assert_eq!(names_in(&rootfs, "/v"), ["inner", "single"]);
        assert_eq!(read(&rootfs, "/v/inner/f").unwrap(), "inner");
        assert_eq!(read(&rootfs, "/v/single").unwrap(), "single");
        assert_eq!(rootfs.preopens().count(), 1, "all of it is one tree");
        let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!host.contains(bundle.path().file_name().unwrap().to_str().unwrap()), "{host}");
    }

    #[tokio::test]
    async fn mounts_are_detached_with_their_container() {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::create_dir(bundle.path().join("data")).unwrap();
        let config = config_with(bundle.path(), &bind("data", "/data"));
        let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
        assert_eq!(attached(bundle.path()), 2);
        let mut gone = rootfs.gone();
        drop(rootfs);
        gone.wait().await;
        assert_eq!(attached(bundle.path()), 0);
        // A failed mount leaves nothing either: the place is below a file.
        std::fs::write(bundle.path().join("rootfs/file"), "").unwrap();
        let mounts = [bind("data", "/data"), bind("data", "/file/below")].join(",");
        let config = config_with(bundle.path(), &mounts);
        let error = Rootfs::mount(bundle.path(), &config, &[]).unwrap_err().to_string();
        assert!(error.starts_with("mounts: /file/below: "), "{error}");
        assert_eq!(attached(bundle.path()), 0);
    }

    #[test]
    fn places_behind_links_and_dots_are_made_inside_the_tree() {
        let bundle = tempfile::tempdir().unwrap();
        let root = bundle.path().join("rootfs");
        std::fs::create_dir_all(root.join("etc")).unwrap();
        let link = std::os::unix::fs::symlink::<&str, _>;
        link("../run/stub/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        link("/nowhere/yet", root.join("absolute")).unwrap();
        link("around", root.join("round")).unwrap();
        link("round", root.join("around")).unwrap();
        std::fs::write(bundle.path().join("file"), "mounted").unwrap();
        for (destination, place) in [
            ("/etc/resolv.conf", "run/stub/resolv.conf"),
            ("/absolute/deep", "nowhere/yet/deep"),
            ("/a/../t", "t"),
        ] {
            let config = config_with(bundle.path(), &bind("file", destination));
            let rootfs = Rootfs::mount(bundle.path(), &config, &[]).unwrap();
            assert_eq!(read(&rootfs, &format!("/{place}")).unwrap(), "mounted", "{destination}");
            assert!(root.join(place).is_file(), "{destination}");
        }
        assert!(!root.join("a").exists());
        let config = config_with(bundle.path(), &bind("file", "/round/f"));
        let error = Rootfs::mount(bundle.path(), &config, &[]).unwrap_err().to_string();
        assert!(error.contains("/round/f") && error.contains("Too many levels"), "{error}");
    }

    #[test]
    fn a_thread_is_where_it_was_after_a_mount() {
        let bundle = tempfile::tempdir().unwrap();
        let config = config(bundle.path());
        let place = || {
            let namespace = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
            let root = std::fs::read_link("/proc/thread-self/root").unwrap();
            (namespace, root, std::env::current_dir().unwrap())
        };
        let before = place();
        drop(Rootfs::mount(bundle.path(), &config, &[]).unwrap());
        assert_eq!(place(), before);
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
        let layers: Vec<_> =
            (0..6).map(|i| bundle.path().join(format!("layer-{i}-{}", "x".repeat(60)))).collect();
        for (i, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(layer.join(format!("f{i}")), format!("{i}")).unwrap();
        }
        std::fs::create_dir(bundle.path().join("upper")).unwrap();
        std::fs::create_dir(bundle.path().join("work")).unwrap();
        let lower =
            layers.iter().map(|layer| layer.to_str().unwrap()).collect::<Vec<_>>().join(":");
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
