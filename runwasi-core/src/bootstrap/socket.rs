//! The sandbox's socket: its name, its binding in `start` and its removal.
//!
//! The name is a hash of containerd's address, the namespace and the group. It is the same for all
//! containers of a pod, and always short. Binding and removing happen under a lock on the
//! directory: two shims that find the same stale socket cannot remove each other's new one.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    },
};

use super::{BootstrapError, io_error};
use crate::{digest::Digest, sys};

/// Greatest length of a socket path in bytes.
// `sun_path` has 108 bytes with its NUL. One more is left for clients that prepend `@`.
pub const MAX_PATH: usize = 106;

/// Directory of the sockets of shims, unless containerd (2.3 and later) names another.
const DIRECTORY: &str = "/run/containerd/s";

/// Connections that wait in the kernel until the server accepts them.
const BACKLOG: i32 = 128;

/// Time between two tries to connect to a full backlog.
// The kernel does not tell a client that the backlog has room again.
const BACKLOG_POLL: Duration = Duration::from_millis(10);

/// Path of the socket of a group.
pub fn path(
    directory: Option<&str>,
    address: &str,
    namespace: &str,
    group: &str,
) -> Result<PathBuf, BootstrapError> {
    // containerd names the sockets of shims by the same hash.
    let name = Path::new(address).join(namespace).join(group);
    let digest = Digest::of(name.as_os_str().as_encoded_bytes());
    let path = Path::new(directory.unwrap_or(DIRECTORY)).join(digest.hex());
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(BootstrapError::SocketPath { path, length, limit: MAX_PATH });
    }
    Ok(path)
}

/// The path of a socket as an address.
pub fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Outcome of [`bind_or_join`].
pub enum Bound {
    /// There was no socket or a dead one: this is a new one, listening, of mode 0600.
    New(UnixListener),
    /// A server answers there: this container joins it.
    Existing,
}

/// Binds the socket, unless a server answers there.
pub fn bind_or_join(path: &Path) -> Result<Bound, BootstrapError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.map_err(io_error(directory.display().to_string()))?;
    // Held over the look and the bind: of two concurrent `start`s of a group one joins the other.
    let _lock = Lock::take(directory)?;
    match look_at(path).map_err(io_error(format!("socket {}", path.display())))? {
        SocketState::Alive => return Ok(Bound::Existing),
        SocketState::Nothing => {}
        SocketState::Dead => remove(path)?,
    }
    let listener = listener(path).map_err(io_error(format!("bind {}", path.display())))?;
    Ok(Bound::New(listener))
}

