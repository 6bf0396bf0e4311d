//! Attributes of a guest's mounts: `nodev`, `nosuid`, private propagation, and those of its
//! options.
//!
//! `mount_setattr(2)` sets them for a whole tree of mounts. Linux 5.10 and 5.11 lack this system
//! call: there, each mount of the tree is remounted separately.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, mount_change, mount_remount,
};

use super::{
    mount_table::{Entry, MountTable, mount_id},
    namespace::Inside,
};
use crate::sys::{self, MountAttributes, MountChange};

/// Changes an attached mount.
pub(super) fn change(inside: &Inside, mount: &OwnedFd, change: MountChange) -> io::Result<()> {
    match sys::change_mount(mount, change) {
        // Linux before 5.12.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            remount_tree(inside, mount, change)
        }
        result => result,
    }
}

pub(super) fn remount_tree(
    inside: &Inside,
    mount: &OwnedFd,
    change: MountChange,
) -> io::Result<()> {
    let id = mount_id(mount).ok_or(io::ErrorKind::Unsupported)?;
    let table = MountTable::parse(&inside.mount_table()?);
    let top = table.get(id).ok_or(io::ErrorKind::NotFound)?;
    if change.private {
        let mut propagation = MountPropagationFlags::PRIVATE;
        // In one call for the whole tree, hence also for the mounts that no path reaches: an
        // unmount in a tree that is still shared would reach the host's own mounts.
        propagation.set(MountPropagationFlags::REC, change.recursive);
        inside.with_path(mount, |path| Ok(mount_change(path, propagation)?))?;
    }
    remount(inside, mount, top, change.attributes)?;
    if !change.recursive {
        return Ok(());
    }
    for entry in table.below(id) {
        // No path reaches a hidden mount, and no guest can uncover it.
        if !table.is_hidden(entry) {
            remount(inside, entry.open(inside)?, entry, change.attributes)?;
        }
    }
    Ok(())
}

/// Changes the flags of one mount.
fn remount(
    inside: &Inside,
    mount: impl AsFd,
    entry: &Entry,
    attributes: MountAttributes,
) -> io::Result<()> {
    // A remount replaces all flags, so the present ones are passed again. `BIND` limits it to this
    // mount; without it the remount would change the whole file system.
    let kept = entry.flags.difference(flags(attributes.clear));
    let flags = kept | flags(attributes.set) | MountFlags::BIND;
    inside.with_path(mount, |path| Ok(mount_remount(path, flags, "")?))
}

/// The flags of `mount(2)` for attributes of `mount_setattr(2)`.
fn flags(attributes: MountAttrFlags) -> MountFlags {
    let pairs = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (MountAttrFlags::MOUNT_ATTR_STRICTATIME, MountFlags::STRICTATIME),
        (MountAttrFlags::MOUNT_ATTR_NODIRATIME, MountFlags::NODIRATIME),
        (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, MountFlags::NOSYMFOLLOW),
        // All ways to note accesses together: `relatime` is the one without a bit of its own.
        (MountAttrFlags::MOUNT_ATTR__ATIME, MountFlags::RELATIME),
    ];
    let found = pairs.iter().filter(|(attribute, _)| attributes.contains(*attribute));
    found.fold(MountFlags::empty(), |all, (_, flag)| all | *flag)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use rustix::{
        fs::{Mode, OFlags, StatVfsMountFlags, fstatvfs, openat},
        mount::{UnmountFlags, mount, mount_bind, unmount},
    };

    use super::*;
    use crate::rootfs::{copy::clone_tree, namespace::MountNamespace};

    /// Unmounts on drop, hence also after a failed assertion.
    struct Mounted(PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }

    #[test]
    fn each_mount_of_a_tree_is_remounted_and_keeps_its_own_flags() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("a b");
        let read_only = directory.path().join("read-only");
        for made in [&inner, &read_only] {
            fs::create_dir(made).unwrap();
        }
        mount("tmpfs", &inner, "tmpfs", MountFlags::NOEXEC, None).unwrap();
        let _inner = Mounted(inner.clone());
        mount_bind(&inner, &read_only).unwrap();
        let _read_only = Mounted(read_only.clone());
        let flags = MountFlags::BIND | MountFlags::RDONLY;
        mount_remount(&read_only, flags, "").unwrap();

        let tree = clone_tree(directory.path(), true).unwrap();
        let inside = MountNamespace::of_process().unwrap().enter().unwrap();
        let attached = inside.attach_root(&tree).unwrap();
        remount_tree(&inside, &tree, MountChange::RESTRICTED).unwrap();
        let of = |name: &str| {
            let opened = openat(&tree, name, OFlags::PATH, Mode::empty()).unwrap();
            fstatvfs(opened).unwrap().f_flag
        };
        let restricted = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
        assert!([".", "a b", "read-only"].iter().all(|name| of(name).contains(restricted)));
        assert!(of("a b").contains(StatVfsMountFlags::NOEXEC));
        assert!(!of("a b").contains(StatVfsMountFlags::RDONLY));
        assert!(of("read-only").contains(StatVfsMountFlags::RDONLY));

        let read_only = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
        let read_only = MountChange::RESTRICTED.with(read_only);
        remount_tree(&inside, &tree, read_only).unwrap();
        assert!(of("a b").contains(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC));
        drop(inside);
        drop(attached);
        // The host's own mounts are unchanged.
        fs::write(inner.join("new"), "x").unwrap();
    }
}
