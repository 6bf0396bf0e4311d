//! File systems whose calls may wait for more than a local disk: for the server of a FUSE or network
//! file system, which may never answer.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

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

/// True if calls of the root file system may wait. `mounts` are those of containerd.
pub(super) fn root(root: impl AsFd, mounts: &[MountConfig]) -> bool {
    if let [only] = mounts
        && only.kind == "overlay"
    {
        return layers_wait(mounts);
    }
    let Ok(kind) = fstatfs(root) else { return true };
    match magic(kind.f_type) {
        OVERLAY => mounts.is_empty() || layers_wait(mounts),
        kind => !LOCAL.contains(&kind),
    }
}

fn layers_wait(mounts: &[MountConfig]) -> bool {
    mounts.iter().flat_map(layers).any(|layer| path(&layer))
}

/// True if calls of a volume itself may wait, without the mounts below it.
pub(super) fn volume(mount: impl AsFd) -> bool {
    is_not_local(fstatfs(mount))
}

/// True if calls of one of these mounts may wait, also if the mounts are not known.
pub(super) fn below(mounts: Option<Vec<&Entry>>) -> bool {
    let waits = |entry: &&Entry| !LOCAL_NAMES.contains(&entry.kind.as_str());
    mounts.is_none_or(|mounts| mounts.iter().any(waits))
}

/// True if a directory lies in memory, and also if it cannot be looked at.
pub(super) fn is_in_memory(directory: &Path) -> bool {
    statfs(directory).map_or(true, |kind| [TMPFS, RAMFS].contains(&magic(kind.f_type)))
}

fn path(path: &Path) -> bool {
    is_not_local(statfs(path))
}

fn is_not_local(told: rustix::io::Result<StatFs>) -> bool {
    told.map_or(true, |kind| !LOCAL.contains(&magic(kind.f_type)))
}

fn magic(kind: impl TryInto<i64>) -> u64 {
    // 32 bits, with a sign in the structures of some machines.
    kind.try_into().map_or(0, |kind| u64::from(kind as u32))
}

/// The directories of an overlay.
fn layers(mount: &MountConfig) -> Vec<PathBuf> {
    let lower = mount.overlay_option("lowerdir").unwrap_or_default();
    let upper = mount.overlay_option("upperdir");
    lower.split(':').chain(upper).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rootfs::mount_table::MountTable;

    #[test]
    fn file_systems_of_the_kernel_do_not_wait_and_others_may() {
        let here = fs::File::open("/dev/shm").unwrap();
        assert!(!root(&here, &[]));
        assert!(!volume(&here));
        let proc = fs::File::open("/proc").unwrap();
        assert!(root(&proc, &[]) && volume(&proc));
    }

    #[test]
    fn mounts_below_a_recursive_bind_count_and_others_do_not() {
        let table = "25 1 0:3 / / rw - ext4 /dev/a rw\n\
                     26 25 0:4 / /v rw - fuse.x x rw\n\
                     27 25 0:5 / /w/a\\040b rw - nfs4 s:/ rw\n\
                     28 25 0:6 / /t/u rw shared:1 - tmpfs t rw\n";
        let table = MountTable::parse(table);
        let waits = |path| below(Some(table.inside(Path::new(path))));
        assert!(waits("/") && waits("/w"));
        assert!(!waits("/w/a b"));
        assert!(!waits("/v"), "the volume itself is looked at by its descriptor");
        assert!(!waits("/t") && !waits("/vv"));
        assert!(below(None));
    }

    #[test]
    fn layers_of_an_overlay_decide() {
        let mount = |lower: &str| MountConfig {
            kind: "overlay".into(),
            source: "overlay".into(),
            options: vec![format!("lowerdir={lower}"), "upperdir=/dev/shm".into()],
        };
        let waits = |mount: MountConfig| layers(&mount).iter().any(|layer| path(layer));
        assert!(!waits(mount("/dev/shm:/dev/shm")));
        assert!(waits(mount("/dev/shm:/proc")));
    }
}
