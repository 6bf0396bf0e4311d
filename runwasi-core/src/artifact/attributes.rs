//! Attributes of a program's file, by one system call.

use std::{io, os::fd::AsFd};

use rustix::fs::{AtFlags, FileType, StatxFlags, makedev, statx};

/// Attributes of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) kind: FileType,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) bytes: u64,
    /// Time of the last change of the content: seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// The same of the content or of another attribute.
    pub(super) changed: (i64, i64),
    /// The kernel's number of its mount, if the kernel tells it.
    pub(super) mount: Option<u64>,
}

impl Attributes {
    /// Attributes of an open file, also of one that is not open for reading.
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let told = statx(file, "", AtFlags::EMPTY_PATH, wanted)?;
        // The mask tells if the kernel has filled in the number.
        let has_mount = told.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        Ok(Self {
            kind: FileType::from_raw_mode(told.stx_mode.into()),
            device: makedev(told.stx_dev_major, told.stx_dev_minor),
            inode: told.stx_ino,
            bytes: told.stx_size,
            modified: (told.stx_mtime.tv_sec, told.stx_mtime.tv_nsec.into()),
            changed: (told.stx_ctime.tv_sec, told.stx_ctime.tv_nsec.into()),
            mount: has_mount.then_some(told.stx_mnt_id),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn attributes_are_those_of_the_standard_library() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(77).unwrap();
        for file in [file, File::open("/dev/null").unwrap(), File::open("/").unwrap()] {
            let attributes = Attributes::of(&file).unwrap();
            let metadata = file.metadata().unwrap();
            assert_eq!(attributes.kind == FileType::RegularFile, metadata.is_file());
            assert_eq!(attributes.kind == FileType::Directory, metadata.is_dir());
            assert_eq!(attributes.device, metadata.dev());
            assert_eq!((attributes.inode, attributes.bytes), (metadata.ino(), metadata.len()));
            assert_eq!(attributes.modified, (metadata.mtime(), metadata.mtime_nsec()));
            assert_eq!(attributes.changed, (metadata.ctime(), metadata.ctime_nsec()));
        }
    }
}
