//! The way of a path whose links lead out of the directory in which it begins.
//!
//! One name after the other, each with a descriptor for its directory, up to the first absolute
//! link: from there on the kernel resolves the rest below the container's root.
//!
//! `..` of a link goes to the parent directory as the kernel has it. It stops at the preopened
//! directories, by the identity of mount and file. Each is the root of a mount, and the kernel lets
//! `..` of a directory that was moved out of a mount's root lead nowhere, so no other directory of
//! the host is reached.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, StatxAttributes, StatxFlags, fstat, openat, readlinkat,
        statx,
    },
    io::{Errno, Result},
};

use super::start::{PATH, Start};

/// Most symbolic links in a path, as in the kernel.
const MAX_LINKS: usize = 40;
/// Most names of a path and of the links in it: as many as fit into `PATH_MAX`.
// Each costs some microseconds, in which the guest does not yield.
const MAX_NAMES: usize = 2048;

/// End of a walk.
pub(super) enum End {
    /// At an absolute link: this path below the container's root is left.
    Root(CString),
    /// At the last name of the path. The directory is absent if it is the start.
    Name(Option<OwnedFd>, CString),
}

pub(super) struct Walk<'a> {
    start: Start<'a>,
    /// The directory that was reached; absent for the start.
    reached: Option<OwnedFd>,
    /// Names that are left, the next one last.
    left: Vec<Name>,
    links: usize,
    names: usize,
    /// True once a link has led above the start.
    above: bool,
}

struct Name {
    text: CString,
    /// False for a name in the guest's own path.
    of_link: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(start: Start<'a>, path: &CStr) -> Self {
        let mut walk =
            Self { start, reached: None, left: Vec::new(), links: 0, names: 0, above: false };
        walk.push(path.to_bytes(), false);
        walk
    }

    /// Goes to the last name, or through it if it is a link and `follow` is true.
    pub(super) fn run(mut self, follow: bool) -> Result<End> {
        while let Some(name) = self.left.pop() {
            self.names += 1;
            if self.names > MAX_NAMES {
                return Err(Errno::NAMETOOLONG);
            }
            let is_last = self.left.is_empty();
            match name.text.to_bytes() {
                b"." => continue,
                b".." => {
                    self.climb(name.of_link)?;
                    continue;
                }
                _ => {}
            }
            let opened = openat(self.place(), &name.text, PATH | OFlags::NOFOLLOW, Mode::empty());
            let opened = match opened {
                // The call itself creates it.
                Err(Errno::NOENT) if is_last => return Ok(End::Name(self.reached, name.text)),
                opened => opened?,
            };
            let is_link = FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::Symlink;
            if is_link && (follow || !is_last) {
                if let Some(rest) = self.enter_link(&opened)? {
                    return Ok(End::Root(rest));
                }
            } else if is_last {
                return Ok(End::Name(self.reached, name.text));
            } else {
                self.reached = Some(opened);
            }
        }
        Ok(End::Name(self.reached, c".".into()))
    }

    fn place(&self) -> BorrowedFd<'_> {
        self.reached.as_ref().map_or(self.start.directory.as_fd(), AsFd::as_fd)
    }

    /// Goes on with the names of a link, or returns the rest of the path if it is an absolute one.
    fn enter_link(&mut self, link: &OwnedFd) -> Result<Option<CString>> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, "", Vec::new())?;
        if !target.to_bytes().starts_with(b"/") {
            self.push(target.to_bytes(), true);
            return Ok(None);
        }
        let mut rest = target.into_bytes();
        for name in self.left.iter().rev() {
            rest.push(b'/');
            rest.extend(name.text.to_bytes());
        }
        Ok(Some(CString::new(rest).map_err(|_| Errno::INVAL)?))
    }

    /// Puts the names of a path before those that are left.
    fn push(&mut self, path: &[u8], of_link: bool) {
        // With a slash at its end, the last name has to be a directory.
        let directory = path.ends_with(b"/").then_some(b".".as_slice());
        let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        for text in directory.into_iter().chain(names.rev()) {
            // Neither a path nor a link has a zero byte.
            let Ok(text) = CString::new(text) else { continue };
            self.left.push(Name { text, of_link });
        }
    }

    /// Goes to the parent directory.
    fn climb(&mut self, of_link: bool) -> Result<()> {
        let here = Identity::of(self.place())?;
        let at_start = here == Identity::of(self.start.directory.as_fd())?;
        if at_start && !of_link && !self.above {
            return Err(Errno::PERM);
        }
        let mut bounded = false;
        for root in self.start.roots.iter() {
            let identity = Identity::of(root.directory.as_fd())?;
            bounded = identity.is_mount;
            // An ordinary user has no mounts: there, nothing would stop a directory that was moved.
            if !bounded {
                break;
            }
            if identity == here {
                return if self.is_root(&root.directory) { Ok(()) } else { Err(Errno::PERM) };
            }
        }
        if !bounded {
            return Err(Errno::PERM);
        }
        self.above |= at_start;
        let parent = openat(self.place(), "..", PATH | OFlags::DIRECTORY, Mode::empty())?;
        self.reached = Some(parent);
        Ok(())
    }

    fn is_root(&self, directory: &File) -> bool {
        self.start.root.is_some_and(|root| std::ptr::eq(root, directory))
    }
}

/// A directory in a mount.
struct Identity {
    mount: u64,
    device: (u32, u32),
    inode: u64,
    /// True for the root of the mount.
    is_mount: bool,
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        let all = |one: &Self| (one.mount, one.device, one.inode);
        all(self) == all(other)
    }
}

impl Identity {
    fn of(directory: BorrowedFd<'_>) -> Result<Self> {
        let wanted = StatxFlags::INO | StatxFlags::MNT_ID;
        let told = statx(directory, "", AtFlags::EMPTY_PATH, wanted)?;
        // The masks tell if the kernel has filled in the values.
        if told.stx_mask & wanted.bits() != wanted.bits() {
            return Err(Errno::PERM);
        }
        let attributes = told.stx_attributes & told.stx_attributes_mask;
        Ok(Self {
            mount: told.stx_mnt_id,
            device: (told.stx_dev_major, told.stx_dev_minor),
            inode: told.stx_ino,
            is_mount: attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }
}
