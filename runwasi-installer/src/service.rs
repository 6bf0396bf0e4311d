//! Services of the host: containerd and the node daemon.

use std::time::{Duration, SystemTime};

use crate::Error;
use crate::containerd::distribution::Distribution;
use crate::host::{Answer, Host};
use crate::options::Options;

/// How long containerd, or k3s with all that it starts, may take to be back.
const BACK: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(500);
/// Of `ctr`: for a connection to containerd, and for the question with its answer.
const TIMEOUTS: [&str; 4] = ["--connect-timeout", "2s", "--timeout", "10s"];

/// The daemon's service, without its suffix.
const DAEMON: &str = "containerd-wasmtimed";

/// Starts programs of the host for a run.
pub(crate) struct Services<'a> {
    host: &'a dyn Host,
    options: &'a Options,
    distribution: Distribution,
}

impl<'a> Services<'a> {
    pub(crate) fn new(
        host: &'a dyn Host,
        options: &'a Options,
        distribution: Distribution,
    ) -> Self {
        Self { host, options, distribution }
    }

    /// Restarts containerd and waits until it answers; the reason if it does not.
    ///
    /// The units of k3s and RKE2 have no limit of time, and wait for the CRI: without one here
    /// there would be no way back from a configuration that the CRI does not take. When the time is
    /// over, containerd's answer decides.
    pub(crate) fn restart_containerd(&self, socket: &str) -> Result<Result<(), String>, Error> {
        let unit = self.containerd_unit()?;
        let restarted = self.host.run_within("systemctl", &["restart", &unit], BACK)?;
        if let Some(refused) = restarted.filter(|answer| !answer.success) {
            return Ok(Err(format!("systemctl restart {unit}: {}", said(&refused))));
        }
        let deadline = self.host.now() + BACK;
        loop {
            match self.is_back(&unit, socket)? {
                Ok(()) => return Ok(Ok(())),
                Err(Waiting::Yet(_)) if self.host.now() < deadline => self.host.pause(PAUSE),
                Err(Waiting::Yet(reason) | Waiting::InVain(reason)) => return Ok(Err(reason)),
            }
        }
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        self.host.date().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    /// Shows new units to systemd and starts the daemon, or lets a new one take over: containers go
    /// on. With `changed` units the service is restarted, too.
    pub(crate) fn start_daemon(&self, changed: bool) -> Result<(), Error> {
        self.must("systemctl", &["daemon-reload"])?;
        let runs = self.host.run("systemctl", &["is-active", "--quiet", DAEMON])?.success;
        let units = [format!("{DAEMON}.socket"), format!("{DAEMON}.service")];
        self.must("systemctl", &["enable", "--now", &units[0], &units[1]])?;
        if runs {
            // If the new daemon does not start, this fails and the old one goes on: a restart
            // begins with the retirement of the old one.
            self.must("systemctl", &["reload", DAEMON])?;
        }
        if runs && changed {
            self.must("systemctl", &["restart", DAEMON])?;
        }
        Ok(())
    }

    /// Stops the daemon with its containers.
    pub(crate) fn stop_daemon(&self) -> Result<(), Error> {
        let units = [format!("{DAEMON}.socket"), format!("{DAEMON}.service")];
        self.must("systemctl", &["disable", "--now", &units[0], &units[1]])
    }

    /// Shows systemd that units are gone.
    pub(crate) fn reload_units(&self) -> Result<(), Error> {
        self.must("systemctl", &["daemon-reload"])
    }

    /// Lets a new program say its version, `at` its place or where it waits for it.
    pub(crate) fn try_program(&self, path: &str, at: &str) -> Result<(), Error> {
        let answer = self.host.run(at, &["-v"])?;
        if answer.success {
            return Ok(());
        }
        Err(Error::file(path, format!("does not run on this host: {}", said(&answer))))
    }

    /// Gives the kernel the values of a sysctl file; the reason if it does not take them.
    pub(crate) fn apply_sysctl(&self, file: &str) -> Result<Option<String>, Error> {
        let answer = self.host.run("sysctl", &["-p", file])?;
        Ok((!answer.success).then(|| said(&answer)))
    }

    fn containerd_unit(&self) -> Result<String, Error> {
        if let Some(unit) = &self.options.containerd_unit {
            return Ok(unit.clone());
        }
        let units = self.distribution.units();
        for unit in units {
            if self.host.run("systemctl", &["is-active", "--quiet", unit])?.success {
                return Ok((*unit).to_owned());
            }
        }
        // One that has failed, of an earlier run: it is what is to be restarted.
        Ok(units[0].to_owned())
    }

    /// Whether containerd answers and has its CRI. With a configuration that the CRI does not take,
    /// containerd runs without it.
    fn is_back(&self, unit: &str, socket: &str) -> Result<Result<(), Waiting>, Error> {
        let (program, before) = self.distribution.ctr();
        let arguments = [before, &["--address", socket], &TIMEOUTS, &["plugins", "ls"]].concat();
        let answer = match self.host.run(program, &arguments) {
            Ok(answer) => answer,
            // No ctr on this host: systemd's word is all there is.
            Err(error) if error.is_missing() => {
                let active = self.host.run("systemctl", &["is-active", "--quiet", unit])?.success;
                let reason = || Waiting::Yet(format!("{unit} is not active"));
                return Ok(active.then_some(()).ok_or_else(reason));
            }
            Err(error) => return Err(error.into()),
        };
        if !answer.success {
            return Ok(Err(Waiting::Yet(said(&answer))));
        }
        Ok(cri(&answer.output))
    }

    fn must(&self, program: &str, arguments: &[&str]) -> Result<(), Error> {
        let answer = self.host.run(program, arguments)?;
        if answer.success {
            return Ok(());
        }
        let line = format!("{program} {}", arguments.join(" "));
        Err(Error::file(&line, format!("failed on the host: {}", said(&answer))))
    }
}

/// Why containerd is not back.
#[derive(Debug, PartialEq, Eq)]
enum Waiting {
    /// It may come.
    Yet(String),
    /// It has come, and it does not do.
    InVain(String),
}

/// Reads a table of plugins: type, id, platforms, status.
fn cri(table: &str) -> Result<(), Waiting> {
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.len() >= 4);
    let is_cri = |row: &Vec<&str>| {
        row[0].starts_with("io.containerd.cri.")
            || (row[0], row[1]) == ("io.containerd.grpc.v1", "cri")
    };
    let found: Vec<_> = rows.filter(is_cri).collect();
    if found.is_empty() {
        return Err(Waiting::InVain("containerd has no CRI".to_owned()));
    }
    match found.iter().find(|row| row.last() != Some(&"ok")) {
        None => Ok(()),
        Some(row) => Err(Waiting::InVain(format!("containerd's plugin {}", row.join(" ")))),
    }
}

fn said(answer: &Answer) -> String {
    let text = if answer.errors.trim().is_empty() { &answer.output } else { &answer.errors };
    text.trim().to_owned()
}
