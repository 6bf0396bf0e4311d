//! Entries of a directory, read in batches.
//!
//! wasmtime-wasi reads a whole directory before it returns the first entry, with several system
//! calls for each. A batch here is one `getdents64(2)` of a small buffer and one `fstatat(2)` for
//! each of its entries. The next batch begins at the cookie of the last entry, which the kernel
//! gives: nothing is read twice, and nothing is kept between the batches.

use std::{
    ffi::CStr,
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io,
    mem::MaybeUninit,
    os::fd::AsFd,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom, fstat, openat, seek, statat},
    io::Errno,
};

/// Size of the buffer: about 100 entries with short names, so less than a millisecond.
const BUFFER: usize = 4 << 10;

/// An entry. `.` and `..` are entries, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
    /// Hash of device and inode, as wasmtime-wasi makes it.
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

/// Reads the entries behind `cookie`, which is 0 or that of an entry. Empty at the end.
pub(crate) fn batch(directory: &File, cookie: u64) -> io::Result<Vec<Entry>> {
    // Opened again: the position of `directory` is shared by all processes of the container.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = openat(directory, c".", flags, Mode::empty())?;
    if cookie != 0 {
        seek(&opened, SeekFrom::Start(cookie))?;
    }
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut raw = RawDir::new(&opened, &mut buffer);
    let mut entries = Vec::new();
    while let Some(entry) = raw.next() {
        let entry = entry?;
        let next = entry.next_entry_cookie();
        // A file that is gone since has no entry.
        if let Some(entry) = look(&opened, entry.file_name(), next)? {
            entries.push(entry);
        }
        // Only this buffer. If all its files are gone, the next one has to tell where to go on.
        if raw.is_buffer_empty() && !entries.is_empty() {
            break;
        }
    }
    Ok(entries)
}

fn look(directory: impl AsFd, name: &CStr, next: u64) -> io::Result<Option<Entry>> {
    let relative = matches!(name.to_bytes(), b"." | b"..");
    // `..` leads out of what the guest may see. It counts as the directory itself.
    let seen = if relative {
        fstat(&directory)
    } else {
        statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
    };
    let seen = match seen {
        Err(Errno::NOENT) => return Ok(None),
        seen => seen?,
    };
    let name = name.to_bytes().to_vec();
    let kind = FileType::from_raw_mode(seen.st_mode);
    Ok(Some(Entry { name, kind, identity: identity(seen.st_dev, seen.st_ino), next }))
}

fn identity(device: u64, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, inode).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, os::unix::fs::symlink};

    use super::*;

    fn all(directory: &File) -> Vec<Entry> {
        let mut entries = Vec::new();
        loop {
            let read = batch(directory, entries.last().map_or(0, |last: &Entry| last.next));
            match read.unwrap() {
                batch if batch.is_empty() => return entries,
                batch => entries.extend(batch),
            }
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
        let first = batch(&opened, 0).unwrap();
        assert!((10..400).contains(&first.len()), "{}", first.len());
        let entries = all(&opened);
        assert_eq!(entries.len(), names.len() + 2);
        let found = entries.iter().filter(|entry| !entry.is_relative());
        let found = found.map(|entry| String::from_utf8(entry.name.clone()).unwrap()).collect();
        assert_eq!(names, found);
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
