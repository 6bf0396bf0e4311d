//! What is written down about daemons and sandboxes, for who comes after them: the thin shim, which goes to a sandbox's owner,
//! and the next daemon, which removes what a killed one left.
//!
//! ```text
//! <dir>/manager.sock         the manager API of the daemon that takes new sandboxes
//! <dir>/daemons/<pid>.sock   the manager API of one particular daemon
//! <dir>/sandboxes/<name>     one record, JSON; <name> is the file name of the sandbox's socket
//! ```

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use runwasi_core::bootstrap::{
    BootstrapError,
    socket::{self, Lock},
};
use serde::{Deserialize, Serialize};

/// The state directory: the one that the manager socket lies in.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    path: PathBuf,
}

/// The end of the name of a record that is being written.
const TEMPORARY: &str = "tmp";

/// Who serves a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The daemon.
    pub owner: Owner,
    /// The sandbox's socket.
    pub socket: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// The pod's id, or the container's.
    pub group: String,
    /// When it was made, in nanoseconds since 1970: no two records are equal.
    pub made: u128,
}

/// A daemon, told apart from a later process of the same pid by its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// When it was started, in ticks since boot (`/proc/<pid>/stat`, field 22).
    pub started: u64,
    /// The manager socket of its own.
    pub manager: PathBuf,
}

/// Why something cannot be written down.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A directory that others could write to is not to be trusted.
    #[error("{}: belongs to uid {uid} with mode {mode:o}, must be this user's and writable by nobody else", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
        /// Its mode.
        mode: u32,
    },
    /// A stale socket cannot be removed.
    #[error(transparent)]
    Socket(#[from] BootstrapError),
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { path, source }
}

impl StateDirectory {
    /// The directory of `manager_socket`; nothing is touched.
    pub fn of(manager_socket: &Path) -> Self {
        Self { path: manager_socket.parent().unwrap_or(Path::new("/")).to_owned() }
    }

    /// Makes it, and what belongs into it, for this user alone.
    pub fn create(&self) -> Result<(), RecordError> {
        for directory in [self.path.clone(), self.daemons(), self.sandboxes()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(failed(&directory))?;
            let metadata = fs::symlink_metadata(&directory).map_err(failed(&directory))?;
            let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
            if uid != rustix::process::geteuid().as_raw() || mode & 0o022 != 0 || !metadata.is_dir()
            {
                return Err(RecordError::Unsafe { path: directory, uid, mode });
            }
        }
        Ok(())
    }

    /// The manager socket of the daemon `pid`.
    pub fn daemon_socket(&self, pid: u32) -> PathBuf {
        self.daemons().join(format!("{pid}.sock"))
    }

    /// Held by a daemon while it takes its place among the others.
    pub fn lock(&self) -> Result<Lock, RecordError> {
        // No socket lies there, whose removal would take the same lock.
        Ok(Lock::take(&self.sandboxes())?)
    }

    fn daemons(&self) -> PathBuf {
        self.path.join("daemons")
    }

    fn sandboxes(&self) -> PathBuf {
        self.path.join("sandboxes")
    }

    fn record(&self, socket: &Path) -> PathBuf {
        self.sandboxes().join(socket.file_name().unwrap_or_default())
    }

    /// Writes a sandbox's record, complete or not at all.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.record(&record.socket);
        let temporary = path.with_extension(format!("{}.{TEMPORARY}", record.owner.pid));
        let json =
            serde_json::to_vec(record).map_err(|error| failed(&path)(io::Error::other(error)))?;
        fs::write(&temporary, json).map_err(failed(&temporary))?;
        fs::rename(&temporary, &path).map_err(failed(&path))
    }

    /// The record of the sandbox behind `socket`, if there is one that can be read.
    pub fn read(&self, socket: &Path) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record(socket)).ok()?).ok()
    }

    /// Removes a sandbox's record; only its owner's, or that of an owner who is gone.
    pub fn remove(&self, record: &Record) -> Result<(), RecordError> {
        if self.read(&record.socket).as_ref() != Some(record) {
            return Ok(());
        }
        let path = self.record(&record.socket);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes what daemons that are gone have left: sockets and records. The answer is how many records.
    pub fn sweep(&self) -> Result<usize, RecordError> {
        for socket in files(&self.daemons())? {
            socket::remove_if_dead(&socket)?;
        }
        let mut removed = 0;
        for path in files(&self.sandboxes())? {
            if being_written(&path) {
                continue;
            }
            let record: Option<Record> =
                fs::read(&path).ok().and_then(|json| serde_json::from_slice(&json).ok());
            match record {
                Some(record) if record.owner.is_alive() => continue,
                // Whatever lies there is no reason not to serve.
                Some(record) => drop(socket::remove_if_dead(&record.socket).inspect_err(|error| {
                    tracing::warn!(%error, "what a killed daemon has left stays behind");
                })),
                None => {}
            }
            match fs::remove_file(&path) {
                Ok(()) => removed += 1,
                // A thin shim's `delete` was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(&path)(error)),
            }
        }
        Ok(removed)
    }

    /// The manager sockets of other daemons that live.
    pub fn others(&self) -> Result<Vec<PathBuf>, RecordError> {
        let own = self.daemon_socket(std::process::id());
        Ok(files(&self.daemons())?
            .into_iter()
            .filter(|path| *path != own && socket::is_alive(path))
            .collect())
    }
}

