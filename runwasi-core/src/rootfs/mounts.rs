//! The mounts of containerd's `Create`, which form the root file system. The host's mount table
//! keeps no entry of them.

use std::{
    ffi::CString,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, unmount,
};

use super::{
    copy::{Copy, HostMounts, clone_tree, copy_directory},
    error::RootfsError,
    options::mount_flag,
};
use crate::{
    bundle::mount_options::Propagation,
    sys::{self, LoopDevice},
};

/// Directory in the bundle. A file system that the kernel cannot create detached is mounted here
/// for an instant.
const MOUNT_POINT: &str = "rootfs";

/// Option of a source that is a file with a file system in it, as the snapshotter `blockfile` has.
const LOOP: &str = "loop";

/// The kernel's limit for one string of `fsconfig(2)`, including its NUL.
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

impl MountConfig {
    pub(super) fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// The value of an option `KEY=VALUE` of an overlay.
    pub(super) fn overlay_option(&self, key: &str) -> Option<&str> {
        let value = |option: &'_ String| option.strip_prefix(key)?.strip_prefix('=').map(str::len);
        let option = self.options.iter().find(|option| value(option).is_some())?;
        (self.kind == "overlay").then(|| &option[key.len() + 1..])
    }

    fn failed(&self, source: io::Error) -> RootfsError {
        let options = self.options.join(",");
        let source_path = self.source.clone();
        RootfsError::Mount { kind: self.kind.clone(), source_path, options, source }
    }
}

/// Opens the root file system as a detached mount. `path` is `root.path` of `config.json`.
pub(super) fn open_root(
    bundle: &Path,
    path: &Path,
    mounts: &[MountConfig],
    propagation: Propagation,
    host: &HostMounts,
) -> Result<Copy, RootfsError> {
    // Independent of `root.path`: containerd's own shims mount here, and `delete` looks here.
    let target = bundle.join(MOUNT_POINT);
    match mounts {
        [] => copy_directory(path, true, propagation, host)
            .map_err(RootfsError::directory("root.path", path)),
        [only] => mount_detached(only, &target, propagation, host),
        several => attach_and_clone(several, &target),
    }
}

