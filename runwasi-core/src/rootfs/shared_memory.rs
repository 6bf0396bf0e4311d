//! `/dev/shm` of a pod: one tmpfs for all its containers, attached in the private mount namespace.

use std::{io, os::fd::OwnedFd};

use super::{
    devices::make_tmpfs,
    namespace::{Inside, MountNamespace, Tree},
};

/// Size of the file system. containerd gives the pods with a pause container the same.
const SIZE: &str = "65536k";

/// The file system. Dropping it removes it, once no container has it any more.
#[derive(Debug)]
pub struct SharedMemory {
    // Containers get clones of an attached mount: before Linux 6.15 a detached one has none.
    tree: Tree,
}

impl SharedMemory {
    /// Makes the file system. Blocks for a fraction of a millisecond. Needs root.
    pub fn new() -> io::Result<Self> {
        let mount = make_tmpfs([("mode", Some("1777")), ("size", Some(SIZE))])?;
        let inside = MountNamespace::of_process()?.enter()?;
        Ok(Self { tree: inside.attach_root(&mount)? })
    }

    /// A detached clone of its mount.
    pub(super) fn copy(&self, inside: &Inside) -> io::Result<OwnedFd> {
        inside.copy(&self.tree)
    }
}
