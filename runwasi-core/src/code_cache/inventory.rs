//! Inventory of a code cache for operators: its files, their state, and the removal of files.
//!
//! Nothing is created here, not even the directory. A removed file that a process has mapped stays
//! usable there.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::store::{
    EXTENSION, TEMPORARY, UncheckedFile, check_directory, is_modified_at, last_use,
    remove_abandoned,
};

/// A file with compiled code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedCode {
    /// The file.
    pub path: PathBuf,
    /// Key of the engine that has compiled it: version and settings of its code.
    pub engine_key: String,
    /// SHA-256 of the artifact, in hexadecimal.
    pub digest: String,
    /// Size of the file.
    pub bytes: u64,
    /// Time of the last use.
    pub used: SystemTime,
}

/// Content of a code cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// The directory.
    pub directory: PathBuf,
    /// Compiled code, the most recently used first.
    pub code: Vec<CachedCode>,
    /// Files of compilations under way, or of processes that were killed.
    pub temporary: Vec<PathBuf>,
}

impl Inventory {
    /// Lists the directory. Empty if it is absent, as before the first compilation.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut inventory = Self { directory: directory.to_owned(), ..Self::default() };
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(inventory),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            // Another process may have removed the file.
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_file() {
                inventory.add(path, metadata.len(), metadata.modified()?);
            }
        }
        let now = SystemTime::now();
        let used = |code: &CachedCode| last_use(code.used, now);
        inventory.code.sort_by(|a, b| (used(b), &b.path).cmp(&(used(a), &a.path)));
        inventory.temporary.sort();
        Ok(inventory)
    }

    fn add(&mut self, path: PathBuf, bytes: u64, used: SystemTime) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(TEMPORARY) => self.temporary.push(path),
            Some(EXTENSION) => {
                if let Some((engine_key, digest)) = names(&path) {
                    self.code.push(CachedCode { path, engine_key, digest, bytes, used });
                }
            }
            _ => {}
        }
    }

    /// Checks owner and mode of the directory, if it is there. Code in another one is neither loaded
    /// nor kept.
    pub fn check_directory(&self) -> io::Result<()> {
        match check_directory(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            checked => checked,
        }
    }

    /// Sum of the sizes.
    pub fn bytes(&self) -> u64 {
        self.code.iter().map(|code| code.bytes).sum()
    }

    /// Removes the temporary files that no living process has locked.
    pub fn remove_abandoned(&self) {
        for path in &self.temporary {
            remove_abandoned(path);
        }
    }
}

