//! The end of a Docker Engine: stopped, killed, or dropped with everything that its containers
//! left.

use std::fs;
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

/// Removes a cgroup that no process is in, and those below. One whose container has just ended is
/// in use for a moment, and on a busy machine its shim leaves it behind with a warning.
fn removed(place: &Path) -> bool {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            fs::remove_dir(entry.path()).ok();
        }
    }
    fs::remove_dir(place).is_ok() || !place.exists()
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
        // Its own cgroup parent, empty by now: an engine leaves it.
        for place in self.fixture.cgroups() {
            let gone = || removed(&place).then_some(());
            if let Err(error) = poll_until("removal", UP_OR_DOWN, gone) {
                faults.push(format!("cgroup {}: {error:#}", place.display()));
            }
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
