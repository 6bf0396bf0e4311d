//! The cgroups in which this process was started: those of the service. Processes that work for the
//! service stay there while this one is in the cgroup of a container.

use std::{fs, io, path::PathBuf, sync::OnceLock};

use super::{files::write, policy::Hierarchies};

/// Recorded before the first change. Absent in a process that joins no cgroups.
static ORIGIN: OnceLock<Origin> = OnceLock::new();

pub(super) struct Origin {
    /// Text of `/proc/self/cgroup` at that time.
    own: String,
    /// Files that move a process there.
    files: Vec<PathBuf>,
}

impl Origin {
    pub(super) fn new(hierarchies: &Hierarchies, own: &str) -> Self {
        let mut files = [0, 1].map(|at| hierarchies.original_directory(at).join("cgroup.procs"));
        files.sort_unstable();
        let mut files = files.to_vec();
        // On v2 both are one.
        files.dedup();
        Self { own: own.to_owned(), files }
    }

    /// Moves a process whose `/proc/PID/cgroup` is `now` there, unless it is there. Blocks for the
    /// grace period of RCU that each move takes.
    pub(super) fn bring(&self, process: u32, now: &str) -> io::Result<()> {
        if now == self.own {
            return Ok(());
        }
        self.files.iter().try_for_each(|file| write(file, process))
    }
}

/// Records where this process is.
pub(super) fn record(hierarchies: &Hierarchies, own: &str) {
    // A second record would be of a process that may have moved. The first counts.
    let _ = ORIGIN.set(Origin::new(hierarchies, own));
}

/// Moves a child of this process out of the cgroup of a container that it was started in. Blocks.
pub(crate) fn bring_back(child: u32) -> io::Result<()> {
    match ORIGIN.get() {
        None => Ok(()),
        Some(origin) => origin.bring(child, &fs::read_to_string(format!("/proc/{child}/cgroup"))?),
    }
}
