//! Kernel interfaces of the host, which no guest gets: neither as a volume nor as a mount below
//! one.
//!
//! A recursive bind brings the mounts below its source along. Those of kernel interfaces are taken
//! out of the container's copy of the tree before its guest runs:
//!
//! ```text
//! clone the tree ─▶ attach it in the private namespace ─▶ make it private ─▶ take interfaces out
//! ```
//!
//! The finished copy is looked at and not the host's mounts, which may change at any time. It is
//! private by then: an unmount in a shared tree would reach the host's own mounts.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::fstatfs,
    mount::{UnmountFlags, unmount},
};

use super::{
    mount_table::{Entry, MountTable, mount_id},
    namespace::Inside,
};
use crate::sanitize;

/// A kind of file system: its name in a mount table, and its magic number (`linux/magic.h`).
type Kind = (&'static str, i64);

/// File systems that are interfaces to the host's kernel.
// Without devtmpfs: it has the number of a tmpfs, and `nodev` makes plain files of its nodes.
const INTERFACES: [Kind; 17] = [
    ("proc", 0x9fa0),
    ("sysfs", 0x6265_6572),
    ("cgroup", 0x0027_e0eb),
    ("cgroup2", 0x6367_7270),
    ("mqueue", 0x1980_0202),
    ("devpts", 0x1cd1),
    ("debugfs", 0x6462_6720),
    ("tracefs", 0x7472_6163),
    ("securityfs", 0x7363_6673),
    ("bpf", 0xcafe_4a11),
    ("binfmt_misc", 0x4249_4e4d),
    ("configfs", 0x6265_6570),
    ("efivarfs", 0xde5e_81e4),
    ("fusectl", 0x6573_5543),
    ("pstore", 0x6165_676c),
    ("resctrl", 0x0765_5821),
    ("selinuxfs", 0xf97c_ff8c),
];

/// Times that a tree is looked at. Each look takes out what it finds; further ones find what lay
/// below that, or what the host has moved meanwhile.
const LOOKS: usize = 8;

/// A mount that was taken out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Name of the file system.
    pub(super) kind: String,
    /// Its place below the top of the tree, or in the container.
    pub(super) place: PathBuf,
}

impl LeftOut {
    /// The same with its place in the container.
    pub(super) fn below(self, destination: &Path) -> Self {
        Self { place: destination.join(self.place), ..self }
    }
}

/// Warns of mounts that a container does not get. `bundle` has its id as its name.
pub(super) fn warn(bundle: &Path, left_out: &[LeftOut]) {
    if left_out.is_empty() {
        return;
    }
    let name = |one: &LeftOut| format!("{:?} ({})", one.place, one.kind);
    let names: Vec<String> = left_out.iter().map(name).collect();
    let container = bundle.file_name().unwrap_or_default().to_string_lossy();
    // Shortened: a host may have any number of them.
    let names = sanitize::text(&names.join(", "));
    tracing::warn!(
        %container,
        "kernel interfaces of the host are left out of the mounts of the container: {names}"
    );
}

/// True if a mount is a kernel interface itself.
pub(super) fn is_interface(mount: impl AsFd) -> io::Result<bool> {
    let kind = fstatfs(mount)?.f_type;
    Ok(INTERFACES.iter().any(|(_, magic)| *magic == kind))
}

/// Takes the kernel interfaces below an attached and private mount out of its tree.
pub(super) fn leave_out(inside: &Inside, mount: &OwnedFd) -> io::Result<Vec<LeftOut>> {
    take_out(inside, mount, |entry| is_interface_name(&entry.kind))
}

