//! Credentials of a process in the form of the system calls, and those of the calling thread.

use std::io;

use rustix::{
    fs::Mode,
    io::Errno,
    process::{Gid, getgroups, umask},
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups},
};

use super::thread::unshare_file_attributes;

/// The OCI runtime spec's default for the umask.
pub const DEFAULT_UMASK: u32 = 0o022;

/// Capabilities by which root passes over the permissions of files. The kernel takes them from a
/// thread with the filesystem id of another user, and gives them back with that of root.
pub(crate) const OVER_FILES: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

/// User, groups, umask and missing capabilities of a process, for file access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub(crate) groups: Vec<Gid>,
    /// Permission bits that new files do not get.
    pub umask: u32,
    /// Capabilities of [`OVER_FILES`] that root does not have. Empty for another user.
    pub(crate) lacks: CapabilitySet,
}

/// Credentials of a thread of this process: root with its own group and the default umask.
pub(crate) static HOST: Credentials = Credentials {
    uid: 0,
    gid: 0,
    groups: Vec::new(),
    umask: DEFAULT_UMASK,
    lacks: CapabilitySet::empty(),
};

impl Credentials {
    /// True if they differ from those of a thread of the host by more than missing capabilities.
    pub fn is_own(&self) -> bool {
        // Without the further groups: they give root no access that it does not have anyway.
        self.uid != HOST.uid || self.gid != HOST.gid || self.umask != HOST.umask
    }
}

/// A system call that the kernel or a filter refuses.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
pub struct RefusedCall {
    call: &'static str,
    source: io::Error,
}

/// Sets the credentials with which the calling thread opens files.
pub(crate) fn set_file_credentials(credentials: &Credentials) {
    let set = switch_file_credentials(credentials);
    // The calls were tried before any guest, and only processes of root use credentials at all. A
    // guest with the credentials of another one would be an escape.
    if let Err(error) = set {
        panic!("{error}");
    }
}

/// Takes these capabilities from the calling thread, whose filesystem id is root's, and gives it
/// the others of [`OVER_FILES`]. The one to exceed quotas and what file systems reserve goes in any
/// case: the kernel does not take that one from other users.
pub(crate) fn set_file_capabilities(lacks: CapabilitySet) {
    let set = present_capabilities().and_then(|mut sets| {
        let present = sets.effective;
        sets.effective |= sets.permitted & OVER_FILES;
        sets.effective.remove(lacks | CapabilitySet::SYS_RESOURCE);
        if sets.effective == present {
            return Ok(());
        }
        set_capabilities(None, sets).map_err(refused_capset)
    });
    // As in `set_file_credentials`.
    if let Err(error) = set {
        panic!("{error}");
    }
}

fn present_capabilities() -> Result<CapabilitySets, RefusedCall> {
    capabilities(None).map_err(|error| RefusedCall { call: "capget", source: error.into() })
}

fn refused_capset(error: Errno) -> RefusedCall {
    RefusedCall { call: "capset", source: error.into() }
}

/// Tries the calls of [`unshare_file_attributes`], [`set_file_credentials`] and
/// [`set_file_capabilities`] with what the calling thread has at present.
pub(crate) fn try_file_credentials() -> Result<(), RefusedCall> {
    unshare_file_attributes()
        .map_err(|source| RefusedCall { call: "unshare(CLONE_FS)", source })?;
    let groups =
        getgroups().map_err(|error| RefusedCall { call: "getgroups", source: error.into() })?;
    // SAFETY: the call takes no pointer. An invalid id changes nothing; the result is the present
    // id.
    let gid = unsafe { libc::syscall(libc::SYS_setfsgid, -1) };
    // SAFETY: as above.
    let uid = unsafe { libc::syscall(libc::SYS_setfsuid, -1) };
    let own = |id: libc::c_long, call| {
        u32::try_from(id).map_err(|_| RefusedCall { call, source: io::Error::last_os_error() })
    };
    let credentials = Credentials {
        uid: own(uid, "setfsuid")?,
        gid: own(gid, "setfsgid")?,
        groups,
        umask: current_umask(),
        lacks: CapabilitySet::empty(),
    };
    switch_file_credentials(&credentials)?;
    set_capabilities(None, present_capabilities()?).map_err(refused_capset)
}

fn current_umask() -> u32 {
    let current = umask(Mode::empty());
    // `umask(2)` reads the mask only by setting it.
    umask(current);
    current.bits()
}

fn switch_file_credentials(credentials: &Credentials) -> Result<(), RefusedCall> {
    let Credentials { uid, gid, groups, umask: mask, lacks: _ } = credentials;
    // Acts on this thread only, as all of these calls do; libc's `setgroups` changes all threads.
    set_thread_groups(groups)
        .map_err(|error| RefusedCall { call: "setgroups", source: error.into() })?;
    umask(Mode::from_raw_mode(*mask));
    // Only the *filesystem* ids change, so the thread keeps root's privilege to switch again.
    // SAFETY: the calls take integers only.
    let [gid_now, uid_now] = unsafe {
        libc::syscall(libc::SYS_setfsgid, *gid);
        libc::syscall(libc::SYS_setfsuid, *uid);
        // The first two calls report no failure; an invalid id reads the present one.
        [libc::syscall(libc::SYS_setfsgid, -1), libc::syscall(libc::SYS_setfsuid, -1)]
    };
    let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
    if gid_now != i64::from(*gid) {
        return Err(RefusedCall { call: "setfsgid", source: denied() });
    }
    if uid_now != i64::from(*uid) {
        return Err(RefusedCall { call: "setfsuid", source: denied() });
    }
    Ok(())
}
