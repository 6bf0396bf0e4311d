//! Files of the host. Every path is resolved inside the root directory by the kernel (`openat2`
//! with `RESOLVE_IN_ROOT`), so no symbolic link of the host leads out of it. A file is replaced by
//! a rename, after its content is on the disk.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chmodat, fchmod,
    fchown, fstat, fsync, mkdirat, openat, openat2, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::Error;

/// The largest configuration, record or program that is read.
const MOST: u64 = 1 << 30;
/// As many symbolic links as the kernel follows.
const LINKS: usize = 40;
/// What a file is called until it is complete.
const UNFINISHED: &str = ".runwasi-new";

/// The host's root directory.
#[derive(Debug)]
pub(crate) struct Root {
    directory: OwnedFd,
    #[cfg(test)]
    changes: std::cell::Cell<Option<usize>>,
}

/// Owner and mode of a file that is written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// Root's, with this mode.
    Root(u32),
    /// Those of the file that is replaced; root's with this mode if there is none.
    Same(u32),
}

/// A name in an open directory.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: String,
    // For messages.
    path: String,
}

impl Root {
    /// Opens the directory.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty());
        let directory = directory.map_err(|error| Error::io(&path.to_string_lossy(), error))?;
        Ok(Self {
            directory,
            #[cfg(test)]
            changes: std::cell::Cell::new(None),
        })
    }

    /// Lets the change after the next `count` changes fail, as if the process had been killed
    /// before it.
    #[cfg(test)]
    pub(crate) fn fail_after(&self, count: usize) {
        self.changes.set(Some(count));
    }

    /// The content of a regular file, through symbolic links; none if it is not there.
    pub(crate) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        // Not blocking: a FIFO in the place of a configuration has no writer.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match self.openat2(path, flags) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(Error::io(path, error)),
        };
        let status = fstat(&file).map_err(|error| Error::io(path, error))?;
        regular(path, &status)?;
        let mut content = Vec::new();
        let read = File::from(file).take(MOST + 1).read_to_end(&mut content);
        read.map_err(|error| Error::io(path, error))?;
        if content.len() as u64 > MOST {
            return Err(Error::file(path, "is too large"));
        }
        Ok(Some(content))
    }

    /// The same as text.
    pub(crate) fn read_text(&self, path: &str) -> Result<Option<String>, Error> {
        let Some(content) = self.read(path)? else { return Ok(None) };
        match String::from_utf8(content) {
            Ok(text) => Ok(Some(text)),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count();
                Err(Error::config(path, line + 1, "not UTF-8"))
            }
        }
    }

    /// The content of a file of this program's own: a symbolic link in its place is an error.
    pub(crate) fn read_own(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(place) = self.place(path)? else { return Ok(None) };
        match place.status()? {
            None => Ok(None),
            Some(status) => {
                regular(path, &status)?;
                self.read(path)
            }
        }
    }

    /// Whether a directory is there.
    pub(crate) fn is_directory(&self, path: &str) -> bool {
        self.openat2(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC).is_ok()
    }

    /// False for a process with another root directory. True if that cannot be told.
    pub(crate) fn is_root_of(&self, process: &str) -> bool {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = self.openat2(process, flags) else { return true };
        // A link of the kernel, which `openat2` here does not follow.
        let theirs = statat(&directory, "root", AtFlags::empty()).ok();
        let ours = fstat(&self.directory).ok();
        theirs.zip(ours).is_none_or(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Names in a directory, sorted; none if it is not there.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = match self.openat2(path, flags) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(path, error)),
        };
        let entries = Dir::new(directory).map_err(|error| Error::io(path, error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::io(path, error))?;
            // A name that is no text is none of those that anybody asks for.
            if let Ok(name) = entry.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Replaces a file, or makes it. Its directory must be there. A symbolic link stays: its target
    /// is replaced.
    pub(crate) fn write(&self, path: &str, content: &[u8], access: Access) -> Result<(), Error> {
        self.prepare(path, content, access)?;
        self.complete(path)
    }

    /// Writes what is to replace a file beside it, where [`unfinished`] says.
    pub(crate) fn prepare(&self, path: &str, content: &[u8], access: Access) -> Result<(), Error> {
        let place = self.target(path)?;
        let status = place.status()?;
        if let Some(status) = &status {
            regular(path, status)?;
        }
        let fail = |error: Errno| Error::io(path, error);
        let unfinished = place.unfinished();
        place.unlink(&unfinished, AtFlags::empty())?;
        self.changes(path)?;
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let created = openat(&place.directory, &unfinished, flags, Mode::RUSR | Mode::WUSR);
        let mut file = File::from(created.map_err(fail)?);
        file.write_all(content).map_err(|error| Error::io(path, error))?;
        let (mode, owner) = access.of(status.as_ref());
        let new = fstat(&file).map_err(fail)?;
        if owner != (new.st_uid, new.st_gid) {
            let (user, group) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
            fchown(&file, Some(user), Some(group)).map_err(fail)?;
        }
        // After the owner, whose change clears bits of the mode.
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(fail)?;
        file.sync_all().map_err(|error| Error::io(path, error))
    }

    /// Puts what was prepared in the place of the file.
    pub(crate) fn complete(&self, path: &str) -> Result<(), Error> {
        let place = self.target(path)?;
        self.changes(path)?;
        renameat(&place.directory, place.unfinished(), &place.directory, &place.name)
            .map_err(|error| Error::io(path, error))?;
        place.sync()
    }

    /// Removes a file and what an ended run left of it. That it is not there is no error.
    pub(crate) fn remove(&self, path: &str) -> Result<(), Error> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        place.unlink(&place.unfinished(), AtFlags::empty())?;
        if place.status()?.is_some() {
            self.changes(path)?;
            place.unlink(&place.name, AtFlags::empty())?;
            place.sync()?;
        }
        Ok(())
    }

    /// Removes what was prepared and is not completed.
    pub(crate) fn remove_unfinished(&self, path: &str) -> Result<(), Error> {
        match self.place(path)? {
            None => Ok(()),
            Some(_) => {
                let place = self.target(path)?;
                place.unlink(&place.unfinished(), AtFlags::empty())
            }
        }
    }

    /// Those of the directories that lead to `path`, itself included, that are not there; the
    /// outermost first.
    pub(crate) fn missing_directories(&self, path: &str) -> Vec<String> {
        let all = Path::new(path).ancestors().map(|path| path.to_string_lossy().into_owned());
        let mut missing: Vec<String> = all.take_while(|path| !self.is_directory(path)).collect();
        missing.reverse();
        missing
    }

    /// Makes a directory and those that lead to it.
    pub(crate) fn make_directories(&self, path: &str) -> Result<(), Error> {
        for path in self.missing_directories(path) {
            let place = self.place(&path)?;
            let place = place.ok_or_else(|| Error::io(&path, Errno::NOENT))?;
            self.changes(&path)?;
            let mode = Mode::from_raw_mode(0o755);
            let made = mkdirat(&place.directory, &place.name, mode);
            // Whatever the umask of who runs this: others read what is in them.
            made.and_then(|()| chmodat(&place.directory, &place.name, mode, AtFlags::empty()))
                .map_err(|error| Error::io(&path, error))?;
            place.sync()?;
        }
        Ok(())
    }

    /// Removes an empty directory; any other stays.
    pub(crate) fn remove_directory(&self, path: &str) -> Result<(), Error> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        if place.status()?.is_none() {
            return Ok(());
        }
        self.changes(path)?;
        match unlinkat(&place.directory, &place.name, AtFlags::REMOVEDIR) {
            Ok(()) => place.sync(),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR) => Ok(()),
            Err(error) => Err(Error::io(path, error)),
        }
    }

    /// The target of a symbolic link, as it stands there; none if there is no link.
    pub(crate) fn link(&self, path: &str) -> Option<PathBuf> {
        self.place(path).ok()??.link().ok()
    }

    /// True if both paths lead to the same file, which is there.
    pub(crate) fn is_same(&self, left: &str, right: &str) -> bool {
        let identity = |path: &str| {
            let file = self.openat2(path, OFlags::PATH | OFlags::CLOEXEC).ok()?;
            fstat(file).ok().map(|status| (status.st_dev, status.st_ino))
        };
        identity(left).is_some_and(|left| identity(right) == Some(left))
    }

    /// An open directory, for a lock.
    pub(crate) fn directory(&self, path: &str) -> Result<OwnedFd, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        self.openat2(path, flags).map_err(|error| Error::io(path, error))
    }

    /// Where a path ends after its last symbolic links, which may lead to a file that is not there.
    fn target(&self, path: &str) -> Result<Place, Error> {
        let mut next = path.to_owned();
        for _ in 0..LINKS {
            let place = self.place(&next)?.ok_or_else(|| Error::io(path, Errno::NOENT))?;
            let link = match place.status()? {
                Some(status) if kind(&status) == FileType::Symlink => place.link()?,
                _ => return Ok(place),
            };
            let parent = Path::new(&next).parent().unwrap_or(Path::new("/"));
            // An absolute target replaces the parent: it is one of the host, and resolved inside
            // the root like any other.
            next = parent.join(link).to_string_lossy().into_owned();
        }
        Err(Error::io(path, Errno::LOOP))
    }

    /// The directory of a path, open, and the last name; none if the directory is not there.
    fn place(&self, path: &str) -> Result<Option<Place>, Error> {
        let whole = Path::new(path);
        let name = whole.file_name().and_then(OsStr::to_str);
        let (Some(parent), Some(name)) = (whole.parent(), name) else {
            return Err(Error::file(path, "names no file"));
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.openat2(&parent.to_string_lossy(), flags) {
            Ok(directory) => {
                Ok(Some(Place { directory, name: name.to_owned(), path: path.to_owned() }))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(Error::io(path, error)),
        }
    }

    fn openat2(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.directory, path, flags, Mode::empty(), resolve) {
                // A rename at the same time, which the kernel cannot tell from an escape.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    #[cfg(test)]
    fn changes(&self, path: &str) -> Result<(), Error> {
        match self.changes.get() {
            Some(0) => Err(Error::file(path, "killed by the test")),
            left => {
                self.changes.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    #[cfg(not(test))]
    fn changes(&self, _path: &str) -> Result<(), Error> {
        Ok(())
    }
}

/// The directory of an absolute path.
pub(crate) fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// Where a file is until it is complete.
pub(crate) fn unfinished(path: &str) -> String {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    format!("{}/{}", parent(path), unfinished_name(name))
}

fn unfinished_name(name: &str) -> String {
    format!(".{name}{UNFINISHED}")
}

impl Place {
    fn status(&self) -> Result<Option<Stat>, Error> {
        match statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io(&self.path, error)),
        }
    }

    fn link(&self) -> Result<PathBuf, Error> {
        let link = readlinkat(&self.directory, &self.name, Vec::new());
        let link = link.map_err(|error| Error::io(&self.path, error))?;
        let link = link.into_string().map_err(|_| Error::file(&self.path, "links to no text"))?;
        Ok(PathBuf::from(link))
    }

    fn unfinished(&self) -> String {
        unfinished_name(&self.name)
    }

    fn unlink(&self, name: &str, flags: AtFlags) -> Result<(), Error> {
        match unlinkat(&self.directory, name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Error::io(&self.path, error)),
        }
    }

    /// The names of the directory onto the disk.
    fn sync(&self) -> Result<(), Error> {
        fsync(&self.directory).map_err(|error| Error::io(&self.path, error))
    }
}

impl Access {
    fn of(self, status: Option<&Stat>) -> (u32, (u32, u32)) {
        match (self, status) {
            (Self::Same(_), Some(status)) => {
                (status.st_mode & 0o7777, (status.st_uid, status.st_gid))
            }
            (Self::Root(mode) | Self::Same(mode), _) => (mode, (0, 0)),
        }
    }
}

fn kind(status: &Stat) -> FileType {
    FileType::from_raw_mode(status.st_mode)
}

fn regular(path: &str, status: &Stat) -> Result<(), Error> {
    match kind(status) {
        FileType::RegularFile => Ok(()),
        FileType::Symlink => Err(Error::file(path, "is a symbolic link, not a file")),
        _ => Err(Error::file(path, "is not a regular file")),
    }
}
