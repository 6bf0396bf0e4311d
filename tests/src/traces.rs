//! What a containerd, real or played, and its shims may leave on the machine; kept by `containerd` and `shim`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::{self, State};
use crate::poll::poll_until;
use crate::proc::{self, Shim};

/// Where runtimes keep the directories of runc's shims that run native containers for them.
const DELEGATES: &str = "/run/runwasi/native";

/// End of the `-id` of such a shim.
const DELEGATE: &str = "--native";

fn is_delegate(shim: &Shim) -> bool {
    shim.id.ends_with(DELEGATE)
}

/// The directory, the containerd namespace and the names that one fixture used.
#[derive(Debug)]
pub struct Traces {
    dir: PathBuf,
    namespace: String,
    // Of the node daemon that the fixture's thin shims ask, whether or not there is one.
    node: State,
    // Every name a shim may have been started for, so that a socket file left behind is found by
    // its hash. A mutex because tests call ctr from several threads.
    named: Mutex<BTreeSet<String>>,
}

impl Traces {
    /// A fresh directory and a namespace that no other fixture of the machine uses.
    pub fn new() -> Result<Self> {
        static FIXTURES: AtomicU32 = AtomicU32::new(0);
        let root = rustix::process::geteuid().is_root();
        ensure!(root, "containerd and shims need root: run the tests as root");
        // Kept, not deleted on drop: deleting through a mount left behind would delete what is mounted.
        let dir = tempfile::Builder::new().prefix("test").tempdir_in("/tmp")?.keep();
        let number = FIXTURES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("t{}-{number}", std::process::id());
        let node = State::of(&dir);
        Ok(Self { dir, namespace, node, named: Mutex::default() })
    }

    /// Lets the thin shims ask another fixture's daemon.
    pub(crate) fn share(&mut self, node: State) {
        self.node = node;
    }

    /// Where the node daemon of this fixture keeps its sockets and records.
    pub fn node(&self) -> &State {
        &self.node
    }

