//! Calls with a path, for all versions of WASI: [`runwasi_core::paths`] with the rights of a
//! guest's directories.

use std::{fs::File, io};

use runwasi_core::paths::{self, KEPT, NOW, Roots, Start, Times};
use rustix::{
    fs::{FileType, Stat, Timespec, fstat, futimens},
    io::Errno,
};
use wasmtime_wasi::filesystem::{Descriptor, Dir};

use super::{
    directory::identity,
    open::{self, OpenedFile, Request, file_of},
};

/// A directory of the guest, for one call.
pub(crate) struct Place {
    directory: Dir,
    roots: Roots,
}

/// Attributes of a file, in the terms that all versions of WASI share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) kind: FileType,
    /// Hash of device and inode.
    pub(crate) identity: u64,
    pub(crate) links: u64,
    pub(crate) size: u64,
    pub(crate) accessed: Time,
    pub(crate) modified: Time,
    pub(crate) changed: Time,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// A new time of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NewTime {
    Kept,
    Now,
    At(Time),
}

impl NewTime {
    /// A time, unless its nanoseconds are more than a second.
    pub(crate) fn at(seconds: i64, nanoseconds: u32) -> io::Result<Self> {
        // Beyond, some numbers have a meaning of their own for the kernel.
        if nanoseconds >= 1_000_000_000 {
            return Err(Errno::INVAL.into());
        }
        Ok(Self::At(Time { seconds, nanoseconds }))
    }
}

impl Place {
    pub(crate) fn new(directory: Dir, roots: Roots) -> Self {
        Self { directory, roots }
    }

    /// Opens a file.
    pub(crate) async fn open(&self, path: &str, request: Request) -> io::Result<OpenedFile> {
        open::open(self.start(), self.directory.perms, path, request).await
    }

    /// The start of a path in this directory.
    fn start(&self) -> Start<'_> {
        let read_only = self.directory.perms.write_not_permitted();
        Start::new(&self.directory.dir, read_only, &self.roots)
    }

    /// The same for a call that writes. Refused by the engine where the kernel cannot refuse it.
    fn writable(&self) -> io::Result<Start<'_>> {
        writable(self.directory.perms.write_not_permitted())?;
        Ok(self.start())
    }

    pub(crate) async fn stat(&self, path: &str, follow: bool) -> io::Result<Attributes> {
        Ok(attributes(&self.start().stat(path, follow).await?))
    }

    pub(crate) async fn set_times(
        &self,
        path: &str,
        follow: bool,
        accessed: NewTime,
        modified: NewTime,
    ) -> io::Result<()> {
        self.writable()?.set_times(path, follow, &times(accessed, modified)).await
    }

    pub(crate) async fn create_directory(&self, path: &str) -> io::Result<()> {
        self.writable()?.create_directory(path).await
    }

    pub(crate) async fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.writable()?.remove_directory(path).await
    }

    pub(crate) async fn remove_file(&self, path: &str) -> io::Result<()> {
        self.writable()?.remove_file(path).await
    }

    /// Text of a link, which may be absolute: its meaning is that in the container.
    pub(crate) async fn read_link(&self, path: &str) -> io::Result<String> {
        let text = self.start().read_link(path).await?;
        text.into_string().map_err(|_| Errno::ILSEQ.into())
    }

    pub(crate) async fn symlink(&self, text: &str, path: &str) -> io::Result<()> {
        self.writable()?.symlink(text, path).await
    }

    pub(crate) async fn rename(&self, old: &str, to: &Self, new: &str) -> io::Result<()> {
        paths::rename(self.writable()?, old, to.writable()?, new).await
    }

    /// Creates a further name. `follow` is not supported, as in wasmtime-wasi.
    pub(crate) async fn link(
        &self,
        old: &str,
        follow: bool,
        to: &Self,
        new: &str,
    ) -> io::Result<()> {
        if follow {
            return Err(Errno::INVAL.into());
        }
        paths::link(self.writable()?, old, to.writable()?, new).await
    }
}

/// Attributes of an open file.
pub(crate) fn stat(file: &File) -> io::Result<Attributes> {
    Ok(attributes(&fstat(file)?))
}

/// Sets the times of an open file.
pub(crate) fn set_times(
    descriptor: &Descriptor,
    accessed: NewTime,
    modified: NewTime,
) -> io::Result<()> {
    let permissions = match descriptor {
        Descriptor::File(file) => file.perms,
        Descriptor::Dir(directory) => directory.perms,
    };
    writable(permissions.write_not_permitted())?;
    Ok(futimens(&**file_of(descriptor), &times(accessed, modified))?)
}

fn writable(refused: bool) -> io::Result<()> {
    if refused { Err(Errno::ROFS.into()) } else { Ok(()) }
}

fn attributes(seen: &Stat) -> Attributes {
    let time = |seconds: i64, nanoseconds: u64| Time {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    Attributes {
        kind: FileType::from_raw_mode(seen.st_mode),
        identity: identity(seen.st_dev, seen.st_ino),
        links: wide(seen.st_nlink),
        size: u64::try_from(seen.st_size).unwrap_or_default(),
        accessed: time(seen.st_atime, seen.st_atime_nsec),
        modified: time(seen.st_mtime, seen.st_mtime_nsec),
        changed: time(seen.st_ctime, seen.st_ctime_nsec),
    }
}

/// A number whose type differs between machines.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

fn times(accessed: NewTime, modified: NewTime) -> Times {
    let time = |time| match time {
        NewTime::Kept => Timespec { tv_sec: 0, tv_nsec: KEPT },
        NewTime::Now => Timespec { tv_sec: 0, tv_nsec: NOW },
        NewTime::At(Time { seconds, nanoseconds }) => {
            Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
        }
    };
    Times { last_access: time(accessed), last_modification: time(modified) }
}
