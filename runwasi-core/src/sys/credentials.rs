//! The credentials of a process, as system calls take them.

/// The OCI runtime spec's umask if a process names none.
pub const DEFAULT_UMASK: u32 = 0o022;

/// A process's user. Root with its own group and the usual umask has none: that is what threads are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// What new files do not get of the permissions asked for.
    pub umask: u32,
}

/// What a thread has of its own.
pub(crate) const HOST: Credentials =
    Credentials { uid: 0, gid: 0, groups: Vec::new(), umask: DEFAULT_UMASK };

impl Credentials {
    /// Whether it is more than a thread of the host has anyway.
    pub fn is_own(&self) -> bool {
        // Root's further groups open nothing to it that it could not open.
        self.uid != HOST.uid || self.gid != HOST.gid || self.umask != HOST.umask
    }
}