    /// The directory everything of the fixture lies in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The containerd namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The gRPC socket; a short name, as a socket's path ends at 106 bytes.
    pub fn address(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// Remembers that a shim may have been started for this group.
    pub fn name(&self, group: &str) {
        self.lock().insert(group.to_owned());
    }

    /// The socket file of a group.
    pub fn socket(&self, group: &str) -> PathBuf {
        self.name(group);
        proc::socket_path(&self.address(), &self.namespace, group)
    }

    /// Shims of this address that run now; for each sandbox in a node daemon there is one, with the daemon's pid.
    pub fn shims(&self) -> Vec<Shim> {
        let mut shims = proc::shims_of(&self.address());
        shims.retain(|shim| !is_delegate(shim));
        match self.node.sandboxes() {
            Ok(all) => shims.extend(
                all.into_iter().filter(|one| one.namespace == self.namespace).map(Shim::from),
            ),
            // In the list, so that nobody takes a daemon that does not answer for one without sandboxes.
            Err(error) => {
                shims.extend(self.node.daemons().into_iter().map(|pid| self.silent(pid, &error)))
            }
        }
        shims
    }

    /// runc's shims that run native containers for other shims of this address now.
    pub fn delegates(&self) -> Vec<Shim> {
        let mut shims = proc::shims_of(&self.address());
        shims.retain(is_delegate);
        shims
    }

    /// The directories of these that exist now.
    fn delegate_directories(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(DELEGATES).into_iter().flatten().flatten();
        let ours = format!("{}.", self.namespace);
        let is_ours = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&ours))
        };
        all.map(|entry| entry.path()).filter(is_ours).collect()
    }

    fn silent(&self, pid: u32, error: &anyhow::Error) -> Shim {
        let line = format!("daemon that does not list its sandboxes: {error:#}");
        Shim { pid, network: pid, id: String::new(), namespace: self.namespace.clone(), line }
    }

    /// Socket files that exist now.
    pub fn sockets(&self) -> Vec<PathBuf> {
        let address = self.address();
        let paths: Vec<_> = self
            .lock()
            .iter()
            .flat_map(|group| [group.clone(), format!("{group}{DELEGATE}")])
            .map(|group| proc::socket_path(&address, &self.namespace, &group))
            .collect();
        paths.into_iter().filter(|path| path.exists()).collect()
    }

    /// A node daemon's records of the named groups that exist now.
    fn records(&self) -> Vec<PathBuf> {
        let address = self.address();
        let socket = |group: &String| proc::socket_path(&address, &self.namespace, group);
        let paths: Vec<_> =
            self.lock().iter().map(|group| self.node.record(&socket(group))).collect();
        paths.into_iter().filter(|path| path.exists()).collect()
    }

    /// Mounts below the directory.
    pub fn mounts(&self) -> Vec<PathBuf> {
        proc::mounts_below(&self.dir)
    }

    /// Shims, socket files, records and mounts that exist now, one a line.
    pub fn left(&self) -> Vec<String> {
        let shims =
            self.shims().into_iter().map(|shim| format!("shim {}: {}", shim.pid, shim.line));
        let sockets = self.sockets().into_iter().map(|path| format!("socket {}", path.display()));
        let records = self.records().into_iter().map(|path| format!("record {}", path.display()));
        let mounts = self.mounts().into_iter().map(|path| format!("mount {}", path.display()));
        let delegates = self.delegates().into_iter();
        let delegates = delegates.map(|shim| format!("native runtime {}: {}", shim.pid, shim.line));
        let directories = self.delegate_directories().into_iter();
        let directories = directories.map(|path| format!("directory {}", path.display()));
        let left = shims.chain(sockets).chain(records).chain(mounts);
        left.chain(delegates).chain(directories).collect()
    }

    /// Ends by force all shims that run, and removes their socket files.
    pub fn end_shims(&self) {
        for shim in self.shims().into_iter().chain(self.delegates()) {
            if let Some(pid) = i32::try_from(shim.pid).ok().and_then(Pid::from_raw) {
                // Fails only if it ended by itself in between.
                kill_process(pid, Signal::KILL).ok();
            }
        }
        for path in self.sockets() {
            fs::remove_file(path).ok();
        }
        for directory in self.delegate_directories() {
            fs::remove_dir_all(directory).ok();
        }
    }

    /// Removes by force what should have gone by itself, and the directory; gives what went wrong.
    pub fn sweep(&self) -> Vec<String> {
        self.end_shims();
        daemon::sweep(&State::of(&self.dir));
        // ctr removes a task's FIFOs when it deletes the task; one that vanished with its shim leaves them.
        let ours = format!("-{}-std", self.namespace);
        for dir in proc::fifos(|name| name.contains(&ours)).iter().filter_map(|file| file.parent())
        {
            fs::remove_dir_all(dir).ok();
        }
        // The innermost first: a mount may stand on another one. What stays shows below.
        for mount in self.mounts().iter().rev() {
            unmount(mount, UnmountFlags::DETACH).ok();
        }
        if !self.mounts().is_empty() {
            return vec![format!("kept, something is still mounted below {}", self.dir.display())];
        }
        for place in self.cgroups() {
            // As with runc it stays when the last container goes that did not make it. Fails for one in which a container has
            // left something.
            fs::remove_dir(place).ok();
        }
        let removed = fs::remove_dir_all(&self.dir);
        removed.err().map(|error| format!("{}: {error}", self.dir.display())).into_iter().collect()
    }

    /// The cgroups of the namespace that exist now, in every hierarchy: runtimes make those of containers in them.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
        let all = hierarchies.map(|entry| entry.path()).chain([root.to_owned()]);
        all.map(|place| place.join(&self.namespace)).filter(|place| place.is_dir()).collect()
    }

    /// Reports what was left; a test that has not failed yet fails by it.
    pub fn report(&self, faults: &[String]) {
        if faults.is_empty() {
            return;
        }
        eprintln!("left by {}: {faults:#?}", self.namespace);
        assert!(std::thread::panicking(), "{} was not clean: {faults:#?}", self.namespace);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.named.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Longest life of what is left. A shim whose containerd was killed before its first container ends after 30 s.
const LEFT: Duration = Duration::from_secs(40);

/// The bundles in these directories, one a line. Those with a dot before their name do not count: containerd renames
/// a bundle so before it removes it, and one that is killed in between never looks at it again.
pub(crate) fn bundles_in(directories: &[PathBuf]) -> Vec<String> {
    let entries = directories.iter().flat_map(fs::read_dir).flatten().flatten();
    let whole = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    whole.map(|entry| format!("bundle {}", entry.path().display())).collect()
}

/// Waits until `left` gives nothing: shims leave a moment after their last container's removal.
pub fn becomes_clean(left: impl Fn() -> Vec<String>) -> Result<()> {
    let clean = poll_until("nothing left", LEFT, || left().is_empty().then_some(()));
    clean.with_context(|| format!("left: {:#?}", left()))
}
