//! The cgroups in which this process was started: those of the service. Processes that work for the
//! service stay there while this one is in the cgroup of a container.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    process::Command,
    sync::OnceLock,
};

use super::{
    files::{named, write},
    policy::Hierarchies,
};
use crate::sys;

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

    /// Lets a command start its process there.
    pub(super) fn receive(&self, command: &mut Command) -> io::Result<()> {
        let open = |path: &PathBuf| {
            File::options().write(true).open(path).map_err(|error| named(path, &error))
        };
        let files = self.files.iter().map(open).collect::<io::Result<_>>()?;
        sys::start_in_cgroups(command, self.own.clone(), files);
        Ok(())
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

/// Lets a command start its process out of the cgroup of a container that this process is in. For
/// programs that may start others at once, or outlive the container: they would hold its cgroup.
pub(crate) fn start_outside(command: &mut Command) {
    if let Some(Err(error)) = ORIGIN.get().map(|origin| origin.receive(command)) {
        tracing::warn!(%error, "a program of the host is in the cgroup of a container");
    }
}
