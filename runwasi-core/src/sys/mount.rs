//! Mount namespace of a thread, and the attributes of mounts.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use rustix::{
    mount::MountAttrFlags,
    thread::{UnshareFlags, unshare_unsafe},
};

/// Gives the calling thread its own mount namespace (`unshare(2)`), a copy of its present one.
pub(crate) fn unshare_mounts() -> io::Result<()> {
    // SAFETY: only the mount namespace changes: no file descriptors, no memory, no identity.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?)
}

/// `struct mount_attr` of `mount_setattr(2)`.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Attributes to set and to clear. What is in both is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountAttributes {
    /// Set.
    pub set: MountAttrFlags,
    /// Cleared.
    pub clear: MountAttrFlags,
}

/// A change of a mount.
#[derive(Clone, Copy, Debug)]
pub struct MountChange {
    /// The attributes.
    pub attributes: MountAttributes,
    /// Make it private, so that no mount or unmount propagates from or to it.
    pub private: bool,
    /// Change the mounts below, too.
    pub recursive: bool,
}

impl MountAttributes {
    /// No change.
    pub const NONE: Self = Self::set(MountAttrFlags::empty());

    /// Sets these attributes.
    pub const fn set(set: MountAttrFlags) -> Self {
        Self { set, clear: MountAttrFlags::empty() }
    }

    /// Clears these attributes.
    pub const fn clear(clear: MountAttrFlags) -> Self {
        Self { set: MountAttrFlags::empty(), clear }
    }

    /// Chooses one of the ways to note accesses, which are a number and no flags.
    pub const fn access_time(set: MountAttrFlags) -> Self {
        Self { set, clear: MountAttrFlags::MOUNT_ATTR__ATIME }
    }

    /// These changes, and then those.
    pub fn then(self, next: Self) -> Self {
        Self { set: self.set.difference(next.clear) | next.set, clear: self.clear | next.clear }
    }

    /// True if the mount becomes read-only.
    pub fn is_read_only(self) -> bool {
        self.set.contains(MountAttrFlags::MOUNT_ATTR_RDONLY)
    }
}

impl MountChange {
    /// Restriction of each mount of a guest: `nodev`, `nosuid` and private, with those below it.
    // Private, so that no mount of the host appears below a volume unless it was checked.
    pub const RESTRICTED: Self = Self {
        attributes: MountAttributes::set(
            MountAttrFlags::MOUNT_ATTR_NODEV.union(MountAttrFlags::MOUNT_ATTR_NOSUID),
        ),
        private: true,
        recursive: true,
    };

    /// A change of one mount.
    pub fn single(attributes: MountAttributes) -> Self {
        Self { attributes, private: false, recursive: false }
    }

    /// The same with further attributes.
    pub fn with(self, attributes: MountAttributes) -> Self {
        Self { attributes: self.attributes.then(attributes), ..self }
    }
}

/// Changes the mount behind `fd` (`mount_setattr(2)`, Linux 5.12).
pub fn change_mount(fd: impl AsFd, change: MountChange) -> io::Result<()> {
    let MountAttributes { set, clear } = change.attributes;
    let attr = MountAttr {
        attr_set: u64::from(set.bits()),
        attr_clr: u64::from(clear.bits()),
        propagation: if change.private { libc::MS_PRIVATE } else { 0 },
        ..MountAttr::default()
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a valid empty C string, `attr` is a live `mount_attr` of the passed size,
    // and the fd is borrowed for the call. The kernel writes to neither the path nor `attr`.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_attributes_win() {
        let read_only = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
        let writable = MountAttributes::clear(MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert!(!read_only.then(writable).is_read_only());
        assert!(writable.then(read_only).is_read_only());
        let strict = MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_STRICTATIME);
        let never = MountAttributes::access_time(MountAttrFlags::MOUNT_ATTR_NOATIME);
        assert_eq!(strict.then(never), never);
    }
}
