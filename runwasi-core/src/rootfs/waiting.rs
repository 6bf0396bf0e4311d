//! File systems whose calls may wait for more than a local disk: for the server of a FUSE or
//! network file system, which may never answer.

use std::{os::fd::AsFd, path::Path};

use rustix::fs::{StatFs, fstatfs, statfs};

use super::{mount_table::Entry, mounts::MountConfig};

/// File systems that this kernel serves from a local disk or from memory, by their magic numbers
/// (`statfs(2)`). All others may wait, those that are not known here, too.
const LOCAL: [u64; 14] = [
    EXT, XFS, BTRFS, TMPFS, RAMFS, F2FS, SQUASHFS, EROFS, ISO9660, MSDOS, EXFAT, ZFS, BCACHEFS,
    HUGETLBFS,
];
const EXT: u64 = 0xEF53;
const XFS: u64 = 0x5846_5342;
const BTRFS: u64 = 0x9123_683E;
const TMPFS: u64 = 0x0102_1994;
const RAMFS: u64 = 0x8584_58F6;
const F2FS: u64 = 0xF2F5_2010;
const SQUASHFS: u64 = 0x7371_7368;
const EROFS: u64 = 0xE0F5_E1E2;
const ISO9660: u64 = 0x9660;
const MSDOS: u64 = 0x4D44;
const EXFAT: u64 = 0x2011_BAB0;
const ZFS: u64 = 0x2FC1_2FC1;
const BCACHEFS: u64 = 0xCA45_1A4E;
const HUGETLBFS: u64 = 0x9584_58F6;
/// A file system of others, which decide.
const OVERLAY: u64 = 0x794C_7630;

/// The names of the same file systems in a mount table.
const LOCAL_NAMES: [&str; 17] = [
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "tmpfs",
    "devtmpfs",
    "ramfs",
    "f2fs",
    "squashfs",
    "erofs",
    "iso9660",
    "vfat",
    "exfat",
    "zfs",
    "bcachefs",
    "hugetlbfs",
];

/// Storage below a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storage {
    /// Memory of this machine.
    Memory,
    /// A local disk.
    Disk,
    /// Anything else, for which calls may wait.
    Other,
    /// It cannot be looked at.
    Unknown,
}

impl Storage {
    fn of(directory: &Path) -> Self {
        Self::told(statfs(directory))
    }

    fn told(told: rustix::io::Result<StatFs>) -> Self {
        match told.map(|told| magic(told.f_type)) {
            Ok(TMPFS | RAMFS) => Self::Memory,
            Ok(kind) if LOCAL.contains(&kind) => Self::Disk,
            Ok(_) => Self::Other,
            Err(_) => Self::Unknown,
        }
    }

    /// Storage of the upper directory, if the root file system is a single overlay with one.
    pub(super) fn of_upper(mounts: &[MountConfig]) -> Option<Self> {
        let [only] = mounts else { return None };
        only.overlay_option("upperdir").map(|upper| Self::of(Path::new(upper)))
    }

    fn may_wait(self) -> bool {
        matches!(self, Self::Other | Self::Unknown)
    }
}

/// True if calls of the root file system may wait. `mounts` are those of containerd, `upper` is
/// what [`Storage::of_upper`] has told of them.
pub(super) fn root(root: impl AsFd, mounts: &[MountConfig], upper: Option<Storage>) -> bool {
    if let [only] = mounts
        && only.kind == "overlay"
    {
        return upper.is_some_and(Storage::may_wait) || lower_layers(only).any(path);
    }
    let Ok(kind) = fstatfs(root) else { return true };
    match magic(kind.f_type) {
        OVERLAY => mounts.is_empty() || layers_wait(mounts),
        kind => !LOCAL.contains(&kind),
    }
}

fn layers_wait(mounts: &[MountConfig]) -> bool {
    mounts.iter().flat_map(layers).any(path)
}

