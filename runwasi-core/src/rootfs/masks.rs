//! `linux.readonlyPaths` and `linux.maskedPaths` of `config.json`, in the container's own tree, as
//! runc does it:
//!
//! | path | read-only | masked |
//! |---|---|---|
//! | a directory | a bind of itself, `ro` | an empty directory, `ro` |
//! | a file | the same | our own `/dev/null` |
//! | missing | ignored | ignored |
//!
//! Links are resolved inside the tree.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{FileType, OFlags, fstat},
    mount::MountAttrFlags,
};

use super::{attributes, directory::Directory, error::RootfsError, namespace::Inside, volumes};
use crate::{
    bundle::config::Config,
    sys::{MountAttributes, MountChange},
};

const READ_ONLY: &str = "linux.readonlyPaths";
const MASKED: &str = "linux.maskedPaths";

/// Restricts the paths of a tree that is complete.
pub(super) fn apply(
    inside: &Inside,
    directories: &[Directory],
    config: &Config,
) -> Result<(), RootfsError> {
    let mut places = Places::of(directories);
    // Read-only first: a masked path below a read-only one stays masked.
    for path in &config.read_only_paths {
        let done = places.find(path).and_then(|found| make_read_only(inside, found));
        done.map_err(RootfsError::path(READ_ONLY, path))?;
    }
    for path in &config.masked_paths {
        let done = places.find(path).and_then(|found| mask(inside, found));
        done.map_err(RootfsError::path(MASKED, path))?;
    }
    Ok(())
}

/// Refuses paths that are there, for an ordinary user, who can restrict none.
pub(super) fn refuse(directories: &[Directory], config: &Config) -> Result<(), RootfsError> {
    let mut places = Places::of(directories);
    let mut listed = |field, paths: &'_ [PathBuf]| {
        for path in paths {
            if matches!(places.find(path), Ok(MaskTarget::Missing)) {
                continue;
            }
            let error = io::Error::new(io::ErrorKind::PermissionDenied, "only root can mount");
            return Err(RootfsError::path(field, path)(error));
        }
        Ok(())
    };
    listed(READ_ONLY, &config.read_only_paths)?;
    listed(MASKED, &config.masked_paths)
}

enum MaskTarget<'a> {
    Missing,
    /// A preopened directory itself.
    Top(&'a Directory),
    /// A file or directory below one.
    Below(OwnedFd),
}

/// Places of paths in the preopened directories that contain them.
struct Places<'a> {
    directories: &'a [Directory],
    /// Directories that are missing. Every engine's default config lists a dozen files of `/proc`,
    /// and the image of a wasm program often has no such directory.
    missing: Vec<PathBuf>,
}

impl<'a> Places<'a> {
    fn of(directories: &'a [Directory]) -> Self {
        Self { directories, missing: Vec::new() }
    }

    fn find(&mut self, path: &Path) -> io::Result<MaskTarget<'a>> {
        let path = volumes::clean(path);
        if self.missing.iter().any(|missing| self.lies_in(&path, missing)) {
            return Ok(MaskTarget::Missing);
        }
        let found = self.look_up(&path)?;
        if let (MaskTarget::Missing, Some(parent)) = (&found, path.parent())
            && matches!(self.look_up(parent), Ok(MaskTarget::Missing))
        {
            self.missing.push(parent.to_owned());
        }
        Ok(found)
    }

    /// True for a path below a directory of the same preopened directory.
    fn lies_in(&self, path: &Path, directory: &Path) -> bool {
        let top = |path| self.containing(path).map(|found| &found.path);
        path.starts_with(directory) && top(path) == top(directory)
    }

    /// The preopened directory that decides about a path: the deepest one.
    fn containing(&self, path: &Path) -> Option<&'a Directory> {
        let containing =
            self.directories.iter().filter(|directory| path.starts_with(&directory.path));
        containing.max_by_key(|directory| directory.path.as_os_str().len())
    }

    fn look_up(&self, path: &Path) -> io::Result<MaskTarget<'a>> {
        let Some(directory) = self.containing(path) else { return Ok(MaskTarget::Missing) };
        let inner = path.strip_prefix(&directory.path).unwrap_or(path);
        if inner.as_os_str().is_empty() {
            return Ok(MaskTarget::Top(directory));
        }
        match volumes::inside(&*directory.file(), inner, OFlags::PATH) {
            Ok(found) => Ok(MaskTarget::Below(found)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(MaskTarget::Missing),
                _ => Err(error),
            },
        }
    }
}

fn make_read_only(inside: &Inside, found: MaskTarget<'_>) -> io::Result<()> {
    let mount = match found {
        MaskTarget::Missing => return Ok(()),
        MaskTarget::Top(directory) => OwnedFd::from(directory.file().try_clone()?),
        MaskTarget::Below(place) => {
            // With the mounts on it, which keep their own attributes.
            let mount = inside.clone_of(&place, true)?;
            inside.attach(&mount, &place)?;
            mount
        }
    };
    let read_only = MountAttributes::set(MountAttrFlags::MOUNT_ATTR_RDONLY);
    attributes::change(inside, &mount, MountChange::single(read_only))
}

fn mask(inside: &Inside, found: MaskTarget<'_>) -> io::Result<()> {
    match found {
        MaskTarget::Missing => Ok(()),
        MaskTarget::Top(directory) => {
            let empty = inside.empty()?;
            inside.attach(&empty, &*directory.file())?;
            // The guest's descriptor is of what is covered now.
            *directory.file.lock() = Arc::new(File::from(empty));
            Ok(())
        }
        MaskTarget::Below(place) => {
            let is_directory =
                FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory;
            let cover = if is_directory { inside.empty()? } else { inside.null()? };
            inside.attach(&cover, &place)
        }
    }
}
