//! The file in the bundle of a native container that names its delegate: `delete` finds it there
//! after the death of our server.
//!
//! It is written before the container exists, and in the bundle of a delegate's first container
//! also before the delegate does: then without a socket and a pid.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::containerd::shim_client::ShimAddress;

/// Name of the file.
const FILE: &str = "native.json";

/// Content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Record {
    /// The delegate's program.
    pub(crate) program: PathBuf,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// Its socket. Empty before its start.
    pub(crate) address: ShimAddress,
    /// Its pid, 0 before its start.
    pub(crate) pid: u32,
}

impl Record {
    /// The file of a bundle's record.
    pub(crate) fn path(bundle: &Path) -> PathBuf {
        bundle.join(FILE)
    }

    /// True if the delegate was about to start.
    pub(crate) fn is_planned(&self) -> bool {
        self.pid == 0
    }

    /// Writes it into a bundle, completely or not at all. Blocks.
    pub(crate) fn write(&self, bundle: &Path) -> io::Result<()> {
        let temporary = bundle.join(".native.json");
        fs::write(&temporary, serde_json::to_vec(self)?)?;
        fs::rename(temporary, Self::path(bundle))
    }

    /// The record of a bundle, if it has one. Blocks.
    pub(crate) fn read(bundle: &Path) -> Option<Self> {
        let bytes = fs::read(Self::path(bundle)).ok()?;
        let read = serde_json::from_slice(&bytes);
        if let Err(error) = &read {
            tracing::error!(%error, bundle = %bundle.display(), "damaged record of a native container");
        }
        read.ok()
    }

    /// Removes the record of a bundle. Blocks.
    pub(crate) fn remove(bundle: &Path) {
        match fs::remove_file(Self::path(bundle)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, bundle = %bundle.display(), "a record stays behind");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_until_it_is_removed() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(bundle.path()), None);
        Record::remove(bundle.path());
        let record = Record {
            program: "/bin/shim".into(),
            directory: "/run/d".into(),
            address: ShimAddress { address: "unix:///s".to_owned(), version: 2 },
            pid: 7,
        };
        record.write(bundle.path()).unwrap();
        assert_eq!(Record::read(bundle.path()), Some(record));
        Record::remove(bundle.path());
        assert_eq!(Record::read(bundle.path()), None);
    }
}
