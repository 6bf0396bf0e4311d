//! Names of a guest that are mount points: they are not removed, renamed or replaced (`EBUSY`).
//!
//! The kernel refuses this in the caller's own mount namespace alone. A guest's tree is attached in
//! another one, and there the call would take the mount out of the tree.

use std::{
    ffi::{CStr, CString},
    os::fd::BorrowedFd,
};

use rustix::{
    fs::{Access, AtFlags, FileType, StatxAttributes, StatxFlags, accessat, statx},
    io::{Errno, Result},
};

/// Attributes that no server of a file system has to be asked for.
struct CachedAttributes {
    /// The kernel's number of the mount. Absent if the kernel does not tell it.
    mount: Option<u64>,
    is_directory: bool,
    /// True for the root of a mount.
    is_mount: bool,
}

/// Refuses to remove a directory, or any other file unless `directory` is true.
pub(super) fn check_removal(parent: BorrowedFd<'_>, name: &CStr, directory: bool) -> Result<()> {
    match look(parent, name) {
        // One of the other kind is refused by the kernel, with the error for that.
        Ok(seen) if seen.is_mount && seen.is_directory == directory => {
            check_writable(parent)?;
            Err(Errno::BUSY)
        }
        // An error is the call's own, too.
        _ => Ok(()),
    }
}

/// Refuses to rename a mount point, and to replace one.
pub(super) fn check_rename(
    (from, old): (BorrowedFd<'_>, &CStr),
    (to, new): (BorrowedFd<'_>, &CStr),
) -> Result<()> {
    let source = look(from, old);
    let target = look(to, new);
    let is_mount = |seen: &Result<CachedAttributes>| seen.as_ref().is_ok_and(|seen| seen.is_mount);
    if !is_mount(&source) && !is_mount(&target) {
        return Ok(());
    }
    // Told here and not left to the kernel, for which another process could exchange the source
    // meanwhile; in the kernel's order.
    if CachedAttributes::of(from, c"")?.mount != CachedAttributes::of(to, c"")?.mount {
        return Err(Errno::XDEV);
    }
    check_writable(from)?;
    check_writable(to)?;
    let is_directory = source?.is_directory;
    Err(match target {
        Ok(target) if is_directory && !target.is_directory => Errno::NOTDIR,
        Ok(target) if !is_directory && target.is_directory => Errno::ISDIR,
        _ => Errno::BUSY,
    })
}

/// The error of a directory that is read-only, or not the user's, precedes `EBUSY`.
fn check_writable(directory: BorrowedFd<'_>) -> Result<()> {
    accessat(directory, c".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
}

fn look(parent: BorrowedFd<'_>, name: &CStr) -> Result<CachedAttributes> {
    let bytes = name.to_bytes();
    // With a slash behind it, a link would be followed.
    let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    match &bytes[..end] {
        b"" => Err(Errno::NOENT),
        b"." | b".." => Err(Errno::BUSY),
        _ if end == bytes.len() => CachedAttributes::of(parent, name),
        alone => CachedAttributes::of(parent, &CString::new(alone).map_err(|_| Errno::INVAL)?),
    }
}

impl CachedAttributes {
    /// Of a name in a directory, or of the directory itself for the empty name.
    fn of(directory: BorrowedFd<'_>, name: &CStr) -> Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW
            | AtFlags::NO_AUTOMOUNT
            | AtFlags::EMPTY_PATH
            | AtFlags::STATX_DONT_SYNC;
        let told = statx(directory, name, flags, StatxFlags::TYPE | StatxFlags::MNT_ID)?;
        let has_mount = told.stx_mask & StatxFlags::MNT_ID.bits() != 0;
        let attributes = told.stx_attributes & told.stx_attributes_mask;
        let kind = FileType::from_raw_mode(told.stx_mode.into());
        Ok(Self {
            mount: has_mount.then_some(told.stx_mnt_id),
            is_directory: kind == FileType::Directory,
            is_mount: attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }
}
