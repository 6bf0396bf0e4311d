//! Cache of compiled code on disk: one file for each pair of engine key and artifact digest. All
//! shims of the node share it and map the same pages.
//!
//! ```text
//! <directory>/                    mode 0700, owned by this user
//!   <engine key>-<sha256>.cwasm   compiled code, then a trailer of 16 bytes
//!   .<engine key>-<sha256>.tmp    written by the holder of its lock; renamed when complete
//!   seen/                         see `digests`
//! ```
//!
//! The trailer is a magic number (8 bytes), the CRC-32 of the code (4 bytes) and zeros (4 bytes).
//!
//! Compiled code is native code, and the process runs it. So a file is trusted only if no other
//! user could have written it (owner and mode of directory and file) and if it is undamaged (CRC).
//! Any other file counts as absent: the code is compiled again and the file replaced. The CRC
//! detects damage only; owner and mode protect against other users.
//!
//! A process locks the temporary file before it compiles. The kernel releases the lock of a process
//! that dies. So a temporary file without a lock is a leftover, which the next process reuses or
//! removes.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, utimensat};

use crate::{digest::Digest, engine::KeptCode, metrics::code as metrics};

const MAGIC: &[u8; 8] = b"runwasi1";
const TRAILER: usize = 16;
pub(super) const EXTENSION: &str = "cwasm";
pub(super) const TEMPORARY: &str = "tmp";

/// How far ahead of the clock a time of a last use may be.
const AHEAD: Duration = Duration::from_secs(60);

/// Cache in a directory, with a limit of its size.
#[derive(Clone, Debug)]
pub struct CodeCache {
    directory: PathBuf,
    max_bytes: u64,
}

