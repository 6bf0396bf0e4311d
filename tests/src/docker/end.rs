//! The end of a Docker Engine: stopped, killed, or dropped with everything that its containers
//! left.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::Signal;

use super::{Docker, UP_OR_DOWN};
use crate::poll::poll_until;
use crate::proc;

impl Docker {
    /// Ends it as its service manager would.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends it by SIGKILL.
    pub fn kill9(&mut self) -> Result<()> {
        self.killed = true;
        self.end(Signal::KILL)
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let child = self.process.take().context("dockerd is stopped")?;
        proc::end(child, "dockerd", signal, UP_OR_DOWN)
    }

    /// Removes all containers and networks through it.
    fn remove_all(&mut self) -> Result<()> {
        if self.process.is_none() {
            self.start_again()?;
        }
        let all = self.says(&["ps", "-aq", "--no-trunc"])?;
        for id in all.lines() {
            self.fixture.socket(id);
            // One with `--rm` may be gone by itself: what counts is what is left.
            self.docker(["rm", "-f", "-v", id]).run()?;
        }
        let left = self.says(&["ps", "-aq"])?;
        ensure!(left.is_empty(), "containers are left: {left}");
        self.says(&["network", "prune", "-f"]).map(drop)
    }
}

/// Removes the cgroup parent of an engine, which leaves it. Fails if a container has left its own
/// in it.
fn remove_parent(place: &Path) -> Result<()> {
    let gone = || match fs::remove_dir(place) {
        Err(error) if error.kind() != ErrorKind::NotFound => None,
        _ => Some(()),
    };
    // A cgroup is in use for a moment after the end of its container.
    poll_until("removal", UP_OR_DOWN, gone).with_context(|| {
        let below = fs::read_dir(place).into_iter().flatten().flatten();
        let left = below.filter(|entry| entry.path().is_dir()).map(|entry| entry.path());
        format!("cgroup {} with {:?}", place.display(), left.collect::<Vec<_>>())
    })
}

impl Drop for Docker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of dockerd\n{}---", self.log());
        }
        let mut faults = Vec::new();
        if let Err(error) = self.remove_all() {
            faults.push(format!("removing Docker's containers: {error:#}"));
        }
        if self.process.is_some()
            && let Err(error) = self.stop()
        {
            faults.push(format!("stopping dockerd: {error:#}"));
        }
        for place in self.fixture.cgroups() {
            faults.extend(remove_parent(&place).err().map(|error| format!("{error:#}")));
        }
        let mounts = proc::mounts_below(&self.home());
        if self.killed {
            // Those of its own start: its next one did not know them, and mounted over them.
            for place in mounts.iter().rev() {
                // What stays shows below.
                unmount(place, UnmountFlags::DETACH).ok();
            }
        }
        let mounts = proc::mounts_below(&self.home());
        faults.extend(mounts.iter().map(|place| format!("mount of dockerd {}", place.display())));
        if !faults.is_empty() {
            eprintln!("left by Docker of {}: {faults:#?}", self.fixture.namespace());
            assert!(std::thread::panicking(), "Docker was not clean: {faults:#?}");
        }
    }
}