/// Half a record, whose writer lives: `<name>.<pid>.tmp`.
fn being_written(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = name.rsplit('.');
    let pid = (parts.next() == Some(TEMPORARY))
        .then(|| parts.next().and_then(|pid| pid.parse().ok()))
        .flatten();
    pid.is_some_and(|pid| started(pid).is_ok())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let entries = fs::read_dir(directory).map_err(failed(directory))?;
    entries.map(|entry| Ok(entry.map_err(failed(directory))?.path())).collect()
}

impl Owner {
    /// This process.
    pub fn this(state: &StateDirectory) -> Result<Self, RecordError> {
        let pid = std::process::id();
        let started = started(pid).map_err(failed(Path::new("/proc/self/stat")))?;
        Ok(Self { pid, started, manager: state.daemon_socket(pid) })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        started(self.pid).is_ok_and(|started| started == self.started)
    }
}

/// When a process was started. A zombie counts as gone.
fn started(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name before it, in parentheses, may hold anything.
    let mut fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ')).into_iter().flatten();
    let state = fields.next();
    let started = fields.nth(22 - 4).and_then(|field| field.parse().ok());
    match (state, started) {
        (Some("Z" | "X") | None, _) | (_, None) => Err(io::ErrorKind::NotFound.into()),
        (Some(_), Some(started)) => Ok(started),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixListener};

    use super::*;

    fn state() -> (tempfile::TempDir, StateDirectory) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDirectory::of(&directory.path().join("m/manager.sock"));
        state.create().unwrap();
        (directory, state)
    }

    fn record(directory: &Path, owner: Owner) -> Record {
        Record {
            owner,
            socket: directory.join("abc"),
            namespace: "default".into(),
            group: "g".into(),
            made: 1,
        }
    }

    #[test]
    fn a_killed_daemons_sockets_and_records_are_swept_and_a_living_ones_are_not() {
        let (directory, state) = state();
        let alive = record(directory.path(), Owner::this(&state).unwrap());
        let mut dead = alive.clone();
        dead.owner.started += 1;
        dead.socket = directory.path().join("dead");
        drop(UnixListener::bind(&dead.socket).unwrap());
        drop(UnixListener::bind(state.daemon_socket(1)).unwrap());
        let _other = UnixListener::bind(state.daemon_socket(2)).unwrap();
        for record in [&alive, &dead] {
            state.write(record).unwrap();
        }
        fs::write(state.sandboxes().join("half.tmp"), "{").unwrap();
        assert_eq!(state.sweep().unwrap(), 2);
        assert_eq!((state.read(&alive.socket), state.read(&dead.socket)), (Some(alive), None));
        assert!(!dead.socket.exists());
        assert_eq!(state.others().unwrap(), [state.daemon_socket(2)]);
    }

    #[test]
    fn a_record_is_removed_by_its_owner_only() {
        let (directory, state) = state();
        let first = record(directory.path(), Owner::this(&state).unwrap());
        let mut second = first.clone();
        second.owner.pid = 1;
        state.write(&second).unwrap();
        state.remove(&first).unwrap();
        assert_eq!(state.read(&first.socket), Some(second.clone()));
        state.remove(&second).unwrap();
        assert_eq!(state.read(&first.socket), None);
        state.remove(&second).unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let (_directory, state) = state();
        fs::set_permissions(&state.path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = state.create().unwrap_err().to_string();
        assert!(error.contains("777"), "{error}");
    }

    #[test]
    fn this_process_is_alive_and_one_with_its_pid_and_another_start_is_not() {
        let (_directory, state) = state();
        let mut owner = Owner::this(&state).unwrap();
        assert!(owner.is_alive());
        owner.started -= 1;
        assert!(!owner.is_alive());
    }
}
