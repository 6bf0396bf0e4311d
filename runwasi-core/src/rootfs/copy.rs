//! Detached copies of the host's mounts, for the root file system and for volumes.

use std::{cell::OnceCell, io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    mount::{OpenTreeFlags, open_tree},
};

use super::{
    following::Following,
    interfaces,
    mount_table::{Entry, MountTable},
};
use crate::bundle::mount_options::Propagation;

/// A detached copy of a mount.
pub(super) struct Copy {
    pub(super) mount: OwnedFd,
    /// True if mounts of the host may lie below it. Kernel interfaces among them have to go.
    pub(super) has_mounts: bool,
    /// Mounts of the host that are taken over below it. Then the copy itself has no mount below it.
    pub(super) following: Option<Following>,
}

impl Copy {
    /// A copy without any mount below it.
    pub(super) fn single(mount: OwnedFd) -> Self {
        Self { mount, has_mounts: false, following: None }
    }
}

/// The host's mount table, read when the first recursive bind of a container asks for it.
#[derive(Default)]
pub(super) struct HostMounts(OnceCell<Option<MountTable>>);

impl HostMounts {
    /// The mounts below a directory. No result if they are unknown.
    pub(super) fn below(&self, directory: &Path) -> Option<Vec<&Entry>> {
        // The table has the paths of the kernel, without symbolic links.
        let directory = directory.canonicalize().ok()?;
        let table = self.0.get_or_init(|| MountTable::of_host().ok()).as_ref()?;
        Some(table.inside(&directory))
    }
}

/// Copies a directory of the host, with the mounts below it if `recursive`. Refuses a kernel
/// interface.
pub(super) fn copy_directory(
    path: &Path,
    recursive: bool,
    propagation: Propagation,
    host: &HostMounts,
) -> io::Result<Copy> {
    if let Propagation::Slave { recursive: deep } = propagation
        && rustix::process::geteuid().is_root()
    {
        let (following, mount) = Following::open(path, clone_tree(path, recursive)?, deep)?;
        refuse_interface(&mount)?;
        return Ok(Copy { mount, has_mounts: false, following: Some(following) });
    }
    // Not recursive if there is nothing below: then the copy needs no look for interfaces, also if
    // the host mounts one just now.
    let has_mounts = recursive && host.below(path).is_none_or(|found| !found.is_empty());
    let mount = clone_tree(path, has_mounts)?;
    refuse_interface(&mount)?;
    Ok(Copy { mount, has_mounts, following: None })
}

fn refuse_interface(mount: &OwnedFd) -> io::Result<()> {
    // Asked of the copy: the path may lead to another mount by now.
    if interfaces::is_interface(mount)? {
        let reason = "is a kernel interface of the host, which no guest gets";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(())
}

/// Clones the mount at `path`, and the mounts below it if `recursive`, as a detached tree.
pub(super) fn clone_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    match open_tree(CWD, path, flags) {
        Ok(tree) => Ok(tree),
        // An ordinary user (examples and tests) gets the directory itself.
        Err(rustix::io::Errno::PERM) if !rustix::process::geteuid().is_root() => {
            Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}
