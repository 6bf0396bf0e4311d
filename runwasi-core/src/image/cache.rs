//! Compiled code on disk: one file for every (engine key, artifact digest). Used by engines; shared by all shims of
//! the node, which map the same pages.
//!
//! ```text
//! <directory>/                    0700, ours
//!   <engine key>-<sha256>.cwasm   the engine's bytes, then a 16-byte trailer: magic, CRC-32 of the bytes, zeros
//!   .<…>.tmp                      being written; renamed when complete
//! ```
//!
//! Loading compiled code runs it, so only files are trusted that nobody else could have written (owner and mode of
//! directory and file) and that are undamaged (CRC). Anything else counts as absent: it is compiled again and replaced.
//! The CRC guards against damage; against malice stand owner and mode.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::Digest;

const MAGIC: &[u8; 8] = b"runwasi1";
const TRAILER: usize = 16;
const EXTENSION: &str = "cwasm";
/// A file that has been in the making for so long has lost its writer.
const ABANDONED: Duration = Duration::from_secs(3600);

/// A directory of compiled code.
#[derive(Clone, Debug)]
pub struct CodeCache {
    directory: PathBuf,
    max_bytes: u64,
}

impl CodeCache {
    /// Makes the directory if it is not there. Refuses one that others could write to.
    pub fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let metadata = fs::symlink_metadata(directory)?;
        if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o077 != 0 {
            let reason = "is not a directory of ours with mode 0700";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{}: {reason}", directory.display())));
        }
        Ok(Self { directory: directory.to_owned(), max_bytes })
    }

    /// The compiled code of an artifact, if it is there and can be trusted. The file holds the engine's bytes and the trailer.
    pub fn get(&self, engine_key: &str, digest: &Digest) -> Option<File> {
        let path = self.path(engine_key, digest);
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(&path).ok()?;
        match check(&file) {
            Ok(()) => {
                // Marks it as used for `trim`; a cache on a read-only disk just ages.
                let _ = file.set_modified(SystemTime::now());
                Some(file)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code is not trusted, compiling again");
                None
            }
        }
    }

    /// Keeps compiled code. Complete or not at all, whoever else writes the same.
    pub fn put(&self, engine_key: &str, digest: &Digest, code: &[u8]) -> io::Result<()> {
        let path = self.path(engine_key, digest);
        // Unique among the writers of this process and of all others.
        static WRITES: AtomicU64 = AtomicU64::new(0);
        let write = WRITES.fetch_add(1, Ordering::Relaxed);
        let name = format!(".{}-{}-{write}.tmp", digest.hex(), std::process::id());
        let temporary = Temporary(self.directory.join(name));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary.0)?;
        file.write_all(code)?;
        file.write_all(&trailer(crc32fast::hash(code)))?;
        drop(file);
        fs::rename(&temporary.0, &path)?;
        self.trim(&path)
    }

    fn path(&self, engine_key: &str, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{engine_key}-{}.{EXTENSION}", digest.hex()))
    }

    /// Removes the longest unused files until the rest fits, and what writers have left that were killed. What is
    /// mapped stays usable.
    fn trim(&self, keep: &Path) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            // Another process may have been faster.
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            let modified = metadata.modified()?;
            match path.extension().and_then(OsStr::to_str) {
                Some(EXTENSION) if path != keep => files.push((modified, metadata.len(), path)),
                Some("tmp") if modified.elapsed().is_ok_and(|age| age > ABANDONED) => drop(fs::remove_file(path)),
                _ => {}
            }
        }
        files.sort();
        let mut total = fs::metadata(keep)?.len() + files.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        for (_, bytes, path) in files {
            if total <= self.max_bytes {
                break;
            }
            // Another process may have been faster.
            if fs::remove_file(path).is_ok() {
                total -= bytes;
            }
        }
        Ok(())
    }
}

/// Removes a half-written file; after the rename there is nothing to remove.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn trailer(crc: u32) -> [u8; TRAILER] {
    let mut trailer = [0; TRAILER];
    trailer[..8].copy_from_slice(MAGIC);
    trailer[8..12].copy_from_slice(&crc.to_le_bytes());
    trailer
}

fn check(mut file: &File) -> io::Result<()> {
    let bad = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return bad("others could have written it");
    }
    let Some(length) = metadata.len().checked_sub(TRAILER as u64) else {
        return bad("too short");
    };
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 64 << 10];
    let mut code = file.take(length);
    loop {
        match code.read(&mut buffer)? {
            0 => break,
            n => hasher.update(&buffer[..n]),
        }
    }
    let mut found = [0; TRAILER];
    file.read_exact(&mut found)?;
    if found == trailer(hasher.finalize()) { Ok(()) } else { bad("damaged") }
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
    fn what_was_put_is_found_under_its_engine_and_digest_only() {
        let (_directory, cache) = cache(1 << 20);
        let digest = Digest::of(b"wasm");
        assert!(cache.get("e1", &digest).is_none());
        cache.put("e1", &digest, b"code").unwrap();
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
            cache.put("e", &digest, &[7; 1000]).unwrap();
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
    fn the_longest_unused_code_goes_first() {
        let (_directory, cache) = cache(3 * 1016);
        let digests: Vec<_> = (0..4u8).map(|i| Digest::of(&[i])).collect();
        for (age, digest) in digests.iter().enumerate().take(3) {
            cache.put("e", digest, &[0; 1000]).unwrap();
            let file = File::options().write(true).open(cache.path("e", digest)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(100 - age as u64)).unwrap();
        }
        assert!(cache.get("e", &digests[0]).is_some(), "and a use makes it young again");
        cache.put("e", &digests[3], &[0; 1000]).unwrap();
        let left: Vec<_> = digests.iter().map(|digest| cache.path("e", digest).exists()).collect();
        assert_eq!(left, [true, false, true, true]);
    }
}
