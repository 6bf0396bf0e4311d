//! Opening of a path below a directory of a guest.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::{Errno, Result},
};

use super::{
    patience::at_once,
    start::Start,
    walk::{End, Walk},
};

impl Start<'_> {
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