/// A listening socket of mode 0600 at `path`, where no file may exist.
pub fn listener(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Before `bind`, which gives the file the mode of the socket: no other user can connect in
    // between.
    fchmod(&socket, Mode::from(0o600))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Removes a socket on which no server answers. Succeeds if it is gone already.
pub fn remove_if_dead(path: &Path) -> Result<(), BootstrapError> {
    // A living server keeps its socket. After an error of the look the state is unknown.
    remove_if(path, || matches!(look_at(path), Ok(SocketState::Dead)))
}

/// Removes a socket on which no server answers, or that the ended process `owner` has left.
// Processes that share the descriptors of `owner` end after it, and keep its socket open until
// then.
pub fn remove_of_ended(path: &Path, owner: u32) -> Result<(), BootstrapError> {
    remove_if(path, || match look_at(path) {
        Ok(SocketState::Dead) => true,
        Ok(SocketState::Alive) => peer(path) == Some(owner),
        Ok(SocketState::Nothing) | Err(_) => false,
    })
}

/// Removes a socket if that is still right once no server can replace it.
fn remove_if(path: &Path, is_left: impl FnOnce() -> bool) -> Result<(), BootstrapError> {
    let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else {
        return Ok(());
    };
    let _lock = Lock::take(directory)?;
    if is_left() { remove(path) } else { Ok(()) }
}

/// True if a server listens at `path`.
pub fn is_alive(path: &Path) -> bool {
    matches!(look_at(path), Ok(SocketState::Alive))
}

/// Pid of the process that has called `listen` on the socket at `path`. Never waits.
pub fn peer(path: &Path) -> Option<u32> {
    sys::socket_peer(path)
}

/// State of a socket path.
enum SocketState {
    Alive,
    /// A socket without a listener, left by a server that was killed.
    Dead,
    Nothing,
}

/// Tries to connect, without waiting.
fn look_at(path: &Path) -> io::Result<SocketState> {
    use rustix::io::Errno;
    let socket = sys::unconnected_socket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // `EAGAIN`: the backlog is full, so there is a listener.
        Ok(()) | Err(Errno::AGAIN) => Ok(SocketState::Alive),
        Err(Errno::CONNREFUSED) => Ok(SocketState::Dead),
        Err(Errno::NOENT) => Ok(SocketState::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// A server's own socket file, identified by its inode while its listener is open.
///
/// A listener holds the inode of its file, so no other file has the same number. Once it is closed,
/// a `start` of the same group may bind a new socket under the same name, and the file system may
/// give that the same number. So a server removes its file first ([`SocketFile::remove`]) and
/// closes its listener afterwards.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    /// Set by the removal.
    removed: AtomicBool,
}

impl SocketFile {
    /// The file that `listener` is bound to, unless it is gone already.
    pub fn of(listener: &UnixListener) -> Option<Self> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        Self::at(&path)
    }

    /// The file at `path`, if there is one.
    pub fn at(path: &Path) -> Option<Self> {
        let path = path.to_owned();
        let inode = inode(&path)?;
        Some(Self { path, inode, removed: AtomicBool::new(false) })
    }

    /// The same file under the name that it is about to get.
    pub fn renamed(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// True after [`SocketFile::remove`] has succeeded.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Removes the file, so that later containers find no socket. The listener must be open.
    /// Succeeds if the file is gone or replaced. After a success further calls do nothing.
    pub fn remove(&self) -> Result<(), BootstrapError> {
        if self.removed.load(Ordering::SeqCst) {
            return Ok(());
        }
        // Held over the comparison and the removal: no `start` replaces the file in between.
        let _lock = Lock::take(self.path.parent().unwrap_or(Path::new("/")))?;
        if inode(&self.path) == Some(self.inode) {
            remove(&self.path)?;
        }
        self.removed.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Removes the file after the end of the listener, if [`SocketFile::remove`] has not, or has
    /// failed. A socket with a listener belongs to a successor and stays.
    pub fn remove_left(&self) -> Result<(), BootstrapError> {
        if !self.removed.load(Ordering::SeqCst) {
            remove_if_dead(&self.path)?;
            self.removed.store(true, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Device and inode number, without following a symbolic link.
fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Removes a socket. Another kind of file in its place is an error, and stays.
fn remove(path: &Path) -> Result<(), BootstrapError> {
    let what = || format!("remove {}", path.display());
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {
            fs::remove_file(path).map_err(io_error(what()))
        }
        Ok(_) => Err(io_error(what())(io::Error::other("it is not a socket"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(what())(error)),
    }
}

/// Connects. Waits for at most `patience` while the server's backlog is full.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience;
    loop {
        let socket = sys::unconnected_socket()?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {
                // Non-blocking for the connect only, which would wait without a limit otherwise.
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => sys::pause(BACKLOG_POLL),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A lock on a directory, held while binding or removing in it.
// A lock of `flock(2)`: the kernel frees it when its holder dies.
pub struct Lock {
    _directory: File,
}

impl Lock {
    /// Takes the lock. Blocks until it is free.
    pub fn take(directory: &Path) -> Result<Self, BootstrapError> {
        let what = || format!("lock {}", directory.display());
        let opened = File::open(directory).map_err(io_error(what()))?;
        flock(&opened, FlockOperation::LockExclusive)
            .map_err(|error| io_error(what())(error.into()))?;
        Ok(Self { _directory: opened })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_hash_that_containerd_knows() {
        let path = path(None, "/run/containerd/containerd.sock", "default", "123").unwrap();
        let name = "0ddfbd72d02b3551e75f3a0ed90b9965b533401be618f43a568bc522764e0ad0";
        assert_eq!(path, Path::new("/run/containerd/s").join(name));
    }

    #[test]
    fn a_path_that_does_not_fit_is_an_error_with_its_length() {
        let error = path(Some(&"/x".repeat(40)), "a", "n", "g").unwrap_err().to_string();
        assert!(error.contains("145"), "{error}");
    }

    #[test]
    fn a_new_socket_is_for_its_owner_only_and_a_second_start_joins_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s/socket");
        let Bound::New(_listener) = bind_or_join(&path).unwrap() else {
            panic!("nobody was there to join")
        };
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert!(matches!(bind_or_join(&path).unwrap(), Bound::Existing));
    }

    #[test]
    fn a_leaving_server_removes_its_own_socket_and_never_its_successors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let Bound::New(first) = bind_or_join(&path).unwrap() else {
            panic!("nobody was there to join")
        };
        let own = SocketFile::of(&first).unwrap();
        own.remove().unwrap();
        assert!(!path.exists());
        drop(first);
        let Bound::New(_second) = bind_or_join(&path).unwrap() else {
            panic!("nobody was there to join")
        };
        own.remove().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn late_predecessor_removes_no_socket_of_its_successor() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let bound = || match bind_or_join(&path).unwrap() {
            Bound::New(listener) => listener,
            Bound::Existing => panic!("another server answers"),
        };
        // Many: a file system gives the number of an inode again some of the times.
        for _ in 0..100 {
            let first = bound();
            let own = SocketFile::of(&first).unwrap();
            drop(first);
            let second = bound();
            own.remove_left().unwrap();
            assert!(is_alive(&path), "removed");
            drop(second);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn no_other_socket_has_the_inode_of_an_open_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        for _ in 0..100 {
            let first = listener(&path).unwrap();
            let own = SocketFile::of(&first).unwrap();
            // By another program.
            fs::remove_file(&path).unwrap();
            let second = listener(&path).unwrap();
            own.remove().unwrap();
            assert!(is_alive(&path), "removed");
            drop((first, second));
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_in_its_place_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(bind_or_join(&path).unwrap(), Bound::New(_)));
        remove_if_dead(&path).unwrap();
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        assert!(bind_or_join(&path).is_err());
        assert!(path.exists());
    }
}
