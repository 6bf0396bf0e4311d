//! `/dev/shm` of a pod: one tmpfs for all its containers, attached in the private mount namespace.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::CWD,
    mount::{MoveMountFlags, move_mount},
};

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

    /// Attaches it to a directory of the host as well, for native containers. The caller unmounts
    /// it there. Blocks for a fraction of a millisecond.
    pub(crate) fn attach_at(&self, directory: &Path) -> io::Result<()> {
        // The thread is in the host's namespace again behind the block.
        let mount = {
            let inside = MountNamespace::of_process()?.enter()?;
            self.copy(&inside)?
        };
        Ok(move_mount(&mount, "", CWD, directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
    }

    /// A detached clone of its mount.
    pub(super) fn copy(&self, inside: &Inside) -> io::Result<OwnedFd> {
        inside.copy(&self.tree)
    }
}
