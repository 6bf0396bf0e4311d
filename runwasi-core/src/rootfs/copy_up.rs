//! `tmpcopyup`: a tmpfs begins with the content of the directory that it covers.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, chmodat, chownat, mkdirat, openat2,
    readlinkat, statat, symlinkat,
};
use rustix::process::{Gid, Uid};

/// Copies directories, files and links with their modes and owners. Others are left out: a guest
/// could not open them.
pub(super) fn copy_up(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    // A list and no recursion: the image decides how deep its directories are.
    let mut directories = vec![PathBuf::from(".")];
    while let Some(directory) = directories.pop() {
        let source = open(from, &directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let target = open(to, &directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&source)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let name = Path::new(OsStr::from_bytes(name.to_bytes()));
            let found = statat(&source, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if copy_entry(&source, &target, name, &found)? {
                directories.push(directory.join(name));
            }
        }
    }
    Ok(())
}

/// Copies one entry. True for a directory, whose entries are still to be copied.
fn copy_entry(source: &OwnedFd, target: &OwnedFd, name: &Path, found: &Stat) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(found.st_mode);
    match kind {
        FileType::Directory => mkdirat(target, name, Mode::from(0o700))?,
        FileType::RegularFile => {
            let mut from = File::from(open(source, name, OFlags::RDONLY)?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let mut to = File::from(open(target, name, flags)?);
            io::copy(&mut from, &mut to)?;
        }
        FileType::Symlink => symlinkat(readlinkat(source, name, Vec::new())?, target, name)?,
        _ => return Ok(false),
    }
    let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    chownat(target, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        // After the owner, whose change takes setuid away.
        chmodat(target, name, Mode::from_raw_mode(found.st_mode), AtFlags::empty())?;
    }
    Ok(kind == FileType::Directory)
}

fn open(root: impl AsFd, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from(0o600) } else { Mode::empty() };
    Ok(openat2(root, path, flags, mode, resolve)?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn names_may_have_any_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        let names = [&b"d\xff"[..], b"f\xfe", b"l\xfd"].map(OsStr::from_bytes);
        fs::create_dir_all(from.join(names[0])).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join(names[0]).join(names[1]), "content").unwrap();
        symlink(names[1], from.join(names[0]).join(names[2])).unwrap();
        let opened = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        copy_up(&opened(&from), &opened(&to)).unwrap();
        // By the link, whose text has such bytes as well.
        let copied = fs::read_to_string(to.join(names[0]).join(names[2])).unwrap();
        assert_eq!(copied, "content");
    }

    #[test]
    fn content_comes_with_modes_and_links() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::create_dir_all(from.join("deep/er")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("deep/er/f"), "content").unwrap();
        fs::set_permissions(from.join("deep/er/f"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        let opened = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        copy_up(&opened(&from), &opened(&to)).unwrap();
        assert_eq!(fs::read_to_string(to.join("deep/er/f")).unwrap(), "content");
        assert_eq!(fs::metadata(to.join("deep/er/f")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/passwd"));
    }
}
