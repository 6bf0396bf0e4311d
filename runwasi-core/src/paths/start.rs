//! Directories of a guest, and an opening below one of them.

use std::{
    ffi::CStr,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::{Errno, Result},
};

use super::{
    patience::at_once,
    walk::{End, Walk},
};
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

    /// Opens a path. [`Errno::AGAIN`] stands for a lease, or for renames during every try.
    pub(crate) fn open(&self, path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        if path.to_bytes().starts_with(b"/") {
            return Err(Errno::PERM);
        }
        let resolve = match self.root {
            Some(root) if std::ptr::eq(root, self.directory) && !has_dots(path) => {
                ResolveFlags::IN_ROOT
            }
            _ => ResolveFlags::BENEATH,
        };
        match open_with(self.directory.as_fd(), path, flags, mode, resolve) {
            // The path leads out of the directory.
            Err(Errno::XDEV) => self.open_around(path, flags, mode),
            opened => opened,
        }
    }

    fn open_around(&self, path: &CStr, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
        let exclusive = flags.contains(OFlags::CREATE | OFlags::EXCL);
        let follow = !flags.contains(OFlags::NOFOLLOW) && !exclusive;
        match Walk::new(*self, path).run(follow)? {
            End::Root(rest) => {
                let root = self.root.ok_or(Errno::PERM)?;
                open_with(root.as_fd(), &rest, flags, mode, ResolveFlags::IN_ROOT)
            }
            End::Name(directory, name) => {
                let directory = directory.as_ref().map_or(self.directory.as_fd(), AsFd::as_fd);
                let opened = open_with(directory, &name, flags, mode, ResolveFlags::BENEATH);
                // It has become a link since.
                opened.map_err(|error| if error == Errno::XDEV { Errno::AGAIN } else { error })
            }
        }
    }
}

fn open_with(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    at_once(|| openat2(directory, path, flags, mode, resolve))
}

/// True if a name of the path is `..`.
fn has_dots(path: &CStr) -> bool {
    path.to_bytes().split(|byte| *byte == b'/').any(|name| name == b"..")
}
