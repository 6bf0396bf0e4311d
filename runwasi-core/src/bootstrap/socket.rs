//! The sandbox's socket: its name, its binding in `start`, its end.
//!
//! The name is a hash of containerd's address, the namespace and the group, so it is the same for all containers of a pod, and
//! always short. Binding and removing happen under a lock on the directory: two shims that find the same stale socket
//! cannot remove each other's new one.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::fd::OwnedFd,
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

/// The longest socket path: `sun_path` has 108 bytes with its NUL; one more is left for clients that prepend `@`.
pub const MAX_PATH: usize = 106;

/// Where shims' sockets lie, unless containerd (2.3 and later) says otherwise.
const DIRECTORY: &str = "/run/containerd/s";

const BACKLOG: i32 = 128;

const BACKLOG_POLL: Duration = Duration::from_millis(10);

/// The name of a group's socket.
pub fn path(
    directory: Option<&str>,
    address: &str,
    namespace: &str,
    group: &str,
) -> Result<PathBuf, BootstrapError> {
    let name = Path::new(address).join(namespace).join(group);
    let digest = Digest::of(name.as_os_str().as_encoded_bytes());
    let path = Path::new(directory.unwrap_or(DIRECTORY)).join(digest.hex());
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(BootstrapError::SocketPath { path, length, limit: MAX_PATH });
    }
    Ok(path)
}

/// A socket's path as an address.
pub fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// What `start` finds under a socket's name.
pub enum Bound {
    /// Nothing, or a dead one: a new socket, listening, mode 0600.
    New(UnixListener),
    /// A server that answers: this container joins it.
    Existing,
}

/// Binds the socket, or finds that it is served already.
pub fn bind_or_join(path: &Path) -> Result<Bound, BootstrapError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.map_err(io_error(directory.display().to_string()))?;
    let _lock = Lock::take(directory)?;
    match look_at(path).map_err(io_error(format!("socket {}", path.display())))? {
        Seen::Alive => return Ok(Bound::Existing),
        Seen::Nothing => {}
        Seen::Dead => remove(path)?,
    }
    let listener = listener(path).map_err(io_error(format!("bind {}", path.display())))?;
    Ok(Bound::New(listener))
}

/// A listening socket of mode 0600 at `path`, where nothing may be.
pub fn listener(path: &Path) -> io::Result<UnixListener> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Before `bind`, which gives the file the mode of the socket: nobody can connect in between.
    fchmod(&socket, Mode::from(0o600))?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(UnixListener::from(socket))
}

/// Removes a socket if nobody answers there. Used by `delete`; fine when it is gone already.
pub fn remove_if_dead(path: &Path) -> Result<(), BootstrapError> {
    let Some(directory) = path.parent().filter(|directory| directory.is_dir()) else {
        return Ok(());
    };
    let _lock = Lock::take(directory)?;
    match look_at(path) {
        Ok(Seen::Dead) => remove(path),
        _ => Ok(()),
    }
}

/// Whether a server listens there.
pub fn is_alive(path: &Path) -> bool {
    matches!(look_at(path), Ok(Seen::Alive))
}

/// The process that listens there, as it was when it began to. Never waits.
pub fn peer(path: &Path) -> Option<u32> {
    let socket = unconnected().ok()?;
    connect(&socket, &SocketAddrUnix::new(path).ok()?).ok()?;
    Some(
        rustix::net::sockopt::socket_peercred(&socket)
            .ok()?
            .pid
            .as_raw_nonzero()
            .get()
            .cast_unsigned(),
    )
}

fn unconnected() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?)
}

/// What is behind a path.
enum Seen {
    Alive,
    /// A socket nobody listens on: left by a server that was killed.
    Dead,
    Nothing,
}

/// Never waits: a server whose backlog is full (`EAGAIN`) is alive.
fn look_at(path: &Path) -> io::Result<Seen> {
    use rustix::io::Errno;
    let socket = unconnected()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(Seen::Alive),
        Err(Errno::CONNREFUSED) => Ok(Seen::Dead),
        Err(Errno::NOENT) => Ok(Seen::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// A server's own socket file. Known by its inode: in the drain a `start` of the same group may bind a new one under
/// the same name, which is not ours to remove.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    /// Once removed the inode may be anybody's: the file system gives its number to the next socket.
    removed: AtomicBool,
}

impl SocketFile {
    /// The file that `listener` is bound to; `None` if it is gone already.
    pub fn of(listener: &UnixListener) -> Option<Self> {
        let path = listener.local_addr().ok()?.as_pathname()?.to_owned();
        Self::at(&path)
    }

    /// The socket's file at `path`; `None` if there is none.
    pub fn at(path: &Path) -> Option<Self> {
        let path = path.to_owned();
        let inode = inode(&path)?;
        Some(Self { path, inode, removed: AtomicBool::new(false) })
    }

    /// The same file under the name it is about to get.
    pub fn renamed(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    /// Whether it was removed.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::SeqCst)
    }

    /// Removes the file, so that later containers find none. Fine when it is gone or replaced; once it has succeeded, another
    /// call does nothing.
    pub fn remove(&self) -> Result<(), BootstrapError> {
        if self.removed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let _lock = Lock::take(self.path.parent().unwrap_or(Path::new("/")))?;
        if inode(&self.path) == Some(self.inode) {
            remove(&self.path)?;
        }
        self.removed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

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

/// Connects, for as long as a server's backlog is full no longer than `patience`.
pub fn connect_within(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience;
    loop {
        let socket = unconnected()?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(rustix::io::Errno::AGAIN) if Instant::now() < deadline => sys::pause(BACKLOG_POLL),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A lock on a directory, held while binding or removing in it; the kernel frees it with its holder.
pub struct Lock {
    _directory: File,
}

impl Lock {
    /// Waits for it: blocks.
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
