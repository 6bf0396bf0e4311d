//! Credentials of a process in the form of the system calls.

/// The OCI runtime spec's default for the umask.
pub const DEFAULT_UMASK: u32 = 0o022;

/// User, groups and umask of a process, for file access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Permission bits that new files do not get.
    pub umask: u32,
}

/// Credentials of a thread of this process: root with its own group and the default umask.
pub(crate) const HOST: Credentials =
    Credentials { uid: 0, gid: 0, groups: Vec::new(), umask: DEFAULT_UMASK };

impl Credentials {
    /// True if they differ from those of a thread of the host.
    pub fn is_own(&self) -> bool {
        // Without the further groups: they give root no access that it does not have anyway.
        self.uid != HOST.uid || self.gid != HOST.gid || self.umask != HOST.umask
    }
}
