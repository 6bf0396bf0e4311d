//! What the bundles and root file systems of a fake lie on; used by `fake`.
//!
//! containerd's bundles lie below `/run`, in memory. Its snapshots lie on a disk, whose file system takes its own time to mount an
//! overlay (it makes, renames and removes files for it): in memory that part is small, and what is measured is the shim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use runwasi_tests::disk::mount_ext4;

/// Where a fake keeps its snapshots.
pub(crate) const SNAPSHOTS: &str = "snapshots";

/// Size of the file with a file system, most of it never written.
const JOURNALED: u64 = 4 << 30;

/// Where the shim driver makes bundles.
const BUNDLES: &str = "b";

/// A choice for a whole fake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Bundles and snapshots in memory.
    Memory,
    /// Bundles in memory, snapshots on the file system of `/tmp`.
    Disk,
    /// Bundles in memory, snapshots on an ext4 with a journal in a file on that file system. A machine for tests may have a disk
    /// without one: a sync costs less there, and a new inode more, than on the disk of a node.
    Journal,
}

impl Storage {
    /// Prepares a fake's directory.
    pub(super) fn prepare(self, directory: &Path) -> Result<Vec<Mounted>> {
        let in_memory = match self {
            Self::Memory => &[BUNDLES, SNAPSHOTS][..],
            Self::Disk | Self::Journal => &[BUNDLES],
        };
        let mounted = in_memory.iter().map(|name| Mounted::tmpfs(directory.join(name)));
        let mut mounted: Vec<_> = mounted.collect::<Result<_>>()?;
        if self == Self::Journal {
            mounted.push(Mounted::ext4(directory.join(SNAPSHOTS))?);
        }
        Ok(mounted)
    }
}

/// A file system; unmounted when it is dropped.
pub(super) struct Mounted {
    path: PathBuf,
}

impl Mounted {
    fn tmpfs(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=700", "bench"])
            .arg(&path)
            .status();
        ensure!(mounted.context("mount")?.success(), "no tmpfs at {}", path.display());
        Ok(Self { path })
    }

    fn ext4(path: PathBuf) -> Result<Self> {
        mount_ext4(&path.with_extension("img"), JOURNALED, &path, &[])?;
        Ok(Self { path })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // What a failed run has left open keeps it alive until that is gone; the shim driver reports such things.
        drop(Command::new("umount").arg("--lazy").arg(&self.path).status());
    }
}