/// Opens one mount without an entry in the mount table if the kernel can, else with one for an
/// instant.
fn mount_detached(
    config: &MountConfig,
    target: &Path,
    propagation: Propagation,
    host: &HostMounts,
) -> Result<Copy, RootfsError> {
    if config.kind == "bind" || config.has("bind") || config.has("rbind") {
        let source = Path::new(&config.source);
        let copy = copy_directory(source, config.has("rbind"), propagation, host);
        return copy.map_err(|source| config.failed(source));
    }
    let detached = match config.kind.as_str() {
        "overlay" => overlay(config),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    // The attempt with `mount(2)` also yields the error that users know.
    detached.map(Copy::single).or_else(|_| attach_and_clone(std::slice::from_ref(config), target))
}

/// Makes an overlay as a detached mount.
pub(super) fn overlay(config: &MountConfig) -> io::Result<OwnedFd> {
    match config.overlay_option("lowerdir") {
        Some(layers) if layers.len() >= FSCONFIG_STRING => {
            overlay_of_single_layers(config).or_else(|_| overlay_of_relative_layers(config, layers))
        }
        _ => make_overlay(config, |context, layers| {
            Ok(fsconfig_set_string(context, "lowerdir", layers)?)
        }),
    }
}

/// Passes layer by layer, so that their list may have any length. Needs Linux 6.5.
fn overlay_of_single_layers(config: &MountConfig) -> io::Result<OwnedFd> {
    make_overlay(config, |context, layers| {
        if layers.contains('\\') {
            // `lowerdir+` has other rules for escaped colons and backslashes.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let add = |layer| fsconfig_set_string(context.as_fd(), "lowerdir+", layer);
        Ok(layers.split(':').try_for_each(add)?)
    })
}

/// Passes the layers relative to their common directory, as containerd itself shortens the option.
fn overlay_of_relative_layers(config: &MountConfig, layers: &str) -> io::Result<OwnedFd> {
    let directory = common_directory(layers).ok_or(io::ErrorKind::Unsupported)?;
    let prefix = format!("{}/", directory.display());
    let relative: Vec<_> =
        layers.split(':').filter_map(|layer| layer.strip_prefix(&prefix)).collect();
    let relative = relative.join(":");
    // The kernel resolves relative layers against the working directory of the calling thread.
    sys::in_directory(&directory, || {
        make_overlay(config, |context, _| Ok(fsconfig_set_string(context, "lowerdir", &*relative)?))
    })
}

/// The deepest directory that contains all layers, unless it is the root.
fn common_directory(layers: &str) -> Option<PathBuf> {
    let mut layers = layers.split(':').map(Path::new);
    let mut common = layers.next()?.parent()?;
    for layer in layers {
        while !layer.parent()?.starts_with(common) {
            common = common.parent()?;
        }
    }
    common.parent().is_some().then(|| common.to_owned())
}

fn make_overlay(
    config: &MountConfig,
    set_layers: impl Fn(std::os::fd::BorrowedFd<'_>, &str) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "overlay")?;
    for option in &config.options {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => set_layers(context.as_fd(), layers)?,
            Some((key, value)) => fsconfig_set_string(context.as_fd(), key, value)?,
            // A flag of the mount and no option of the file system; `ro` is set below.
            None if mount_flag(option).is_some() => {}
            None => fsconfig_set_flag(context.as_fd(), option.as_str())?,
        }
    }
    fsconfig_create(context.as_fd())?;
    let read_only = config.has("ro");
    let mut attributes = MountAttrFlags::empty();
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Mounts on `target`, clones the tree and unmounts at once: the mount table has the mounts only
/// for an instant. `delete` cleans up after a crash in that instant.
fn attach_and_clone(mounts: &[MountConfig], target: &Path) -> Result<Copy, RootfsError> {
    let mut attached = Attached { target, count: 0 };
    for config in mounts {
        attach(config, target).map_err(|source| config.failed(source))?;
        attached.count += 1;
    }
    let tree = clone_tree(target, true).map_err(RootfsError::directory("rootfs", target));
    // Unmounts, but not before the clone, which holds the file systems from here on.
    drop(attached);
    // A recursive bind among them has brought mounts of the host along.
    let has_mounts = mounts.iter().any(|mount| mount.has("rbind"));
    // No path of the host leads to what was mounted, so nothing can be mounted below it later.
    Ok(Copy { mount: tree?, has_mounts, following: None })
}

/// Number of mounts stacked on `target`. Dropping it unmounts all of them, also after an error.
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
    for option in config.options.iter().filter(|option| *option != LOOP) {
        match mount_flag(option) {
            Some(flag) => flags |= flag,
            None => data.push(option.as_str()),
        }
    }
    let data = CString::new(data.join(","))?;
    let device = config.has(LOOP).then(|| {
        let device = LoopDevice::of(Path::new(&config.source), config.has("ro"));
        device.map_err(|error| io::Error::new(error.kind(), format!("loop device: {error}")))
    });
    // Open until the end of the mount, which then keeps the device.
    let device = device.transpose()?;
    let source = device.as_ref().map_or(Path::new(&config.source), LoopDevice::path);
    Ok(mount(source, target, config.kind.as_str(), flags, data.as_c_str())?)
}

/// Unmounts all mounts that a crash may have left on `<bundle>/rootfs`. Does nothing without
/// mounts.
pub fn unmount_leftovers(bundle: &Path) {
    let target = bundle.join(MOUNT_POINT);
    // Mounts may be stacked, so until the first error (EINVAL, ENOENT): then no mount is left.
    while unmount(&target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, openat};

    use super::*;

    #[test]
    fn layers_are_relative_to_the_deepest_common_directory() {
        let common = |layers: &str| common_directory(layers);
        assert_eq!(common("/a/b/1/fs:/a/b/2/fs"), Some("/a/b".into()));
        assert_eq!(common("/a/b/fs:/a/bc/fs"), Some("/a".into()));
        assert_eq!(common("/a/fs:/b/fs"), None);
    }

    #[test]
    fn options_of_an_overlay_are_found_by_their_whole_key() {
        let options = vec!["lowerdir+=/x".to_owned(), "lowerdir=/a:/b".to_owned()];
        let config = MountConfig { kind: "overlay".into(), source: "overlay".into(), options };
        assert_eq!(config.overlay_option("lowerdir"), Some("/a:/b"));
        assert_eq!(config.overlay_option("upperdir"), None);
    }

    #[test]
    fn overlay_of_relative_layers_shows_all_of_them() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let directory = tempfile::tempdir().unwrap();
        let layers: Vec<_> =
            (0..3).map(|n| directory.path().join(format!("layer-{n}/fs"))).collect();
        for (n, layer) in layers.iter().enumerate() {
            std::fs::create_dir_all(layer).unwrap();
            std::fs::write(layer.join(format!("f{n}")), "").unwrap();
        }
        let lower =
            layers.iter().map(|layer| layer.to_str().unwrap()).collect::<Vec<_>>().join(":");
        let options = vec![format!("lowerdir={lower}")];
        let config = MountConfig { kind: "overlay".into(), source: "overlay".into(), options };
        let before = std::env::current_dir().unwrap();
        let made = overlay_of_relative_layers(&config, &lower).unwrap();
        assert_eq!(std::env::current_dir().unwrap(), before);
        for n in 0..3 {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            openat(&made, format!("f{n}"), flags, Mode::empty()).unwrap();
        }
    }
}
