//! What files held when they were read, for the next OS process: beside the compiled code, so that a shim need not read and hash a
//! program of which it wants the code alone.
//!
//! ```text
//! <directory>/seen/               0700, ours
//!   <sha256> -> sha256:<hex>      a symbolic link, made and read in one call each; its name is the boot's and the identity's
//! ```
//!
//! An identity says nothing beyond the boot, after which a clock may be another: nothing else than the time of change tells a file from
//! one that had its place before.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::store;
use crate::{artifact::FileIdentity, digest::Digest};

/// Links that are kept; of more, the older half goes.
const MOST: usize = 1024;

const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A directory of links.
#[derive(Clone, Debug)]
pub struct DigestIndex {
    directory: PathBuf,
    boot: String,
}

impl DigestIndex {
    /// Beside the code in this directory, which is the user's own.
    pub fn open(code: &Path) -> io::Result<Self> {
        let directory = code.join("seen");
        store::own_directory(&directory)?;
        Ok(Self { directory, boot: fs::read_to_string(BOOT)? })
    }

    /// What the file held that has this identity.
    pub fn get(&self, identity: &FileIdentity) -> Option<Digest> {
        let target = fs::read_link(self.link(identity)).ok()?;
        Digest::parse(target.to_str()?)
    }

    /// That it holds this, as somebody has seen who has read it.
    pub fn put(&self, identity: &FileIdentity, digest: &Digest) -> io::Result<()> {
        let link = self.link(identity);
        let make = || symlink(digest.to_string(), &link);
        match store::in_own_directory(&self.directory, make) {
            // Whoever was faster has written the same; or it is damaged.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match self.get(identity) {
                    Some(known) if known == *digest => Ok(()),
                    _ => fs::remove_file(&link).and_then(|()| make()),
                }
            }
            Err(error) => Err(error),
            Ok(()) => self.trim(),
        }
    }

    fn link(&self, identity: &FileIdentity) -> PathBuf {
        let FileIdentity { layers, inode, bytes, modified, changed } = identity;
        let name = format!("{} {layers} {inode} {bytes} {modified:?} {changed:?}", self.boot);
        self.directory.join(Digest::of(name.as_bytes()).hex())
    }

    fn trim(&self) -> io::Result<()> {
        let links = fs::read_dir(&self.directory)?.collect::<Result<Vec<_>, _>>()?;
        if links.len() <= MOST {
            return Ok(());
        }
        // Another process may have been faster.
        let age = |link: fs::DirEntry| {
            Some((link.metadata().and_then(|link| link.modified()).ok()?, link.path()))
        };
        let mut links: Vec<(SystemTime, PathBuf)> = links.into_iter().filter_map(age).collect();
        links.sort();
        let surplus = links.len().saturating_sub(MOST / 2);
        links.iter().take(surplus).for_each(|(_, link)| drop(fs::remove_file(link)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::*;

    fn identity(inode: u64) -> FileIdentity {
        FileIdentity {
            layers: Digest::of(b"layers"),
            inode,
            bytes: 10,
            modified: (1, 2),
            changed: (3, 4),
        }
    }

    #[test]
    fn what_a_file_held_is_known_to_the_next_process_of_this_boot() {
        let code = tempfile::tempdir().unwrap();
        let seen = DigestIndex::open(code.path()).unwrap();
        let (digest, other) = (Digest::of(b"wasm"), Digest::of(b"other"));
        assert_eq!(seen.get(&identity(1)), None);
        seen.put(&identity(1), &digest).unwrap();
        seen.put(&identity(2), &other).unwrap();
        seen.put(&identity(1), &digest).unwrap();
        let next = DigestIndex::open(code.path()).unwrap();
        assert_eq!((next.get(&identity(1)), next.get(&identity(2))), (Some(digest), Some(other)));
        assert_eq!(
            next.get(&FileIdentity { changed: (3, 5), ..identity(1) }),
            None,
            "it was changed since"
        );
        assert_eq!(
            next.get(&FileIdentity { layers: other, ..identity(1) }),
            None,
            "it is one of another image"
        );
        let rebooted = DigestIndex { boot: "another".into(), ..next };
        assert_eq!(rebooted.get(&identity(1)), None);
    }

    #[test]
    fn what_is_damaged_says_nothing_and_is_replaced() {
        let code = tempfile::tempdir().unwrap();
        let seen = DigestIndex::open(code.path()).unwrap();
        let digest = Digest::of(b"wasm");
        symlink("/etc/passwd", seen.link(&identity(1))).unwrap();
        fs::write(seen.link(&identity(2)), "sha256:").unwrap();
        symlink(Digest::of(b"other").to_string(), seen.link(&identity(3))).unwrap();
        assert_eq!((seen.get(&identity(1)), seen.get(&identity(2))), (None, None));
        for inode in 1..4 {
            seen.put(&identity(inode), &digest).unwrap();
            assert_eq!(seen.get(&identity(inode)), Some(digest));
        }
        fs::remove_dir_all(&seen.directory).unwrap();
        assert_eq!(seen.get(&identity(1)), None);
        seen.put(&identity(1), &digest).unwrap();
        assert_eq!(seen.get(&identity(1)), Some(digest));
    }

    #[test]
    fn a_directory_of_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let code = tempfile::tempdir().unwrap();
        fs::create_dir(code.path().join("seen")).unwrap();
        fs::set_permissions(code.path().join("seen"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(DigestIndex::open(code.path()).is_err());
    }

    #[test]
    fn of_too_many_the_older_half_goes() {
        let code = tempfile::tempdir().unwrap();
        let seen = DigestIndex::open(code.path()).unwrap();
        let digest = Digest::of(b"wasm");
        let put = |inode| seen.put(&identity(inode), &digest).unwrap();
        (0..MOST as u64).for_each(&put);
        let long_ago =
            Timestamps { last_access: Timespec::default(), last_modification: Timespec::default() };
        utimensat(CWD, seen.link(&identity(7)), &long_ago, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        put(u64::MAX);
        assert_eq!(fs::read_dir(&seen.directory).unwrap().count(), MOST / 2);
        assert!(seen.get(&identity(7)).is_none());
    }
}
