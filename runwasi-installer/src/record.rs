//! What was done on a node and what is still due, in a file of the host. It names a change before
//! the change is made, so a run that is killed between two steps is completed by the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, flock, fstat};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::files::digest;
use crate::root::{Access, Root};

const FORMAT: u32 = 1;
const FILE: &str = "record.json";
const PREVIOUS: &str = "previous";

/// The record of a node.
// An unknown field is one of a later version, which this one may forget. What it must not forget
// comes with another format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    /// Files that are this program's, with the digests that they may have: two while one replaces
    /// the other.
    pub(crate) files: BTreeMap<String, BTreeSet<String>>,
    /// Directories that it has made, the outermost first.
    pub(crate) directories: Vec<String>,
    /// Configurations with blocks of it.
    pub(crate) configurations: BTreeSet<String>,
    /// The directory of programs.
    pub(crate) bin_dir: String,
    /// What is still to be done.
    pub(crate) due: Due,
    /// The change of a configuration that has failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Refused>,
}

/// The part of a record that all versions have.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Steps that a changed file makes necessary.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Due {
    /// Programs are in their places that no run has tried, since it was to run none.
    pub(crate) programs: bool,
    /// systemd has not seen the units, nor the daemon its new program.
    pub(crate) daemon: bool,
    /// The daemon runs by an earlier unit, which a reload does not change.
    pub(crate) units: bool,
    /// The kernel has not seen the sysctl file.
    pub(crate) sysctl: bool,
    /// containerd has not seen its configuration.
    pub(crate) containerd: bool,
    /// The daemon runs although its runtime is not wanted any more.
    pub(crate) stop: bool,
    /// The configuration that containerd ran with, until it runs with the new one.
    pub(crate) previous: Option<Previous>,
}

/// A configuration to go back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Previous {
    /// The file.
    pub(crate) file: String,
    /// Whether there was one; its content is beside the record.
    pub(crate) existed: bool,
    /// The digest of what was written in its place; none if it was removed.
    pub(crate) written: Option<String>,
}

/// A configuration with which containerd has not come back, or that its start has made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// The file.
    pub(crate) file: String,
    /// The digest of what was written; absent if the file was removed.
    pub(crate) written: Option<String>,
    /// How often it was tried.
    pub(crate) times: u32,
    /// Time of the last try, in seconds since 1970.
    pub(crate) at: u64,
    /// True if containerd has come back, and its start has made the file anew without the change.
    #[serde(default)]
    pub(crate) undone: bool,
}

impl Refused {
    /// Outcome of the change.
    pub(crate) fn fault(&self) -> &'static str {
        if self.undone {
            "a restart of containerd makes the file anew without this change"
        } else {
            "containerd has not come back with this change"
        }
    }
}

/// The record's directory, locked: there is one run at a time.
#[derive(Debug)]
pub(crate) struct Shelf<'a> {
    root: &'a Root,
    directory: String,
    _lock: OwnedFd,
}

impl Record {
    pub(crate) fn new(bin_dir: &str) -> Self {
        Self {
            format: FORMAT,
            files: BTreeMap::new(),
            directories: Vec::new(),
            configurations: BTreeSet::new(),
            bin_dir: bin_dir.to_owned(),
            due: Due::default(),
            refused: None,
        }
    }

    /// Remembers directories that will be made for `path`.
    pub(crate) fn will_make(&mut self, root: &Root, path: &str) {
        for missing in root.missing_directories(path) {
            if !self.directories.contains(&missing) {
                self.directories.push(missing);
            }
        }
    }
}

impl<'a> Shelf<'a> {
    /// Opens the directory, which is made with `make`; none if it is not there.
    pub(crate) fn open(root: &'a Root, directory: &str, make: bool) -> Result<Option<Self>, Error> {
        loop {
            if make {
                root.make_directories(directory)?;
            } else if !root.is_directory(directory) {
                return Ok(None);
            }
            let lock = root.directory(directory)?;
            if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err(Error::file(
                    directory,
                    "another run of runwasi-node-installer is at work",
                ));
            }
            // One that has ended in between may have removed it.
            let same = |other: OwnedFd| {
                let pair = (fstat(&lock).ok()?, fstat(&other).ok()?);
                Some(pair.0.st_ino == pair.1.st_ino)
            };
            if root.directory(directory).ok().and_then(same) == Some(true) {
                return Ok(Some(Self { root, directory: directory.to_owned(), _lock: lock }));
            }
        }
    }

    /// The record; none if nothing was installed.
    pub(crate) fn load(&self) -> Result<Option<Record>, Error> {
        load(self.root, &self.directory)
    }

    pub(crate) fn save(&self, record: &Record) -> Result<(), Error> {
        let file = self.file(FILE);
        let text = serde_json::to_vec_pretty(record).map_err(|error| Error::io(&file, error))?;
        self.root.write(&file, &text, Access::Root(0o600))
    }

    /// Keeps what a configuration says, until containerd runs with another; unless what it runs
    /// with is kept already.
    pub(crate) fn keep_previous(
        &self,
        record: &mut Record,
        file: &str,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<(), Error> {
        let written = after.map(|text| digest(text.as_bytes()));
        if let Some(previous) = &mut record.due.previous {
            if previous.file == file {
                previous.written = written;
            }
            return Ok(());
        }
        let content = before.unwrap_or_default().as_bytes();
        self.root.write(&self.file(PREVIOUS), content, Access::Root(0o600))?;
        let existed = before.is_some();
        record.due.previous = Some(Previous { file: file.to_owned(), existed, written });
        Ok(())
    }

    /// What was kept.
    pub(crate) fn kept(&self) -> Result<Vec<u8>, Error> {
        Ok(self.root.read_own(&self.file(PREVIOUS))?.unwrap_or_default())
    }

    /// Drops what was kept.
    pub(crate) fn drop_kept(&self) -> Result<(), Error> {
        self.root.remove(&self.file(PREVIOUS))
    }

    /// Removes the record and its directory.
    pub(crate) fn remove(self, directories: &[String]) -> Result<(), Error> {
        self.drop_kept()?;
        // The directories first: a record is left for a run that completes this.
        for directory in directories.iter().rev().filter(|one| !self.directory.starts_with(*one)) {
            self.root.remove_directory(directory)?;
        }
        self.root.remove(&self.file(FILE))?;
        self.root.remove_directory(&self.directory)?;
        for directory in directories.iter().rev().filter(|one| self.directory.starts_with(*one)) {
            self.root.remove_directory(directory)?;
        }
        Ok(())
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }
}

/// The record of a directory, without its lock.
pub(crate) fn load(root: &Root, directory: &str) -> Result<Option<Record>, Error> {
    let file = format!("{directory}/{FILE}");
    let Some(content) = root.read_own(&file)? else { return Ok(None) };
    let invalid = |error: serde_json::Error| {
        Error::config(&file, error.line(), format!("no record: {error}"))
    };
    // By itself first: the rest may be of any kind in another format.
    let Format { format } = serde_json::from_slice(&content).map_err(invalid)?;
    if format != FORMAT {
        let reason = format!(
            "was written by another version of runwasi-node-installer (format {format}, this one \
             has {FORMAT}): install and uninstall by that version"
        );
        return Err(Error::file(&file, reason));
    }
    Ok(Some(serde_json::from_slice(&content).map_err(invalid)?))
}