/// Takes mounts below an attached and private mount out of its tree.
pub(super) fn take_out(
    inside: &Inside,
    mount: &OwnedFd,
    is_meant: impl Fn(&Entry) -> bool,
) -> io::Result<Vec<LeftOut>> {
    let top = mount_id(mount).ok_or(io::ErrorKind::Unsupported)?;
    let mut left_out = Vec::new();
    for _ in 0..LOOKS {
        let table = MountTable::parse(&inside.mount_table()?);
        let found = reachable(&table, top, &is_meant);
        if found.is_empty() {
            return Ok(left_out);
        }
        let root = table.get(top).map_or(Path::new("/"), |entry| &entry.path);
        for entry in found {
            // An error: it went with the mount that carried it, or its directory was renamed on
            // the host. The next look tells which.
            if detach(inside, entry).is_ok() {
                let place = entry.path.strip_prefix(root).unwrap_or(&entry.path).to_owned();
                left_out.push(LeftOut { kind: entry.kind.clone(), place });
            }
        }
    }
    let reason = "a kernel interface of the host is mounted below it and cannot be left out";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, reason))
}

/// True if a file system of this name is a kernel interface.
pub(super) fn is_interface_name(kind: &str) -> bool {
    INTERFACES.iter().any(|(name, _)| *name == kind)
}

/// The mounts below another that a path reaches.
fn reachable(table: &MountTable, top: u64, is_meant: impl Fn(&Entry) -> bool) -> Vec<&Entry> {
    let mut found = table.below(top);
    found.retain(|entry| is_meant(entry) && !table.is_hidden(entry));
    found
}