/// True if calls of an open file or directory itself may wait, without the mounts below it.
pub(crate) fn opened(file: impl AsFd) -> bool {
    Storage::told(fstatfs(file)).may_wait()
}

/// True if calls of one of these mounts may wait, also if the mounts are not known.
pub(super) fn below(mounts: Option<Vec<&Entry>>) -> bool {
    let waits = |entry: &&Entry| !LOCAL_NAMES.contains(&entry.kind.as_str());
    mounts.is_none_or(|mounts| mounts.iter().any(waits))
}

fn path(path: &Path) -> bool {
    Storage::of(path).may_wait()
}

fn magic(kind: impl TryInto<i64>) -> u64 {
    // 32 bits, with a sign in the structures of some machines.
    kind.try_into().map_or(0, |kind| u64::from(kind as u32))
}

/// The directories of an overlay.
fn layers(mount: &MountConfig) -> impl Iterator<Item = &Path> {
    lower_layers(mount).chain(mount.overlay_option("upperdir").map(Path::new))
}

fn lower_layers(mount: &MountConfig) -> impl Iterator<Item = &Path> {
    mount.overlay_option("lowerdir").unwrap_or_default().split(':').map(Path::new)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rootfs::mount_table::MountTable;

    #[test]
    fn file_systems_of_the_kernel_do_not_wait_and_others_may() {
        let here = fs::File::open("/dev/shm").unwrap();
        assert!(!root(&here, &[], None));
        assert!(!opened(&here));
        let proc = fs::File::open("/proc").unwrap();
        assert!(root(&proc, &[], None) && opened(&proc));
    }

    #[test]
    fn mounts_below_a_recursive_bind_count_and_others_do_not() {
        let table = "25 1 0:3 / / rw - ext4 /dev/a rw\n\
                     26 25 0:4 / /v rw - fuse.x x rw\n\
                     27 25 0:5 / /w/a\\040b rw - nfs4 s:/ rw\n\
                     28 25 0:6 / /t/u rw shared:1 - tmpfs t rw\n";
        let table = MountTable::parse(table.as_bytes());
        let waits = |path| below(Some(table.inside(Path::new(path))));
        assert!(waits("/") && waits("/w"));
        assert!(!waits("/w/a b"));
        assert!(!waits("/v"), "the volume itself is looked at by its descriptor");
        assert!(!waits("/t") && !waits("/vv"));
        assert!(below(None));
    }

    #[test]
    fn layers_of_an_overlay_decide() {
        let mount = |lower: &str, upper: &str| MountConfig {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec![format!("lowerdir={lower}"), format!("upperdir={upper}")],
        };
        let here = fs::File::open("/dev/shm").unwrap();
        let waits = |mounts: &[MountConfig]| {
            let waits = layers_wait(mounts);
            assert_eq!(root(&here, mounts, Storage::of_upper(mounts)), waits, "{mounts:?}");
            waits
        };
        assert!(!waits(&[mount("/dev/shm:/dev/shm", "/dev/shm")]));
        assert!(waits(&[mount("/dev/shm:/proc", "/dev/shm")]));
        assert!(waits(&[mount("/dev/shm", "/proc")]));
        assert!(waits(&[mount("/dev/shm", "/nowhere")]));
    }

    #[test]
    fn upper_directory_is_told_by_what_holds_it() {
        let overlay = |options: &[&str]| MountConfig {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        for (upper, wanted) in [
            ("/dev/shm", Storage::Memory),
            ("/proc", Storage::Other),
            ("/nowhere", Storage::Unknown),
        ] {
            let upper = format!("upperdir={upper}");
            assert_eq!(Storage::of_upper(&[overlay(&["lowerdir=/", &upper])]), Some(wanted));
        }
        let read_only = overlay(&["lowerdir=/a:/b"]);
        assert_eq!(Storage::of_upper(std::slice::from_ref(&read_only)), None);
        assert_eq!(Storage::of_upper(&[read_only, overlay(&["upperdir=/dev/shm"])]), None);
    }
}
