//! The state directory of a node daemon, looked at from outside; asked by `traces` for what is left, and by tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::command::{Command, Output};
use crate::proc::{self, Shim};
use crate::runtime;

/// Where a daemon keeps its sockets and its records.
#[derive(Debug, Clone)]
pub struct State {
    dir: PathBuf,
}

/// A sandbox of `containerd-wasmtimed list --json`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The OS process that serves it.
    pub daemon: u32,
    /// Its containerd namespace.
    pub namespace: String,
    /// Its group: a pod's id, or the container's.
    pub group: String,
    /// The pid reported for its tasks, whose network namespace is the sandbox's.
    pub pid: u32,
    /// Its socket.
    pub socket: PathBuf,
    /// How many containers it holds.
    pub containers: usize,
}

impl From<Sandbox> for Shim {
    fn from(of: Sandbox) -> Self {
        let line = format!(
            "sandbox {} of daemon {}, containers: {}",
            of.socket.display(),
            of.daemon,
            of.containers
        );
        Self { pid: of.daemon, network: of.pid, id: of.group, namespace: of.namespace, line }
    }
}

impl State {
    /// The state directory of the daemon that belongs to a fixture or shim driver in `home`; a short name, as a socket's
    /// path ends at 106 bytes.
    pub fn of(home: &Path) -> Self {
        Self { dir: home.join("d") }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The manager socket, which names everything else.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("manager.sock")
    }

    /// The manager socket of one daemon process, which it keeps when another takes over.
    pub fn socket_of(&self, pid: u32) -> PathBuf {
        self.dir.join("daemons").join(format!("{pid}.sock"))
    }

    /// The OS processes that have such a socket, dead or alive, in the order of their pids.
    pub fn daemons(&self) -> Vec<u32> {
        let names = names_in(&self.dir.join("daemons"));
        let mut pids: Vec<_> =
            names.iter().filter_map(|name| name.strip_suffix(".sock")?.parse().ok()).collect();
        pids.sort_unstable();
        pids
    }

    /// The names of the records of living sandboxes; each is the file name of its socket.
    pub fn records(&self) -> Vec<String> {
        names_in(&self.dir.join("sandboxes"))
    }

    /// The record of the sandbox at this socket, there or not.
    pub fn record(&self, socket: &Path) -> PathBuf {
        self.dir.join("sandboxes").join(socket.file_name().unwrap_or_default())
    }

    /// `containerd-wasmtimed list --json --socket SOCKET`; its exit status is an answer.
    pub fn list(&self, socket: &Path) -> Result<Output> {
        Command::new(runtime::daemon_file())
            .args(["list", "--json", "--socket", &socket.to_string_lossy()])
            .run()
    }

    /// The sandboxes of all daemons of this directory that live; an error if one lives and does not tell.
    pub fn sandboxes(&self) -> Result<Vec<Sandbox>> {
        let mut all = Vec::new();
        for daemon in self.daemons().into_iter().filter(|pid| proc::alive(*pid)) {
            let said = self.list(&self.socket_of(daemon))?;
            // One of an earlier build may not tell in words that are understood; without a record it has nothing.
            if said.status != 0 && is_of_another_build(daemon) && self.records().is_empty() {
                continue;
            }
            // It may have left in between.
            if said.status == 0 || proc::alive(daemon) {
                let text = said.ok()?.out();
                all.extend(sandboxes(&text).with_context(|| format!("in a list: {text}"))?);
            }
        }
        Ok(all)
    }

    /// What is here although no sandbox lives and no daemon runs, one a line.
    pub fn left(&self) -> Vec<String> {
        let records = self.records().into_iter().map(|name| format!("record {name}"));
        let sockets = self.daemons().into_iter().map(|pid| format!("socket of daemon {pid}"));
        let manager = self.socket().exists().then(|| "the manager socket".to_owned());
        records.chain(sockets).chain(manager).collect()
    }
}

fn is_of_another_build(daemon: u32) -> bool {
    let own = fs::read_link(format!("/proc/{daemon}/exe")).ok();
    own.is_some_and(|own| runtime::daemon_file().canonicalize().is_ok_and(|ours| own != ours))
}

/// The sandboxes of a list.
fn sandboxes(json: &str) -> Option<Vec<Sandbox>> {
    let list: Value = serde_json::from_str(json).ok()?;
    list["sandboxes"].as_array()?.iter().map(sandbox).collect()
}

fn sandbox(value: &Value) -> Option<Sandbox> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let number = |name: &str| u32::try_from(value[name].as_u64()?).ok();
    Some(Sandbox {
        daemon: number("daemon")?,
        namespace: text("namespace")?,
        group: text("sandbox")?,
        pid: number("pid")?,
        socket: PathBuf::from(text("socket")?),
        containers: value["containers"].as_array()?.len(),
    })
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
