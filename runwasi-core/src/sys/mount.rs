//! Mount namespace of a thread, and the restrictions of mounts.

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

/// Restriction of a guest's mount.
#[derive(Clone, Copy, Debug, Default)]
pub struct MountRestriction {
    /// Refuse writes.
    pub read_only: bool,
    /// Restrict the mounts below, too.
    pub recursive: bool,
}

/// Sets `nodev`, `nosuid`, private propagation and, on request, `ro` on the mount behind `fd`
/// (`mount_setattr(2)`, Linux 5.12).
pub fn restrict_mount(fd: impl AsFd, restriction: MountRestriction) -> io::Result<()> {
    let mut set = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    set.set(MountAttrFlags::MOUNT_ATTR_RDONLY, restriction.read_only);
    // Private, so that later mounts of the host below a volume do not reach the guest.
    let attr = MountAttr {
        attr_set: u64::from(set.bits()),
        propagation: libc::MS_PRIVATE,
        ..MountAttr::default()
    };
    let flags = libc::AT_EMPTY_PATH | if restriction.recursive { libc::AT_RECURSIVE } else { 0 };
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
