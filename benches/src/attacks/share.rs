//! CPU cgroups with the kernel's default weight, as systemd gives one to each service and a
//! container runtime to each container. At the root each thread of a process would weigh as much as
//! a whole service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anyhow::{Context, Result};
use runwasi_tests::poll_until;

/// Bound for the end of the processes inside, which are being killed.
const SOON: Duration = Duration::from_secs(10);

/// A cgroup that is removed with the value, after its last process.
pub(super) struct CpuShare(PathBuf);

impl CpuShare {
    pub(super) fn make(name: &str) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let mut place = root.join("cpu");
        if !place.is_dir() {
            fs::write(root.join("cgroup.subtree_control"), "+cpu")
                .context("no controller of CPU time for a cgroup of this benchmark")?;
            place = root.to_owned();
        }
        let place = place.join(format!("runwasi-bench-{}-{name}", process::id()));
        fs::create_dir(&place).with_context(|| place.display().to_string())?;
        Ok(Self(place))
    }

    /// Moves a process into it with all its threads.
    pub(super) fn take(&self, pid: u32) -> Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("process {pid} into {}", self.0.display()))
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        // An error leaves an empty cgroup.
        let _ = poll_until("empty cgroup", SOON, || fs::remove_dir(&self.0).ok());
    }
}
