//! Mount table of a namespace, parsed from `proc_pid_mountinfo(5)`. Its paths are bytes of any
//! kind.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx},
    mount::MountFlags,
};

use super::{namespace::Inside, options::mount_flag};

/// The mounts of a namespace.
pub(super) struct MountTable(Vec<Entry>);

/// One mount.
pub(super) struct Entry {
    /// The kernel's number of the mount.
    pub(super) id: u64,
    /// The number of the mount that carries it.
    pub(super) parent: u64,
    /// Its mount point.
    pub(super) path: PathBuf,
    /// Flags of the mount itself.
    pub(super) flags: MountFlags,
    /// Name of the file system, as in `mount -t`.
    pub(super) kind: String,
    /// Device, root, place, options and kind. A number can be another mount's a moment later; with
    /// the same of these it is a mount of the same content at the same place.
    pub(super) signature: Vec<u8>,
}

impl MountTable {
    /// The table of the host's namespace. It may hold ten thousand mounts, so it is read only for
    /// binds that may have mounts below them.
    pub(super) fn of_host() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/self/mountinfo")?))
    }

    pub(super) fn parse(table: &[u8]) -> Self {
        Self(table.split(|byte| *byte == b'\n').filter_map(Entry::parse).collect())
    }

    pub(super) fn get(&self, id: u64) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.id == id)
    }

    /// All mounts below a mount, at any depth. Those nearer to it come first.
    pub(super) fn below(&self, id: u64) -> Vec<&Entry> {
        let mut found: Vec<&Entry> = Vec::new();
        let mut parents = vec![id];
        while let Some(parent) = parents.pop() {
            let children = self.0.iter().filter(|entry| entry.parent == parent);
            for child in children {
                parents.push(child.id);
                found.push(child);
            }
        }
        found
    }

    /// The mounts at places inside a directory, without that at the directory itself.
    pub(super) fn inside(&self, directory: &Path) -> Vec<&Entry> {
        let is_inside = |path: &Path| path != directory && path.starts_with(directory);
        self.0.iter().filter(|entry| is_inside(&entry.path)).collect()
    }

    /// True if another mount lies over this one, at its own place or above it in the path.
    pub(super) fn is_hidden(&self, entry: &Entry) -> bool {
        // The mounts that carry this one are above it in the path, too, and do not hide it.
        let carrying = self.carrying(entry);
        self.0.iter().any(|other| {
            entry.path.starts_with(&other.path)
                && other.id != entry.id
                && !carrying.contains(&other.id)
        })
    }

    /// The numbers of the mounts that carry this one: its parent, that one's parent, and so on.
    fn carrying(&self, entry: &Entry) -> Vec<u64> {
        let mut carrying = Vec::new();
        let mut parent = self.get(entry.parent);
        // The root of a namespace may be its own parent.
        while let Some(found) = parent.filter(|found| !carrying.contains(&found.id)) {
            carrying.push(found.id);
            parent = self.get(found.parent);
        }
        carrying
    }
}

impl Entry {
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let mut next = || fields.next();
        let [id, parent, device, root, path, options] =
            [next()?, next()?, next()?, next()?, next()?, next()?];
        // Optional fields of variable number precede the dash; nothing here needs them.
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        let number = |field| std::str::from_utf8(field).ok()?.parse().ok();
        let names = std::str::from_utf8(options).unwrap_or_default().split(',');
        Some(Self {
            id: number(id)?,
            parent: number(parent)?,
            path: unescape(path),
            flags: names.filter_map(mount_flag).fold(MountFlags::empty(), |all, one| all | one),
            // `fuse.` can have anything behind it.
            kind: String::from_utf8_lossy(kind).into_owned(),
            signature: [device, root, path, options, kind].join(&b' '),
        })
    }

    /// Opens the root of this mount, which is one of the private namespace.
    pub(super) fn open(&self, inside: &Inside) -> io::Result<OwnedFd> {
        self.open_with(inside, ResolveFlags::empty())
    }

    /// The same with further rules for the path.
    pub(super) fn open_with(&self, inside: &Inside, rules: ResolveFlags) -> io::Result<OwnedFd> {
        // The path must resolve to this mount itself, not through a link to another one.
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | rules;
        let path = self.path.strip_prefix("/").unwrap_or(&self.path);
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let opened = openat2(inside.root(), path, flags, Mode::empty(), resolve)?;
        // The path comes from a table read earlier, so the mount there may be another one by now.
        if mount_id(&opened) != Some(self.id) {
            let moved = format!("the mount at {} has moved", self.path.display());
            return Err(io::Error::other(moved));
        }
        Ok(opened)
    }
}

/// The kernel's number of the mount that contains an open file.
pub(super) fn mount_id(fd: impl AsFd) -> Option<u64> {
    let told = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    // The mask tells if the kernel has filled in the number.
    (told.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(told.stx_mnt_id)
}

/// Decodes a path of the mount table.
fn unescape(path: &[u8]) -> PathBuf {
    // The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) if first == b'\\' => {
                bytes.push(code);
                rest = &after[3..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(br"/a\040b\134c"), PathBuf::from(r"/a b\c"));
        assert_eq!(unescape(br"/a\04"), PathBuf::from(r"/a\04"));
    }

    #[test]
    fn kind_follows_any_number_of_optional_fields() {
        let table = MountTable::parse(
            b"25 1 0:3 / / rw,nosuid shared:1 master:2 - ext4 /dev/a rw\n\
             26 25 0:4 / /v ro - fuse.x x rw\n",
        );
        let kinds: Vec<_> = table.0.iter().map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["ext4", "fuse.x"]);
        assert_eq!(table.get(26).unwrap().flags, MountFlags::RDONLY);
    }

    #[test]
    fn paths_and_kinds_may_have_any_bytes() {
        let table = MountTable::parse(
            b"25 1 0:3 / / rw - ext4 /dev/a rw\n\
             26 25 0:4 /r\xff /v\xfe\\040 ro - fuse.\xfd \xfc rw\n\
             27 26 0:5 / /v\xfe\\040/p rw - proc proc rw\n",
        );
        let path = |id| table.get(id).unwrap().path.as_os_str().as_bytes();
        assert_eq!(path(26), b"/v\xfe ");
        assert_eq!(table.get(26).unwrap().flags, MountFlags::RDONLY);
        let kinds: Vec<_> = table.below(25).iter().map(|entry| entry.kind.as_str()).collect();
        assert_eq!(kinds, ["fuse.\u{fffd}", "proc"]);
    }

    #[test]
    fn mounts_over_a_place_or_over_a_directory_above_hide_it() {
        // `/a/x` and `/a/y` are mounted, then `/a` is covered, then `/a/y` is mounted again on the
        // cover, then twice at one place.
        let table = MountTable::parse(
            b"1 1 0:1 / / rw - tmpfs t rw\n\
             2 1 0:2 / /a rw - tmpfs t rw\n\
             3 2 0:3 / /a/x rw - proc p rw\n\
             4 2 0:4 / /a rw - tmpfs t rw\n\
             5 4 0:5 / /a/y rw - proc p rw\n\
             6 5 0:6 / /a/y rw - tmpfs t rw\n\
             7 4 0:7 / /a/yy rw - proc p rw\n",
        );
        let hidden = |id| table.is_hidden(table.get(id).unwrap());
        let found: Vec<u64> = (1..=7).filter(|id| hidden(*id)).collect();
        assert_eq!(found, [2, 3, 5]);
        assert_eq!(table.below(2).len(), 5);
        assert!(table.inside(Path::new("/a/y")).is_empty());
        assert_eq!(table.inside(Path::new("/a")).len(), 4);
    }
}