impl CodeCache {
    /// Opens the cache and creates its directory if necessary. Refuses a directory that is open to
    /// other users.
    pub fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        own_directory(directory)?;
        Ok(Self { directory: directory.to_owned(), max_bytes })
    }

    /// Finds the compiled code of an artifact, in a file that only this user could have written.
    pub fn find(&self, engine_key: &str, digest: &Digest) -> Option<UncheckedFile> {
        let path = self.path(engine_key, digest);
        // A link could lead to a file outside the directory, which other users may be able to
        // replace.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).ok()?;
        UncheckedFile { file, path }.trusted(UncheckedFile::check_owner)
    }

    /// Like [`CodeCache::find`], with a check of the CRC.
    pub fn get(&self, engine_key: &str, digest: &Digest) -> Option<File> {
        self.find(engine_key, digest)?.undamaged()
    }

    /// Time of the last use of an artifact's code, checked or not. It changes when the code is
    /// replaced.
    pub fn used(&self, engine_key: &str, digest: &Digest) -> Option<SystemTime> {
        fs::symlink_metadata(self.path(engine_key, digest)).and_then(|file| file.modified()).ok()
    }

    /// Counts a use of code that a process has in memory, and so does not read.
    pub fn refresh(&self, engine_key: &str, digest: &Digest) {
        // An error: it was evicted.
        let _ = refresh(&self.path(engine_key, digest));
    }

    /// Reserves the compilation of an artifact for the caller. Returns no lock while another
    /// process holds it. After a wait for the lock, the caller has to look with [`CodeCache::get`]
    /// for code that the other process has stored.
    pub fn reserve(&self, engine_key: &str, digest: &Digest) -> io::Result<Option<CompileLock>> {
        let path = self.path(engine_key, digest);
        let temporary = self.directory.join(format!(".{engine_key}-{}.{TEMPORARY}", digest.hex()));
        loop {
            let mut options = OpenOptions::new();
            options
                .read(true)
                .write(true)
                .create(true)
                // Until the lock is taken, the content belongs to its holder.
                .truncate(false)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW);
            let file = in_own_directory(&self.directory, || options.open(&temporary))?;
            match file.try_lock() {
                // Between the two calls the holder may have finished and renamed this very file, or
                // given up and removed it. Then the name needs another attempt.
                Ok(()) if is_at(&file, &temporary)? => {
                    return Ok(Some(CompileLock {
                        cache: self.clone(),
                        file,
                        temporary,
                        path,
                        filled: false,
                    }));
                }
                Ok(()) => {}
                // Without waiting: the other process may compile for minutes.
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Number and size of the files, and the limit of their size. Of a directory that cannot be
    /// read, nothing.
    pub fn usage(&self) -> KeptCode {
        let mut kept = KeptCode { limit: self.max_bytes, ..KeptCode::default() };
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let is_code = Path::new(&entry.file_name()).extension() == Some(OsStr::new(EXTENSION));
            // An error: another process has removed the file.
            if is_code && let Ok(metadata) = entry.metadata() {
                kept.files += 1;
                kept.bytes += metadata.len();
            }
        }
        kept
    }

    fn path(&self, engine_key: &str, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{engine_key}-{}.{EXTENSION}", digest.hex()))
    }

    /// Size of the code that was used at this time or later, without that of one file.
    fn used_since(&self, since: SystemTime, other: &Path) -> io::Result<u64> {
        let mut bytes = 0;
        let now = SystemTime::now();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension() != Some(OsStr::new(EXTENSION)) || path == other {
                continue;
            }
            // An error: another process has removed the file.
            let used =
                fs::symlink_metadata(&path).and_then(|file| Ok((file.modified()?, file.len())));
            let counts = |used| last_use(used, now) >= since;
            bytes += used.map_or(0, |(used, len)| if counts(used) { len } else { 0 });
        }
        Ok(bytes)
    }

    /// Removes the least recently used files until the rest fits, and the leftovers of killed
    /// processes. Removed files that are mapped stay usable. Files that were used at the time
    /// `since` or later stay.
    fn trim(&self, keep: &Path, since: Option<SystemTime>) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            // Another process may have removed the file.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let modified = metadata.modified()?;
            match path.extension().and_then(OsStr::to_str) {
                // `keep` was just written and is about to be loaded.
                Some(EXTENSION) if path != keep => files.push((modified, metadata.len(), path)),
                Some(TEMPORARY) => remove_abandoned(&path),
                _ => {}
            }
        }
        // By the time of modification, which each use sets.
        let now = SystemTime::now();
        files.sort_by_key(|(modified, ..)| last_use(*modified, now));
        let mut total = fs::metadata(keep).map_or(0, |kept| kept.len())
            + files.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (modified, bytes, path) in files {
            let used = last_use(modified, now);
            if total <= self.max_bytes || since.is_some_and(|since| used >= since) {
                break;
            }
            // Another process may have used the file since, or removed it. In the latter case the
            // loop may remove one more than needed.
            if is_modified_at(&path, modified) && fs::remove_file(path).is_ok() {
                total -= bytes;
            }
        }
        Ok(())
    }
}

/// File with compiled code before the check of its CRC: the code must not be run.
#[derive(Debug)]
pub struct UncheckedFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl UncheckedFile {
    /// The open file, for inspection.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file, if its CRC is right. It contains the compiled code and the trailer.
    pub fn undamaged(self) -> Option<File> {
        let Self { file, .. } = self.trusted(Self::check_crc)?;
        // The time of the last use, for `trim`. On a read-only disk it cannot be set; there `trim`
        // cannot remove files either.
        let _ = file.set_modified(SystemTime::now());
        Some(file)
    }

    fn trusted(self, look: impl FnOnce(&Self) -> io::Result<()>) -> Option<Self> {
        if let Err(error) = look(&self) {
            metrics::distrusted();
            tracing::warn!(
                path = %self.path.display(),
                %error,
                "compiled code is not trusted, compiling again"
            );
            return None;
        }
        Some(self)
    }

    pub(super) fn check_owner(&self) -> io::Result<()> {
        // Of the open file, since the name may lead to another one by now.
        let metadata = self.file.metadata()?;
        let ours =
            metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
        if metadata.is_file() && ours {
            Ok(())
        } else {
            invalid_data("others could have written it")
        }
    }