/// Unmounts a mount with all that lies on it.
fn detach(inside: &Inside, entry: &Entry) -> io::Result<()> {
    let opened = entry.open(inside)?;
    inside.with_path(&opened, |path| Ok(unmount(path, UnmountFlags::DETACH)?))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use rustix::{
        fs::statfs,
        mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    };

    use super::*;
    use crate::{
        rootfs::{
            attributes::{change, remount_tree},
            copy::clone_tree,
            namespace::MountNamespace,
        },
        sys::MountChange,
    };

    /// Mounts on drop gone, hence also after a failed assertion.
    struct Mounted(PathBuf);

    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = unmount(&self.0, UnmountFlags::DETACH);
        }
    }

    fn mounted(kind: &str, place: &Path) -> Mounted {
        fs::create_dir_all(place).unwrap();
        mount(kind, place, kind, MountFlags::empty(), None).unwrap();
        Mounted(place.to_owned())
    }

    #[test]
    fn numbers_are_those_of_the_mounted_interfaces() {
        let visible = || {
            let table = MountTable::of_host().unwrap();
            let mut mounted = table.inside(Path::new("/"));
            mounted.retain(|entry| !table.is_hidden(entry));
            mounted
                .iter()
                .map(|one| (one.id, one.path.clone(), one.kind.clone()))
                .collect::<Vec<_>>()
        };
        let magic_at = |path: &Path| statfs(path).map(|found| found.f_type);
        let mounted = visible();
        let magics: Vec<_> = mounted.iter().map(|(_, path, _)| magic_at(path)).collect();
        // Others mount and unmount meanwhile.
        let still = visible();
        let mut seen = 0;
        for (mount, magic) in mounted.iter().zip(magics).filter(|(mount, _)| still.contains(mount))
        {
            let (_, _, kind) = mount;
            if let Some((name, expected)) = INTERFACES.iter().find(|(name, _)| name == kind) {
                // An error: the path is not within reach.
                assert_eq!(magic.unwrap_or(*expected), *expected, "{name}");
                seen += 1;
            }
        }
        assert!(seen > 0, "not even a procfs is mounted");
    }

    fn reachable_interfaces(table: &MountTable, top: u64) -> Vec<&Entry> {
        reachable(table, top, |entry| is_interface_name(&entry.kind))
    }

    /// A mount table of a tree with one mount of each kind below its top.
    fn table_of(kinds: &[&str]) -> MountTable {
        let mut text = "10 1 0:1 / /t rw - tmpfs tmpfs rw\n".to_owned();
        for (number, kind) in kinds.iter().enumerate() {
            let id = 11 + number;
            text += &format!("{id} 10 0:{id} / /t/{kind} rw - {kind} {kind} rw\n");
        }
        MountTable::parse(text.as_bytes())
    }

    #[test]
    fn every_kernel_interface_below_a_tree_is_found() {
        let interfaces = [
            "proc",
            "sysfs",
            "cgroup",
            "cgroup2",
            "mqueue",
            "devpts",
            "debugfs",
            "tracefs",
            "securityfs",
            "bpf",
            "binfmt_misc",
            "configfs",
            "efivarfs",
            "fusectl",
            "pstore",
            "resctrl",
            "selinuxfs",
        ];
        let table = table_of(&interfaces);
        let mut found: Vec<_> =
            reachable_interfaces(&table, 10).iter().map(|entry| entry.kind.as_str()).collect();
        found.sort_unstable();
        let mut wanted = interfaces;
        wanted.sort_unstable();
        assert_eq!(found, wanted);
        // File systems for data come along.
        let data =
            table_of(&["tmpfs", "ext4", "overlay", "xfs", "nfs4", "fuse.sshfs", "hugetlbfs"]);
        assert!(reachable_interfaces(&data, 10).is_empty());
    }

    /// Both ways of making a tree private.
    #[test]
    fn interfaces_go_from_the_copy_and_stay_on_the_host() {
        assert!(rustix::process::geteuid().is_root(), "this test mounts and must run as root");
        for make_private in [change, remount_tree] {
            let directory = tempfile::tempdir().unwrap();
            // Shared, as systemd makes all mounts of a host.
            let top = mounted("tmpfs", directory.path());
            mount_change(&top.0, MountPropagationFlags::SHARED).unwrap();
            let _proc = mounted("proc", &top.0.join("a b/proc"));
            let _data = mounted("tmpfs", &top.0.join("data"));
            fs::write(top.0.join("data/f"), "kept").unwrap();
            let _below = mounted("proc", &top.0.join("data/proc"));
            // Two at one place, the lower one covered by a harmless mount.
            let _covered = mounted("proc", &top.0.join("covered"));
            let _cover = mounted("tmpfs", &top.0.join("covered"));
            let _first = mounted("proc", &top.0.join("twice"));
            let _second = mounted("proc", &top.0.join("twice"));

            let tree = clone_tree(&top.0, true).unwrap();
            let inside = MountNamespace::of_process().unwrap().enter().unwrap();
            let attached = inside.attach_root(&tree).unwrap();
            make_private(&inside, &tree, MountChange::RESTRICTED).unwrap();
            let mut left_out = leave_out(&inside, &tree).unwrap();
            left_out.sort_by(|a, b| a.place.cmp(&b.place));
            let places: Vec<_> = left_out.iter().map(|one| one.place.to_str().unwrap()).collect();
            assert_eq!(places, ["a b/proc", "data/proc", "twice", "twice"]);
            assert!(left_out.iter().all(|one| one.kind == "proc"));
            let is_interface_at = |place: &str| {
                let flags = rustix::fs::OFlags::PATH;
                let opened = rustix::fs::openat(&tree, place, flags, rustix::fs::Mode::empty());
                is_interface(opened.unwrap()).unwrap()
            };
            for place in ["a b/proc", "data/proc", "covered", "twice"] {
                assert!(!is_interface_at(place), "{place}");
            }
            let kept = rustix::fs::OFlags::RDONLY;
            rustix::fs::openat(&tree, "data/f", kept, rustix::fs::Mode::empty()).unwrap();
            drop(inside);
            drop(attached);
            // The host's own mounts are all there, also those that no path of the copy reached.
            let host = MountTable::of_host().unwrap();
            let mut of_host = host.inside(&top.0);
            of_host.retain(|entry| entry.kind == "proc");
            assert_eq!(of_host.len(), 5, "an unmount has reached the host");
        }
    }
}
