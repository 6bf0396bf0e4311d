//! The end of a containerd: stopped, killed, or dropped with everything its containers left.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::Signal;

use super::{Containerd, UP_OR_DOWN};
use crate::daemon::Daemon;
use crate::proc;

impl Containerd {
    /// Ends containerd as its service manager would; shims stay.
    pub fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM)
    }

    /// Ends containerd by SIGKILL; shims stay.
    pub fn kill9(&mut self) -> Result<()> {
        self.end(Signal::KILL)
    }

    /// Ends all shims by SIGKILL and removes their socket files; only for one that would stay for ever by a fault of its own.
    pub fn end_shims(&self) {
        self.traces.end_shims();
    }

    fn end(&mut self, signal: Signal) -> Result<()> {
        let child = self.process.take().context("containerd is stopped")?;
        proc::end(child, "containerd", signal, UP_OR_DOWN)
    }

    /// Ends all tasks and removes all containers through containerd itself.
    fn remove_all(&mut self) -> Result<()> {
        if self.process.is_none() {
            self.start_again()?;
        }
        let brief = Duration::from_secs(10);
        let list = |kind: &str| -> Result<Vec<String>> {
            let out = self.ctr_command([kind, "ls", "-q"]).deadline(brief).run()?.ok()?.out();
            Ok(out.split_whitespace().map(str::to_owned).collect())
        };
        for id in list("task")? {
            // It may end by itself at any moment: what counts is what is left at the end.
            self.ctr_command(["task", "kill", "-s", "SIGKILL", &id]).deadline(brief).run()?;
            self.ctr_command(["task", "delete", "-f", &id]).deadline(brief).run()?;
        }
        for id in list("container")? {
            self.ctr_command(["container", "delete", &id]).deadline(brief).run()?;
        }
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of containerd {}\n{}---", self.dir().display(), self.log());
            self.daemon
                .iter()
                .for_each(|daemon| eprintln!("--- log of its daemon\n{}---", daemon.log()));
        }
        let mut faults = Vec::new();
        if self.ever_ran
            && let Err(error) = self.remove_all()
        {
            faults.push(format!("removing the containers: {error:#}"));
        }
        if self.becomes_clean().is_err() {
            faults.extend(self.leftovers());
        }
        if self.process.is_some()
            && let Err(error) = self.stop()
        {
            faults.push(format!("stopping containerd: {error:#}"));
        }
        faults.extend(self.daemon.iter_mut().flat_map(Daemon::end));
        faults.extend(self.traces.sweep());
        self.traces.report(&faults);
    }
}