    pub(super) fn check_crc(&self) -> io::Result<()> {
        let mut file = &self.file;
        let Some(length) = file.metadata()?.len().checked_sub(TRAILER as u64) else {
            return invalid_data("too short");
        };
        let mut hasher = crc32fast::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        // Reads through the shared offset of the file: the trailer comes next.
        let mut code = file.take(length);
        loop {
            match code.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let mut found = [0; TRAILER];
        file.read_exact(&mut found)?;
        if found == trailer(hasher.finalize()) { Ok(()) } else { invalid_data("damaged") }
    }
}

fn invalid_data(reason: &str) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// Lock for the compilation of one artifact. Its drop without code releases it and leaves no file.
#[derive(Debug)]
pub struct CompileLock {
    cache: CodeCache,
    /// The locked temporary file.
    // The lock ends with this descriptor, hence after the file is renamed or removed.
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    filled: bool,
}

impl CompileLock {
    /// Stores the code, complete or not at all.
    pub fn fill(self, code: &[u8]) -> io::Result<()> {
        self.fill_beside(code, None)
    }

    /// Stores the code like [`CompileLock::fill`], and never in the place of code that was used at
    /// the time `since` or later.
    pub fn fill_beside(mut self, code: &[u8], since: Option<SystemTime>) -> io::Result<()> {
        let bytes = (code.len() + TRAILER) as u64;
        // It would push out all other code and still exceed the limit.
        if bytes > self.cache.max_bytes {
            let reason = format!(
                "the code has {bytes} bytes, more than the cache, which has {}",
                self.cache.max_bytes
            );
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        if let Some(since) = since
            && self.cache.used_since(since, &self.path)?.saturating_add(bytes)
                > self.cache.max_bytes
        {
            let reason = format!(
                "the code has {bytes} bytes, and the cache of {} has no place for it beside the \
                 code that was compiled or used in the same run: the setting cache-size raises \
                 the limit",
                self.cache.max_bytes
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        // Drops the leftover of a killed process.
        self.file.set_len(0)?;
        self.file.write_all(code)?;
        self.file.write_all(&trailer(crc32fast::hash(code)))?;
        // The final name appears with the complete code. No fsync: after a crash of the machine the
        // CRC detects missing data.
        fs::rename(&self.temporary, &self.path)?;
        // At once: from here on, the temporary name may be the file of another process.
        self.filled = true;
        self.cache.trim(&self.path, since)
    }
}

impl Drop for CompileLock {
    fn drop(&mut self) {
        if !self.filled {
            // The lock is still held, so no other process uses the file. If the removal fails, the
            // next holder of the lock or `trim` deals with the leftover.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Creates a directory if necessary. Refuses one that is open to other users.
pub(super) fn own_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // `recursive` accepts an existing directory or a link to one, of any owner and mode.
    check_directory(directory)
}

/// Refuses a directory that is open to other users, is another user's, or is a link.
pub(super) fn check_directory(directory: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(directory)?;
    let is_ours = metadata.is_dir()
        && metadata.uid() == rustix::process::geteuid().as_raw()
        && metadata.mode() & 0o077 == 0;
    let reason = match metadata.is_symlink() {
        _ if is_ours => return Ok(()),
        true => "is a symbolic link, not a directory of ours with mode 0700",
        false => "is not a directory of ours with mode 0700",
    };
    let text = format!("{}: {reason}", directory.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
}

/// Creates something in a directory of [`own_directory`]. Restores the directory if it was removed.
pub(super) fn in_own_directory<T>(
    directory: &Path,
    make: impl Fn() -> io::Result<T>,
) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            own_directory(directory)?;
            make()
        }
        made => made,
    }
}

/// Sets the time of the last use of a file or a link to the present one.
pub(super) fn refresh(path: &Path) -> io::Result<()> {
    let now = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    Ok(utimensat(CWD, path, &now, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Time of the last use of a file, by its time of modification. One in the future is of a clock
/// that was set back since, and tells nothing: such code counts as unused, or it would stay and
/// push out all other code until that time has come.
pub(super) fn last_use(modified: SystemTime, now: SystemTime) -> SystemTime {
    // The clock of a process that has used it just now is a little ahead of `now`.
    if modified > now + AHEAD { SystemTime::UNIX_EPOCH } else { modified }
}

/// True if the path names a file with this time of its last use.
pub(super) fn is_modified_at(path: &Path, time: SystemTime) -> bool {
    fs::symlink_metadata(path).and_then(|file| file.modified()).is_ok_and(|found| found == time)
}

/// True if the path names this open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a temporary file without a lock.
pub(super) fn remove_abandoned(path: &Path) {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    if let Ok(file) = opened
        && file.try_lock().is_ok()
        && is_at(&file, path).unwrap_or(false)
    {
        // Under the lock, so that no process begins to use the file meanwhile. After an error the
        // next trim tries again.
        let _ = fs::remove_file(path);
    }
}

fn trailer(crc: u32) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..8].copy_from_slice(MAGIC);
    trailer[8..12].copy_from_slice(&crc.to_le_bytes());
    trailer
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cache(max_bytes: u64) -> (tempfile::TempDir, CodeCache) {
        let directory = tempfile::tempdir().unwrap();
        let cache = CodeCache::open(&directory.path().join("code"), max_bytes).unwrap();
        (directory, cache)
    }

    fn put(cache: &CodeCache, digest: &Digest, code: &[u8]) {
        cache.reserve("e", digest).unwrap().unwrap().fill(code).unwrap();
    }

    /// The names in the cache's directory.
    fn names(cache: &CodeCache) -> Vec<String> {
        let entries = fs::read_dir(&cache.directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn read(file: File) -> Vec<u8> {
        use std::io::Seek;
        let mut file = file;
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        bytes.truncate(bytes.len() - TRAILER);
        bytes
    }

    #[test]
    fn code_is_found_only_under_its_engine_key_and_digest() {
        let (_directory, cache) = cache(1 << 20);
        let digest = Digest::of(b"wasm");
        assert!(cache.get("e1", &digest).is_none());
        cache.reserve("e1", &digest).unwrap().unwrap().fill(b"code").unwrap();
        assert_eq!(read(cache.get("e1", &digest).unwrap()), b"code");
        assert!(cache.get("e2", &digest).is_none());
        assert!(cache.get("e1", &Digest::of(b"other")).is_none());
    }

    #[test]
    fn damaged_short_or_foreign_files_count_as_absent() {
        let (_directory, cache) = cache(1 << 20);
        let digest = Digest::of(b"wasm");
        let path = cache.path("e", &digest);
        for damage in ["flip", "cut", "mode", "empty"] {
            put(&cache, &digest, &[7; 1000]);
            assert!(cache.get("e", &digest).is_some());
            let mut bytes = fs::read(&path).unwrap();
            match damage {
                "flip" => bytes[500] ^= 1,
                "cut" => bytes.truncate(900),
                "empty" => bytes.clear(),
                _ => fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap(),
            }
            fs::write(&path, bytes).unwrap();
            assert!(cache.get("e", &digest).is_none(), "{damage}");
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(CodeCache::open(directory.path(), 1).is_err());
    }

    #[test]
    fn least_recently_used_code_is_removed_first() {
        let (_directory, cache) = cache(3 * 1016);
        let digests: Vec<_> = (0..4u8).map(|i| Digest::of(&[i])).collect();
        for (age, digest) in digests.iter().enumerate().take(3) {
            put(&cache, digest, &[0; 1000]);
            let file = File::options().write(true).open(cache.path("e", digest)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100 - age as u64)).unwrap();
        }
        assert!(cache.get("e", &digests[0]).is_some(), "and a use makes it young again");
        put(&cache, &digests[3], &[0; 1000]);
        let left: Vec<_> = digests.iter().map(|digest| cache.path("e", digest).exists()).collect();
        assert_eq!(left, [true, false, true, true]);
    }

    #[test]
    fn code_of_the_time_before_the_clock_was_set_back_is_removed_first() {
        let (_directory, cache) = cache(3 * 1016);
        let digests: Vec<_> = (0..5u8).map(|i| Digest::of(&[i])).collect();
        for digest in &digests[..2] {
            put(&cache, digest, &[0; 1000]);
            let file = File::open(cache.path("e", digest)).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).unwrap();
        }
        let begun = SystemTime::now() - Duration::from_secs(50);
        for digest in &digests[2..] {
            let lock = cache.reserve("e", digest).unwrap().unwrap();
            lock.fill_beside(&[0; 1000], Some(begun)).unwrap();
        }
        let left: Vec<_> = digests.iter().map(|digest| cache.path("e", digest).exists()).collect();
        assert_eq!(left, [false, false, true, true, true]);
    }

    #[test]
    fn code_of_a_run_is_not_stored_in_the_place_of_other_code_of_the_run() {
        let (_directory, cache) = cache(2 * 1016);
        let digests: Vec<_> = (0..4u8).map(|i| Digest::of(&[i])).collect();
        put(&cache, &digests[0], &[0; 1000]);
        let file = File::open(cache.path("e", &digests[0])).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
        let begun = SystemTime::now() - Duration::from_secs(50);
        let fill = |digest: &Digest| {
            let lock = cache.reserve("e", digest).unwrap().unwrap();
            lock.fill_beside(&[0; 1000], Some(begun))
        };
        fill(&digests[1]).unwrap();
        fill(&digests[2]).unwrap();
        fill(&digests[2]).unwrap();
        let error = fill(&digests[3]).unwrap_err().to_string();
        assert!(error.contains("1016 bytes") && error.contains("cache-size"), "{error}");
        let left: Vec<_> = digests.iter().map(|digest| cache.path("e", digest).exists()).collect();
        assert_eq!(left, [false, true, true, false]);
        assert_eq!(names(&cache).len(), 2, "what was refused leaves nothing");
    }

    #[test]
    fn use_from_memory_makes_code_young_again() {
        let (_directory, cache) = cache(2 * 1016);
        let digests: Vec<_> = (0..3u8).map(|i| Digest::of(&[i])).collect();
        for digest in &digests[..2] {
            put(&cache, digest, &[0; 1000]);
            let file = File::options().write(true).open(cache.path("e", digest)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100)).unwrap();
        }
        cache.refresh("e", &digests[0]);
        cache.refresh("e", &digests[2]);
        put(&cache, &digests[2], &[0; 1000]);
        let left: Vec<_> = digests.iter().map(|digest| cache.path("e", digest).exists()).collect();
        assert_eq!(left, [true, false, true]);
    }

    #[test]
    fn compile_lock_has_one_holder_until_its_drop() {
        let (_directory, cache) = cache(1 << 20);
        let [one, two] = [Digest::of(b"1"), Digest::of(b"2")];
        let first = cache.reserve("e", &one).unwrap().unwrap();
        assert!(cache.reserve("e", &one).unwrap().is_none(), "two owners");
        assert!(
            cache.reserve("e", &two).unwrap().is_some()
                && cache.reserve("f", &one).unwrap().is_some()
        );
        drop(first);
        assert_eq!(names(&cache), [""; 0], "what was given up leaves nothing");
        cache.reserve("e", &one).unwrap().unwrap().fill(b"code").unwrap();
        assert!(cache.reserve("e", &one).unwrap().is_some(), "to replace it");
        assert_eq!(read(cache.get("e", &one).unwrap()), b"code");
    }

    #[test]
    fn leftovers_of_killed_processes_are_reused_or_removed() {
        let (_directory, cache) = cache(1 << 20);
        let [one, two] = [Digest::of(b"1"), Digest::of(b"2")];
        // The state after a kill: half written and not locked.
        let abandon = |digest: &Digest| {
            let path = cache.reserve("e", digest).unwrap().unwrap().temporary.clone();
            fs::write(path, [1; 5000]).unwrap();
        };
        abandon(&one);
        abandon(&two);
        let living = cache.reserve("e", &Digest::of(b"3")).unwrap().unwrap();
        put(&cache, &one, b"code");
        assert_eq!(read(cache.get("e", &one).unwrap()), b"code");
        let mut left = names(&cache);
        left.sort();
        let living = living.temporary.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(left, [living, format!("e-{}.cwasm", one.hex())]);
    }

    #[test]
    fn code_larger_than_the_cache_is_not_kept() {
        let (_directory, cache) = cache(1000);
        put(&cache, &Digest::of(b"1"), &[0; 900]);
        let large = cache.reserve("e", &Digest::of(b"2")).unwrap().unwrap();
        let error = large.fill(&[0; 1000]).unwrap_err().to_string();
        assert!(error.contains("1016 bytes"), "{error}");
        assert_eq!(
            names(&cache),
            [format!("e-{}.cwasm", Digest::of(b"1").hex())],
            "nor does it push others out"
        );
    }
}
