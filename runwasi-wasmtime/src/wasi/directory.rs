//! Entries of a directory, read in batches.
//!
//! wasmtime-wasi reads a whole directory before it returns the first entry, with several system
//! calls for each. A batch here is one `getdents64(2)` of a small buffer and one `fstatat(2)` for
//! each of its entries.
//!
//! A listing keeps its directory open, as `opendir(3)` does. The cookies of tmpfs before Linux 6.6
//! and of overlayfs are positions: in a directory that is opened again, a guest that removes files
//! while it reads would miss one entry for each removed one.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
    sync::Arc,
};

use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RawDir, RawDirEntry, SeekFrom, fstat, openat, seek, statat,
    },
    io::Errno,
};

/// Size of the buffer: about 100 entries with short names, so less than a millisecond.
const BUFFER: usize = 4 << 10;

/// An entry. `.` and `..` are entries, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
    /// Hash of device and inode.
    pub(crate) identity: u64,
    /// Cookie of the entries behind this one.
    pub(crate) next: u64,
}

impl Entry {
    /// True for `.` and `..`.
    pub(crate) fn is_relative(&self) -> bool {
        matches!(self.name.as_slice(), b"." | b"..")
    }
}

/// A directory that a guest reads.
pub(crate) struct Listing {
    opened: Arc<File>,
    /// Cookie of the entries in `batch`.
    begin: u64,
    /// The entries that were read last.
    batch: Vec<Entry>,
}

impl Listing {
    /// Begins to read a directory.
    pub(crate) fn new(directory: &File) -> io::Result<Self> {
        // Opened again: the position of `directory` is shared by all processes of the container.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(directory, c".", flags, Mode::empty())?;
        Ok(Self { opened: Arc::new(opened.into()), begin: 0, batch: Vec::new() })
    }

    /// The open directory.
    pub(crate) fn file(&self) -> &Arc<File> {
        &self.opened
    }

    /// Some of the entries behind `cookie`, which is 0 or that of an entry. Empty at the end.
    pub(crate) fn behind(&mut self, cookie: u64) -> io::Result<&[Entry]> {
        // Not read again: a position would count removed entries no more.
        let known = match self.batch.iter().position(|entry| entry.next == cookie) {
            _ if cookie == self.begin => Some(0),
            Some(last) => Some(last + 1),
            None => None,
        };
        if let Some(first) = known.filter(|first| *first < self.batch.len()) {
            return Ok(&self.batch[first..]);
        }
        if known.is_none() {
            seek(&*self.opened, SeekFrom::Start(cookie))?;
        }
        self.batch = batch(&self.opened)?;
        self.begin = cookie;
        Ok(&self.batch)
    }
}

/// Reads the entries at the directory's position. Empty at the end.
fn batch(opened: &File) -> io::Result<Vec<Entry>> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut raw = RawDir::new(opened, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        // A file that is gone since has no entry.
        if let Some(entry) = look(opened, &entry)? {
            entries.push(entry);
        }
        // Only this buffer. If all its files are gone, the next one has to tell where to go on.
        if raw.is_buffer_empty() && !entries.is_empty() {
            break;
        }
    }
    Ok(entries)
}

fn look(directory: impl AsFd, raw: &RawDirEntry<'_>) -> io::Result<Option<Entry>> {
    let name = raw.file_name();
    let relative = matches!(name.to_bytes(), b"." | b"..");
    // `..` leads out of what the guest may see. It counts as the directory itself.
    let seen = if relative {
        fstat(&directory)
    } else {
        statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
    };
    let (kind, device, inode) = match seen {
        Ok(seen) => (FileType::from_raw_mode(seen.st_mode), seen.st_dev, seen.st_ino),
        Err(Errno::NOENT) => return Ok(None),
        // Listed all the same, as by `readdir(3)`: the place of a mount without its server, or a
        // file in a directory that may be read and not searched.
        Err(_) => (raw.file_type(), fstat(&directory)?.st_dev, raw.ino()),
    };
    let identity = identity(device, inode);
    let next = raw.next_entry_cookie();
    Ok(Some(Entry { name: name.to_bytes().to_vec(), kind, identity, next }))
}