impl CachedCode {
    /// Checks owner, mode and CRC. Only such a file is loaded. False if another process has removed
    /// or replaced the file since the list was made.
    pub fn verify(&self) -> io::Result<bool> {
        let checked = open(&self.path).and_then(|file| {
            let unchecked = UncheckedFile { file, path: self.path.clone() };
            unchecked.check_owner()?;
            unchecked.check_crc()
        });
        match checked {
            Ok(()) => Ok(true),
            Err(_) if !self.is_unchanged() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Time since the last use. Very long if that was before the clock was set back.
    pub fn unused(&self, now: SystemTime) -> Duration {
        now.duration_since(last_use(self.used, now)).unwrap_or_default()
    }

    /// Removes the file. False if another process has removed, replaced or used it since the list
    /// was made.
    pub fn remove(&self) -> io::Result<bool> {
        if !self.is_unchanged() {
            return Ok(false);
        }
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// True if the file is still that of the list: each use and each replacement set its time.
    fn is_unchanged(&self) -> bool {
        is_modified_at(&self.path, self.used)
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Engine key and digest in the name of a file with code.
fn names(path: &Path) -> Option<(String, String)> {
    let (key, digest) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    let is_digest = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then(|| (key.to_owned(), digest.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{code_cache::store::CodeCache, digest::Digest};

    fn filled(code: &[&[u8]]) -> (tempfile::TempDir, PathBuf) {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("code");
        let cache = CodeCache::open(&directory, 1 << 20).unwrap();
        for bytes in code {
            cache.reserve("key-1", &Digest::of(bytes)).unwrap().unwrap().fill(bytes).unwrap();
        }
        (parent, directory)
    }

    #[test]
    fn code_is_listed_by_key_digest_and_size() {
        let (_parent, directory) = filled(&[b"one", b"three"]);
        fs::write(directory.join("stranger.txt"), "x").unwrap();
        fs::write(directory.join("key-short.cwasm"), "x").unwrap();
        fs::write(directory.join(".key-1.tmp"), "x").unwrap();
        let inventory = Inventory::of(&directory).unwrap();
        let mut digests: Vec<_> = inventory.code.iter().map(|code| code.digest.clone()).collect();
        digests.sort();
        let mut wanted = [Digest::of(b"one").hex(), Digest::of(b"three").hex()];
        wanted.sort();
        assert_eq!(digests, wanted);
        assert!(inventory.code.iter().all(|code| code.engine_key == "key-1"));
        assert_eq!((inventory.bytes(), inventory.temporary.len()), (3 + 5 + 32, 1));
        inventory.remove_abandoned();
        assert!(Inventory::of(&directory).unwrap().temporary.is_empty());
    }

    #[test]
    fn damaged_code_is_found() {
        let (_parent, directory) = filled(&[b"code"]);
        let [code] = &Inventory::of(&directory).unwrap().code[..] else { panic!("one file") };
        assert!(code.verify().unwrap());
        let mut bytes = fs::read(&code.path).unwrap();
        bytes[0] ^= 1;
        damage(code, &bytes);
        assert!(code.verify().unwrap_err().to_string().contains("damaged"));
        damage(code, b"x");
        assert!(code.verify().unwrap_err().to_string().contains("too short"));
        assert!(code.remove().unwrap() && !code.remove().unwrap());
        assert!(!code.verify().unwrap(), "it is no fault that it has gone");
    }

    /// Changes the bytes of a file and not its time, as a disk does.
    fn damage(code: &CachedCode, bytes: &[u8]) {
        fs::write(&code.path, bytes).unwrap();
        File::open(&code.path).unwrap().set_modified(code.used).unwrap();
    }

    #[test]
    fn code_that_was_used_or_replaced_since_the_list_is_not_removed() {
        let (_parent, directory) = filled(&[b"code"]);
        let cache = CodeCache::open(&directory, 1 << 20).unwrap();
        let digest = Digest::of(b"code");
        let one = |directory: &Path| Inventory::of(directory).unwrap().code.remove(0);
        let set = |code: &CachedCode| {
            let long_ago = code.used - Duration::from_secs(100);
            File::open(&code.path).unwrap().set_modified(long_ago).unwrap();
        };
        set(&one(&directory));
        let listed = one(&directory);
        cache.get("key-1", &digest).unwrap();
        assert!(!listed.remove().unwrap(), "it was used");
        set(&one(&directory));
        let listed = one(&directory);
        damage(&listed, b"damaged");
        cache.reserve("key-1", &digest).unwrap().unwrap().fill(b"code").unwrap();
        assert!(listed.verify().unwrap(), "the new one is right");
        assert!(!listed.remove().unwrap(), "it was replaced");
        assert!(cache.get("key-1", &digest).is_some());
    }

    #[test]
    fn directory_that_others_could_write_is_refused_as_by_the_cache_itself() {
        let (parent, directory) = filled(&[b"code"]);
        let check = |directory: &Path| Inventory::of(directory).unwrap().check_directory();
        check(&directory).unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        let refused = check(&link).unwrap_err().to_string();
        assert!(refused.contains("link: is a symbolic link, not a directory"), "{refused}");
        assert!(CodeCache::open(&link, 1 << 20).is_err());
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
        let refused = check(&directory).unwrap_err().to_string();
        assert!(refused.contains("with mode 0700"), "{refused}");
        assert!(CodeCache::open(&directory, 1 << 20).is_err());
    }

    #[test]
    fn absent_directory_is_empty_and_stays_absent() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("absent");
        let inventory = Inventory::of(&directory).unwrap();
        assert!(inventory.code.is_empty() && inventory.check_directory().is_ok());
        assert!(!directory.exists());
    }
}
