//! Records of daemons and their sandboxes, kept in files. A thin shim finds the owner of a sandbox
//! by them. The next daemon finds the sockets and records of a killed one and removes them.
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

use runwasi_core::{
    bootstrap::{
        BootstrapError,
        socket::{self, Lock},
    },
    sys,
};
use serde::{Deserialize, Serialize};

/// The state directory, which is the directory of the manager socket.
#[derive(Clone, Debug)]
pub struct StateDirectory {
    path: PathBuf,
}

/// File name extension of a record that is being written.
const TEMPORARY: &str = "tmp";

/// A sandbox and the daemon that serves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The daemon that serves it.
    pub owner: Owner,
    /// The sandbox's socket.
    pub socket: PathBuf,
    /// containerd's namespace.
    pub namespace: String,
    /// The pod's id, or the container's.
    pub group: String,
    /// Time of its creation in nanoseconds since 1970, which makes every record unique.
    pub made: u128,
}

/// A daemon. Its start time distinguishes it from a later process with the same pid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// Start time in ticks since boot (`/proc/<pid>/stat`, field 22).
    pub started: u64,
    /// Its own manager socket in `daemons`.
    pub manager: PathBuf,
}

/// Failure of the state directory or of a record in it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A directory of another user, or one that other users can write to, is not trusted.
    #[error(
        "{}: belongs to uid {uid} with mode {mode:o}, \
         must be this user's and writable by nobody else",
        path.display()
    )]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its mode.
        mode: u32,
    },
    /// A link leads elsewhere, and its mode says nothing.
    #[error("{}: is a symbolic link, must be a directory", path.display())]
    Link {
        /// The link.
        path: PathBuf,
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
    /// The directory of `manager_socket`, without access to the file system.
    pub fn of(manager_socket: &Path) -> Self {
        Self { path: manager_socket.parent().unwrap_or(Path::new("/")).to_owned() }
    }

    /// Creates the directory and its subdirectories, for this user alone.
    pub fn create(&self) -> Result<(), RecordError> {
        for directory in [self.path.clone(), self.daemons(), self.sandboxes()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)
                .map_err(failed(&directory))?;
            // An existing directory keeps its owner and mode, so both are checked. A symbolic link
            // is refused, wherever it leads.
            let metadata = fs::symlink_metadata(&directory).map_err(failed(&directory))?;
            if metadata.is_symlink() {
                return Err(RecordError::Link { path: directory });
            }
            let uid = metadata.uid();
            let mode = metadata.mode() & 0o7777;
            if uid != rustix::process::geteuid().as_raw() || mode & 0o022 != 0 || !metadata.is_dir()
            {
                return Err(RecordError::Unsafe { path: directory, uid, mode });
            }
        }
        Ok(())
    }

    /// Path of the own manager socket of the daemon `pid`.
    pub fn daemon_socket(&self, pid: u32) -> PathBuf {
        self.daemons().join(format!("{pid}.sock"))
    }

    /// Takes the lock that a daemon holds while it takes over from others, and that every change of
    /// a record holds. Blocks until it is free.
    pub fn lock(&self) -> Result<Lock, RecordError> {
        // On the directory without sockets: binding or removing a socket locks its directory, and
        // would wait for this lock for ever.
        Ok(Lock::take(&self.sandboxes())?)
    }

    fn daemons(&self) -> PathBuf {
        self.path.join("daemons")
    }

    fn sandboxes(&self) -> PathBuf {
        self.path.join("sandboxes")
    }

    /// Path of the record of the sandbox at `socket`.
    fn record(&self, socket: &Path) -> PathBuf {
        self.sandboxes().join(socket.file_name().unwrap_or_default())
    }

    /// Writes the record of a sandbox, completely or not at all.
    pub fn write(&self, record: &Record) -> Result<(), RecordError> {
        let path = self.record(&record.socket);
        // With the pid of the writer, by which `sweep` tells a leftover from a record that is being
        // written.
        let temporary = path.with_extension(format!("{}.{TEMPORARY}", record.owner.pid));
        let json =
            serde_json::to_vec(record).map_err(|error| failed(&path)(io::Error::other(error)))?;
        let written = fs::write(&temporary, json).map_err(failed(&temporary));
        let placed = written.and_then(|()| {
            // Not between the comparison and the removal of `remove`, or of a `sweep`.
            let _lock = self.lock()?;
            // A rename: a thin shim may read the record at any time.
            fs::rename(&temporary, &path).map_err(failed(&path))
        });
        if placed.is_err() {
            // A full file system has room for the name alone, and refuses one sandbox after the
            // other. An error: there is no file, or the next sweep removes it.
            let _ = fs::remove_file(&temporary);
        }
        placed
    }

    /// The record of the sandbox at `socket`. No result if it is missing or unreadable.
    pub fn read(&self, socket: &Path) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.record(socket)).ok()?).ok()
    }

    /// Removes this record of a sandbox, and no other one under the same name. For its owner, or
    /// after the end of its owner.
    pub fn remove(&self, record: &Record) -> Result<(), RecordError> {
        let is_current = || self.read(&record.socket).as_ref() == Some(record);
        // Without the lock first, for a thin shim that finds no state directory.
        if !is_current() {
            return Ok(());
        }
        // A new sandbox of the same name may have replaced it, and may still until it is locked.
        let _lock = self.lock()?;
        if !is_current() {
            return Ok(());
        }
        let path = self.record(&record.socket);
        match fs::remove_file(&path) {
            // Not found: a thin shim or a starting daemon has removed it since.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Removes the sockets and records of daemons that have ended. Returns the number of records.
    /// Its caller holds the lock.
    pub fn sweep(&self) -> Result<usize, RecordError> {
        for socket in files(&self.daemons())? {
            match ended_daemon(&socket) {
                Some(pid) => socket::remove_of_ended(&socket, pid)?,
                None => socket::remove_if_dead(&socket)?,
            }
        }
        let mut removed = 0;
        for path in files(&self.sandboxes())? {
            if !being_written(&path) && sweep_record(&path)? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// The own manager sockets of all other living daemons.
    pub fn others(&self) -> Result<Vec<PathBuf>, RecordError> {
        let own = self.daemon_socket(std::process::id());
        Ok(files(&self.daemons())?
            .into_iter()
            .filter(|path| *path != own && socket::is_alive(path))
            .collect())
    }

    /// The same, of daemons that were started before this one. A drained daemon waits for these
    /// alone: two that wait for each other would never leave.
    pub(crate) fn earlier(&self) -> Result<Vec<PathBuf>, RecordError> {
        let own = started(&self.daemon_socket(std::process::id()));
        let mut others = self.others()?;
        others.retain(|path| started(path) < own);
        Ok(others)
    }
}

/// The pid in the name of a daemon's own socket.
fn pid_of(socket: &Path) -> Option<u32> {
    socket.file_stem()?.to_str()?.parse().ok()
}

/// Start time of the process of a daemon's own socket. Absent if there is none any more.
pub(crate) fn started(socket: &Path) -> Option<u64> {
    sys::start_time(pid_of(socket)?).ok()
}

/// The pid in the name of a daemon's own socket, if there is no such process any more.
fn ended_daemon(socket: &Path) -> Option<u32> {
    let pid = pid_of(socket)?;
    sys::start_time(pid).is_err().then_some(pid)
}

/// True for the temporary file of a living writer: `<name>.<pid>.tmp`.
fn being_written(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = name.rsplit('.');
    let pid = (parts.next() == Some(TEMPORARY))
        .then(|| parts.next().and_then(|pid| pid.parse().ok()))
        .flatten();
    // A later process with the same pid only delays the removal until the next sweep.
    pid.is_some_and(|pid| sys::start_time(pid).is_ok())
}

/// Paths of all entries of a directory.
fn files(directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let entries = fs::read_dir(directory).map_err(failed(directory))?;
    entries.map(|entry| Ok(entry.map_err(failed(directory))?.path())).collect()
}

/// Removes a record and the socket that it names, unless its daemon lives. True if it has removed
/// the record.
fn sweep_record(path: &Path) -> Result<bool, RecordError> {
    let record = fs::read(path).ok().and_then(|json| serde_json::from_slice::<Record>(&json).ok());
    // One that is unreadable names no socket to remove.
    if let Some(record) = record {
        if record.owner.is_alive() {
            return Ok(false);
        }
        // Only logged: a file that cannot be removed is no reason not to serve.
        if let Err(error) = socket::remove_of_ended(&record.socket, record.owner.pid) {
            tracing::warn!(%error, "what a killed daemon has left stays behind");
        }
    }
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        // A thin shim's `delete` was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path)(error)),
    }
}

impl Owner {
    /// This process.
    pub fn this(state: &StateDirectory) -> Result<Self, RecordError> {
        let pid = std::process::id();
        let started = sys::start_time(pid).map_err(failed(Path::new("/proc/self/stat")))?;
        Ok(Self { pid, started, manager: state.daemon_socket(pid) })
    }

    /// True while the process runs.
    pub fn is_alive(&self) -> bool {
        sys::start_time(self.pid).is_ok_and(|started| started == self.started)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::PermissionsExt, net::UnixListener},
        sync::mpsc,
        thread,
        time::Duration,
    };

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
    fn sweep_removes_only_sockets_and_records_of_ended_daemons() {
        let (directory, state) = state();
        let alive = record(directory.path(), Owner::this(&state).unwrap());
        let mut dead = alive.clone();
        dead.owner.started += 1;
        dead.socket = directory.path().join("dead");
        // Kept open by a process that shares its descriptors and has not ended yet.
        let _kept = UnixListener::bind(&dead.socket).unwrap();
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
    fn records_change_only_under_the_lock() {
        let (directory, state) = state();
        let first = record(directory.path(), Owner::this(&state).unwrap());
        let second = Record { made: 2, ..first.clone() };
        state.write(&first).unwrap();
        let waits = |change: &(dyn Fn() -> Result<(), RecordError> + Sync)| {
            let lock = state.lock().unwrap();
            let (sender, changed) = mpsc::channel();
            thread::scope(|scope| {
                scope.spawn(move || sender.send(change()).unwrap());
                assert!(changed.recv_timeout(Duration::from_millis(50)).is_err());
                drop(lock);
                changed.recv().unwrap().unwrap();
            });
        };
        waits(&|| state.write(&second));
        assert_eq!(state.read(&first.socket), Some(second.clone()));
        waits(&|| state.remove(&second));
        assert_eq!(state.read(&first.socket), None);
    }

    #[test]
    fn record_that_is_not_written_leaves_no_file() {
        let (directory, state) = state();
        let record = record(directory.path(), Owner::this(&state).unwrap());
        // A file cannot be renamed over it.
        fs::create_dir(state.record(&record.socket)).unwrap();
        assert!(state.write(&record).is_err());
        assert_eq!(files(&state.sandboxes()).unwrap(), [state.record(&record.socket)]);
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let (_directory, state) = state();
        fs::set_permissions(&state.path, fs::Permissions::from_mode(0o777)).unwrap();
        let error = state.create().unwrap_err().to_string();
        assert!(error.contains("777"), "{error}");
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_named_so() {
        let (directory, state) = state();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&state.path, &link).unwrap();
        let error = StateDirectory::of(&link.join("manager.sock")).create().unwrap_err();
        assert!(error.to_string().ends_with("link: is a symbolic link, must be a directory"));
    }

    #[test]
    fn an_owner_with_the_pid_of_a_process_and_another_start_time_is_not_alive() {
        let (_directory, state) = state();
        let mut owner = Owner::this(&state).unwrap();
        assert!(owner.is_alive());
        owner.started -= 1;
        assert!(!owner.is_alive());
    }
}