/// Hash of device and inode, as wasmtime-wasi makes it.
pub(crate) fn identity(device: u64, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, inode).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
        thread,
    };

    use super::*;

    fn all(directory: &File) -> Vec<Entry> {
        let mut listing = Listing::new(directory).unwrap();
        let mut entries = Vec::new();
        loop {
            let cookie = entries.last().map_or(0, |last: &Entry| last.next);
            match listing.behind(cookie).unwrap() {
                [] => return entries,
                batch => entries.extend_from_slice(batch),
            }
        }
    }

    /// The guest's buffer ends in the middle of a batch.
    #[test]
    fn removal_while_reading_loses_no_entry() {
        // A tmpfs, whose cookies are positions in older kernels.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        for n in 0..3000 {
            fs::write(directory.path().join(format!("a-file-{n}")), "").unwrap();
        }
        let mut listing = Listing::new(&File::open(directory.path()).unwrap()).unwrap();
        let mut cookie = 0;
        loop {
            let batch = listing.behind(cookie).unwrap();
            let Some(last) = batch.iter().take(7).next_back() else { break };
            cookie = last.next;
            for entry in batch.iter().take(7).filter(|entry| !entry.is_relative()) {
                let name = std::str::from_utf8(&entry.name).unwrap();
                fs::remove_file(directory.path().join(name)).unwrap();
            }
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn any_cookie_of_the_listing_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..1000 {
            fs::write(directory.path().join(format!("a-file-{n}")), "").unwrap();
        }
        let opened = File::open(directory.path()).unwrap();
        let entries = all(&opened);
        let mut listing = Listing::new(&opened).unwrap();
        for n in [0, 700, 3, 998] {
            let found = listing.behind(entries[n].next).unwrap();
            assert_eq!(found[0], entries[n + 1], "behind entry {n}");
        }
    }

    #[test]
    fn batches_are_small_and_have_every_entry_once() {
        let directory = tempfile::tempdir().unwrap();
        let names: BTreeSet<_> = (0..3000).map(|n| format!("a-file-{n}")).collect();
        for name in &names {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let opened = File::open(directory.path()).unwrap();
        let mut listing = Listing::new(&opened).unwrap();
        let first = listing.behind(0).unwrap().len();
        assert!((10..400).contains(&first), "{first}");
        let entries = all(&opened);
        assert_eq!(entries.len(), names.len() + 2);
        let found = entries.iter().filter(|entry| !entry.is_relative());
        let found = found.map(|entry| String::from_utf8(entry.name.clone()).unwrap()).collect();
        assert_eq!(names, found);
    }

    #[test]
    fn entries_that_cannot_be_examined_are_listed_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("inner")).unwrap();
        fs::write(directory.path().join("file"), "").unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o744)).unwrap();
        let mut listing = Listing::new(&File::open(directory.path()).unwrap()).unwrap();
        let file = directory.path().join("file");
        let entries = thread::spawn(move || {
            // SAFETY: no pointer is passed. The thread, which alone is changed, ends with this
            // user, who may read the directory and not search it.
            unsafe { libc::setfsuid(1000) };
            assert!(fs::metadata(file).is_err());
            listing.behind(0).map(<[Entry]>::to_vec)
        });
        let entries = entries.join().unwrap().unwrap();
        let kind =
            |name: &[u8]| entries.iter().find(|entry| entry.name == name).map(|entry| entry.kind);
        assert_eq!(kind(b"inner"), Some(FileType::Directory));
        assert_eq!(kind(b"file"), Some(FileType::RegularFile));
    }

    #[test]
    fn kinds_are_those_of_the_entries_themselves() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("inner")).unwrap();
        symlink("inner", directory.path().join("link")).unwrap();
        let opened = File::open(directory.path()).unwrap();
        let entries = all(&opened);
        let of = |name: &[u8]| entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(of(b"inner").kind, FileType::Directory);
        assert_eq!(of(b"link").kind, FileType::Symlink);
        assert_eq!(of(b"..").identity, of(b".").identity);
        assert_ne!(of(b"inner").identity, of(b"..").identity);
    }
}
