//! Calls that take a path. Those of a plain name are one system call, and a look before it where a
//! mount could be taken away; any other path is opened first, or the directory of its last name.
//! They open no file itself, so they do not wait for a FIFO or a lease.

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, Stat, Timestamps, UTIME_NOW, UTIME_OMIT, fstat, linkat,
        mkdirat, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
    },
    io::{Errno, Result},
};

use super::{
    mount_point,
    patience::patiently,
    start::{PATH, Start},
};

/// New times of access and modification.
pub type Times = Timestamps;

/// Nanoseconds of a time that stays, and of the present one.
pub const KEPT: i64 = UTIME_OMIT;
/// See [`KEPT`].
pub const NOW: i64 = UTIME_NOW;

/// The directory of a path's last name.
enum Parent<'a> {
    Start(BorrowedFd<'a>),
    Opened(OwnedFd),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Start(start) => *start,
            Self::Opened(opened) => opened.as_fd(),
        }
    }
}

impl Start<'_> {
    /// Attributes of a file; of a link itself unless `follow` is true.
    pub async fn stat(&self, path: &str, follow: bool) -> io::Result<Stat> {
        self.call(path, |path| {
            if is_name(path) {
                let seen = statat(self.directory, path, AtFlags::SYMLINK_NOFOLLOW)?;
                if !follow || FileType::from_raw_mode(seen.st_mode) != FileType::Symlink {
                    return Ok(seen);
                }
            }
            fstat(self.named(path, follow)?)
        })
        .await
    }

    /// Sets the times of a file; those of a link itself unless `follow` is true.
    pub async fn set_times(&self, path: &str, follow: bool, times: &Times) -> io::Result<()> {
        self.call(path, |path| {
            if is_name(path) && !follow {
                return utimensat(self.directory, path, times, AtFlags::SYMLINK_NOFOLLOW);
            }
            utimensat(self.named(path, follow)?, c"", times, AtFlags::EMPTY_PATH)
        })
        .await
    }

    /// Creates a directory.
    pub async fn create_directory(&self, path: &str) -> io::Result<()> {
        self.call(path, |path| {
            let (parent, name) = self.parent(path)?;
            mkdirat(parent, name, Mode::from_raw_mode(0o777))
        })
        .await
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, path: &str) -> io::Result<()> {
        self.call(path, |path| {
            let (parent, name) = self.parent(path)?;
            mount_point::check_removal(parent.as_fd(), name, true)?;
            unlinkat(parent, name, AtFlags::REMOVEDIR)
        })
        .await
    }

    /// Removes a file or a link.
    pub async fn remove_file(&self, path: &str) -> io::Result<()> {
        self.call(path, |path| {
            let (parent, name) = self.parent(path)?;
            mount_point::check_removal(parent.as_fd(), name, false)?;
            unlinkat(parent, name, AtFlags::empty())
        })
        .await
    }

    /// Text of a symbolic link.
    pub async fn read_link(&self, path: &str) -> io::Result<CString> {
        self.call(path, |path| {
            let (parent, name) = self.itself(path)?;
            readlinkat(parent, name, Vec::new())
        })
        .await
    }

    /// Creates a symbolic link with this text.
    pub async fn symlink(&self, text: &str, path: &str) -> io::Result<()> {
        let text = CString::new(text)?;
        self.call(path, |path| {
            let (parent, name) = self.parent(path)?;
            symlinkat(&text, parent, name)
        })
        .await
    }

    async fn call<T>(&self, path: &str, call: impl Fn(&CStr) -> Result<T>) -> io::Result<T> {
        let path = CString::new(path)?;
        patiently(|| Ok(call(&path)?)).await
    }

    /// A descriptor that names a file without opening it.
    fn named(&self, path: &CStr, follow: bool) -> Result<OwnedFd> {
        let flags = if follow { PATH } else { PATH | OFlags::NOFOLLOW };
        self.open(path, flags, Mode::empty())
    }

    /// Directory of the last name, and this name with the slashes behind it. For calls of the
    /// kernel that do not go through a link there, slash or not.
    fn parent<'p>(&self, path: &'p CStr) -> Result<(Parent<'_>, &'p CStr)> {
        let bytes = path.to_bytes();
        let end = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let begin =
            bytes[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        if &bytes[begin..end] == b".." {
            // Refused if it leads above the start.
            self.named(path, true)?;
        }
        let name = path.to_bytes_with_nul().get(begin..).map(CStr::from_bytes_with_nul);
        let name = name.and_then(std::result::Result::ok).ok_or(Errno::INVAL)?;
        if begin == 0 {
            return match bytes {
                [b'/', ..] => Err(Errno::PERM),
                _ => Ok((Parent::Start(self.directory.as_fd()), name)),
            };
        }
        let parent = CString::new(&bytes[..begin]).map_err(|_| Errno::INVAL)?;
        let opened = self.open(&parent, PATH | OFlags::DIRECTORY, Mode::empty())?;
        Ok((Parent::Opened(opened), name))
    }

    /// The same for calls that go through a link with a slash behind it.
    fn itself<'p>(&self, path: &'p CStr) -> Result<(Parent<'_>, &'p CStr)> {
        if path.to_bytes().ends_with(b"/") {
            // A directory, which is no link and gets no second name.
            self.open(path, PATH | OFlags::DIRECTORY, Mode::empty())?;
            return Err(Errno::INVAL);
        }
        self.parent(path)
    }
}

/// Renames a file or directory.
pub async fn rename(from: Start<'_>, old: &str, to: Start<'_>, new: &str) -> io::Result<()> {
    pair(old, new, |old, new| {
        let (from, old) = from.parent(old)?;
        let (to, new) = to.parent(new)?;
        mount_point::check_rename((from.as_fd(), old), (to.as_fd(), new))?;
        renameat(from, old, to, new)
    })
    .await
}

/// Creates a further name of a file, or of a link itself.
pub async fn link(from: Start<'_>, old: &str, to: Start<'_>, new: &str) -> io::Result<()> {
    pair(old, new, |old, new| {
        let (from, old) = from.itself(old)?;
        let (to, new) = to.parent(new)?;
        linkat(from, old, to, new, AtFlags::empty())
    })
    .await
}

async fn pair(old: &str, new: &str, call: impl Fn(&CStr, &CStr) -> Result<()>) -> io::Result<()> {
    let old = CString::new(old)?;
    let new = CString::new(new)?;
    patiently(|| Ok(call(&old, &new)?)).await
}

/// True for one name in the directory itself.
fn is_name(path: &CStr) -> bool {
    let bytes = path.to_bytes();
    !bytes.contains(&b'/') && bytes != b".."
}
