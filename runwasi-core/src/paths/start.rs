//! Directories of a guest, in which its paths begin and which bound them.

use std::{fs::File, sync::Arc};

use rustix::fs::OFlags;

use crate::rootfs::Rootfs;

/// The preopened directories of a guest: its `/` and the volumes outside its tree. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Roots(Arc<[Root]>);

#[derive(Debug)]
pub(super) struct Root {
    pub(super) directory: Arc<File>,
    read_only: bool,
}

impl Roots {
    /// The directories of a root file system.
    pub fn of(rootfs: &Rootfs) -> Self {
        let roots = rootfs
            .preopens()
            .map(|preopen| Root { directory: preopen.directory, read_only: preopen.read_only });
        Self(roots.collect())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }
}

/// The directory in which a path begins.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    pub(super) directory: &'a File,
    pub(super) roots: &'a Roots,
    /// The container's root; absent if no link of this directory may lead there.
    pub(super) root: Option<&'a File>,
}

/// The flags for a descriptor that names a file without opening it.
pub(super) const PATH: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

impl<'a> Start<'a> {
    /// A directory of the guest below one of its preopened directories. `read_only` is true if the
    /// engine refuses writes in it.
    pub fn new(directory: &'a File, read_only: bool, roots: &'a Roots) -> Self {
        // A link must not lead from a directory that the engine protects to one that it does not,
        // nor the other way round: the new descriptor would have the rights of the old one.
        let root = roots.0.first().filter(|root| root.read_only == read_only);
        Self { directory, roots, root: root.map(|root| &*root.directory) }
    }
}
