//! Attributes of a guest's mounts: `nodev`, `nosuid`, private propagation and, on request, `ro`.
//!
//! `mount_setattr(2)` sets them for a whole tree of mounts. Linux 5.10 and 5.11 lack this system
//! call: there, each mount of the tree is remounted separately.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount},
};

use super::{
    mounts::{mount_flag, mount_id},
    namespace::Inside,
};
use crate::sys::{self, MountRestriction};

/// Restricts an attached mount.
pub(super) fn restrict(
    inside: &Inside,
    mount: &OwnedFd,
    restriction: MountRestriction,
) -> io::Result<()> {
    match sys::restrict_mount(mount, restriction) {
        // Linux before 5.12.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
            remount_tree(inside, mount, restriction)
        }
        result => result,
    }
}

fn remount_tree(inside: &Inside, mount: &OwnedFd, restriction: MountRestriction) -> io::Result<()> {
    let id = mount_id(mount).ok_or(io::ErrorKind::Unsupported)?;
    let table = MountTable::parse(&inside.mount_table()?);
    let top = table.get(id).ok_or(io::ErrorKind::NotFound)?;
    remount(inside, mount, top, restriction)?;
    if !restriction.recursive {
        return Ok(());
    }
    for entry in table.below(id) {
        if table.is_covered(entry) {
            // No path reaches a covered mount, and no guest can uncover it.
            continue;
        }
        // The path must resolve to this mount itself, not through a link to another one.
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = entry.path.strip_prefix("/").unwrap_or(&entry.path);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = openat2(inside.root(), path, flags, Mode::empty(), resolve)?;
        // The path comes from a table read earlier, so the mount there may be another one by now.
        if mount_id(&opened) != Some(entry.id) {
            let moved = format!("the mount at {} has moved", entry.path.display());
            return Err(io::Error::other(moved));
        }
        remount(inside, &opened, entry, restriction)?;
    }
    Ok(())
}

/// Adds the restriction to the flags of one mount.
fn remount(
    inside: &Inside,
    mount: impl AsFd,
    entry: &Entry,
    restriction: MountRestriction,
) -> io::Result<()> {
    // A remount replaces all flags, so the present ones are passed again. `BIND` limits it to this
    // mount; without it the remount would change the whole file system.
    let mut flags = entry.flags | MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID;
    flags
        .set(MountFlags::RDONLY, restriction.read_only || entry.flags.contains(MountFlags::RDONLY));
    inside.with_path(mount, |path| {
        mount_change(path, MountPropagationFlags::PRIVATE)?;
        Ok(mount_remount(path, flags, "")?)
    })
}

/// Mounts of a namespace, parsed from `proc_pid_mountinfo(5)`.
struct MountTable(Vec<Entry>);

struct Entry {
    id: u64,
    parent: u64,
    path: PathBuf,
    flags: MountFlags,
}

impl MountTable {
    fn parse(table: &str) -> Self {
        Self(table.lines().filter_map(Entry::parse).collect())
    }

    fn get(&self, id: u64) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.id == id)
    }

    /// All mounts below a mount, at any depth.
    fn below(&self, id: u64) -> Vec<&Entry> {
        let mut found: Vec<&Entry> = Vec::new();
        let mut parents = vec![id];
        while let Some(parent) = parents.pop() {
            let children = self.0.iter().filter(|entry| entry.parent == parent);
            for child in children {
                parents.push(child.id);
                found.push(child);
            }
        }
        found
    }

    /// True if another mount lies on the root of this one.
    fn is_covered(&self, entry: &Entry) -> bool {
        self.0.iter().any(|other| other.parent == entry.id && other.path == entry.path)
    }
}

impl Entry {
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        // Optional fields of variable number follow; nothing here needs them.
        let [id, parent, _device, _root, path, options, ..] = fields[..] else { return None };
        let flags = options.split(',').filter_map(mount_flag);
        Some(Self {
            id: id.parse().ok()?,
            parent: parent.parse().ok()?,
            path: unescape(path),
            flags: flags.fold(MountFlags::empty(), |all, one| all | one),
        })
    }
}

/// Decodes a path of the mount table.
pub(super) fn unescape(path: &str) -> PathBuf {
    // The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if first == b'\\' => {
                bytes.push(code);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::{
        fs::{StatVfsMountFlags, fstatvfs, openat},
        mount::{UnmountFlags, mount, mount_bind, unmount},
    };

    use super::*;
    use crate::rootfs::{mounts::clone_tree, namespace::MountNamespace};

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
        let restriction = MountRestriction { read_only: false, recursive: true };
        remount_tree(&inside, &tree, restriction).unwrap();
        let of = |name: &str| {
            let opened = openat(&tree, name, OFlags::PATH, Mode::empty()).unwrap();
            fstatvfs(opened).unwrap().f_flag
        };
        let restricted = StatVfsMountFlags::NODEV | StatVfsMountFlags::NOSUID;
        assert!([".", "a b", "read-only"].iter().all(|name| of(name).contains(restricted)));
        assert!(of("a b").contains(StatVfsMountFlags::NOEXEC));
        assert!(!of("a b").contains(StatVfsMountFlags::RDONLY));
        assert!(of("read-only").contains(StatVfsMountFlags::RDONLY));

        let read_only = MountRestriction { read_only: true, recursive: true };
        remount_tree(&inside, &tree, read_only).unwrap();
        assert!(of("a b").contains(StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOEXEC));
        drop(inside);
        drop(attached);
        // The host's own mounts are unchanged.
        fs::write(inner.join("new"), "x").unwrap();
    }

    #[test]
    fn escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(r"/a\040b\134c"), PathBuf::from(r"/a b\c"));
        assert_eq!(unescape(r"/a\04"), PathBuf::from(r"/a\04"));
    }
}
