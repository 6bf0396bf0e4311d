//! Persistent index from file identity to artifact digest. With it, another OS process finds the
//! compiled code of a program without reading and hashing the program.
//!
//! ```text
//! <directory>/seen/               mode 0700, owned by this user
//!   <sha256> -> sha256:<hex>      symbolic link; its name is the hash of boot id and file identity
//! ```
//!
//! An identity is valid within one boot only. The identities of a file and of its predecessor at
//! the same inode may differ only in the time of change, and a boot may change the clock.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::store::{self, last_use};
use crate::{artifact::FileIdentity, digest::Digest, sys};

/// Largest number of links. Beyond it, the half that is unused for longer is removed.
const MAX_LINKS: usize = 1024;

/// Index in a directory of symbolic links.
#[derive(Clone, Debug)]
pub struct DigestIndex {
    directory: PathBuf,
    boot: String,
}

impl DigestIndex {
    /// Opens the index below a directory of compiled code, which belongs to this user.
    pub fn open(code: &Path) -> io::Result<Self> {
        let directory = code.join("seen");
        // The links decide which code runs, so no other user may write them.
        store::own_directory(&directory)?;
        Ok(Self { directory, boot: sys::boot_id()? })
    }

    /// Digest of the file with this identity.
    pub fn get(&self, identity: &FileIdentity) -> Option<Digest> {
        let link = self.link(identity);
        let target = fs::read_link(&link).ok()?;
        // A target that is no digest counts as an absent link; `put` replaces it.
        let digest = Digest::parse(target.to_str()?)?;
        // For `trim`. An error: another process has removed it.
        let _ = store::refresh(&link);
        Some(digest)
    }

    /// Counts a use of a digest that a process has in memory.
    pub fn refresh(&self, identity: &FileIdentity) {
        // An error: it was removed.
        let _ = store::refresh(&self.link(identity));
    }

    /// Stores the digest of a file that the caller has read.
    pub fn put(&self, identity: &FileIdentity, digest: &Digest) -> io::Result<()> {
        let link = self.link(identity);
        // A symbolic link is created with its target, and read, in one system call. So no process
        // sees half a digest.
        let make = || symlink(digest.to_string(), &link);
        match store::in_own_directory(&self.directory, make) {
            // Another process has stored the same digest, or the link is damaged.
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
        // Hashed: a file name is limited to 255 bytes.
        self.directory.join(Digest::of(name.as_bytes()).hex())
    }

    fn trim(&self) -> io::Result<()> {
        let links = fs::read_dir(&self.directory)?.collect::<Result<Vec<_>, _>>()?;
        if links.len() <= MAX_LINKS {
            return Ok(());
        }
        // A link without metadata was removed by another process meanwhile. `DirEntry::metadata`
        // does not follow links.
        let now = SystemTime::now();
        let age = |link: fs::DirEntry| {
            let modified = link.metadata().and_then(|link| link.modified()).ok()?;
            Some((last_use(modified, now), link.path()))
        };
        let mut links: Vec<(SystemTime, PathBuf)> = links.into_iter().filter_map(age).collect();
        links.sort();
        // Down to half, so that the next trim is not due at the next `put`.
        let surplus = links.len().saturating_sub(MAX_LINKS / 2);
        // An error is ignored: another process may have removed the link, and the next trim tries
        // again.
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
    fn digest_is_found_by_the_next_process_of_the_same_boot() {
        let code = tempfile::tempdir().unwrap();
        let seen = DigestIndex::open(code.path()).unwrap();
        let digest = Digest::of(b"wasm");
        let other = Digest::of(b"other");
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
    fn damaged_link_is_ignored_and_replaced() {
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
    fn directory_that_is_open_to_other_users_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let code = tempfile::tempdir().unwrap();
        fs::create_dir(code.path().join("seen")).unwrap();
        fs::set_permissions(code.path().join("seen"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(DigestIndex::open(code.path()).is_err());
    }

    #[test]
    fn longer_unused_half_of_the_links_is_removed_beyond_the_limit() {
        let code = tempfile::tempdir().unwrap();
        let seen = DigestIndex::open(code.path()).unwrap();
        let digest = Digest::of(b"wasm");
        let put = |inode| seen.put(&identity(inode), &digest).unwrap();
        (0..MAX_LINKS as u64).for_each(&put);
        let long_ago =
            Timestamps { last_access: Timespec::default(), last_modification: Timespec::default() };
        for inode in 0..MAX_LINKS as u64 {
            let link = seen.link(&identity(inode));
            utimensat(CWD, link, &long_ago, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        assert_eq!(seen.get(&identity(7)), Some(digest));
        seen.refresh(&identity(8));
        put(u64::MAX);
        assert_eq!(fs::read_dir(&seen.directory).unwrap().count(), MAX_LINKS / 2);
        assert!(seen.get(&identity(7)).is_some() && seen.get(&identity(8)).is_some());
    }
}
