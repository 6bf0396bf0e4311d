//! The network namespace of a sandbox, for engines.
//!
//! A shim that serves one pod enters its namespace in `main` ([`Entrance::enter`]). A process that
//! serves many pods cannot do so, nor can one that is told its network later ([`Network::park`]).
//! There, a sandbox with a namespace of its own has one *parked* thread ([`Network::parked`]),
//! which holds the namespace and sleeps. A call that must be made inside (opening a socket) runs on
//! this thread, so no other thread is ever in a foreign namespace. The tid of the thread is the pid
//! that containerd is told: users of that pid, such as the CRI and `ctr run --cni`, look for
//! `/proc/<pid>/ns/net`.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::{Arc, OnceLock, mpsc},
    thread,
};

use rustix::thread::{LinkNameSpaceType, gettid, move_into_link_name_space};

use crate::{bundle::config, panics, sys};

/// Stack of a parked thread, which sleeps or makes one short call. The minimum is 16 KiB.
const STACK: usize = 64 << 10;

/// A network namespace that has been checked and can be entered.
#[derive(Debug)]
pub enum Entrance {
    /// The namespace of this process.
    Host,
    /// A namespace that does not exist yet.
    New,
    /// An open file of `/proc/<pid>/ns/net`, or a bind mount of one.
    Opened(File),
}

/// Why a namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The path cannot be opened, or is not that of a network namespace.
    #[error("{field} {path}: {source}")]
    Path {
        /// The configuration field that gave the path.
        field: &'static str,
        /// The path.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The namespace cannot be made or entered.
    #[error("{what}: {source}")]
    Enter {
        /// The step that failed.
        what: &'static str,
        /// The system's error.
        source: io::Error,
    },
}

impl Entrance {
    /// Opens the namespace that `config.json` names, and checks that it is a network namespace.
    pub fn open(network: &config::NetworkNamespace) -> Result<Self, NetworkError> {
        match network {
            config::NetworkNamespace::Host => Ok(Self::Host),
            config::NetworkNamespace::New => Ok(Self::New),
            config::NetworkNamespace::Path(path) => {
                Self::at("linux.namespaces[network].path", path)
            }
        }
    }

    /// Opens the file at `path`, which `field` has given, and checks that it is a network
    /// namespace.
    pub fn at(field: &'static str, path: &Path) -> Result<Self, NetworkError> {
        let wrong = |source| NetworkError::Path { field, path: path.display().to_string(), source };
        open(path).map(Self::Opened).map_err(wrong)
    }

    /// Moves the calling thread into the namespace. Threads that it starts later inherit it.
    pub fn enter(self) -> Result<(), NetworkError> {
        let failed = |what| move |source| NetworkError::Enter { what, source };
        match self {
            Self::Host => Ok(()),
            Self::New => {
                sys::unshare_network().map_err(failed("new network namespace"))?;
                // A new namespace has its loopback device down. runc sets it up, too.
                sys::set_loopback_up()
                    .map_err(failed("loopback device of the new network namespace"))
            }
            Self::Opened(namespace) => {
                let entered =
                    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
                entered.map_err(io::Error::from).map_err(failed("enter the network namespace"))
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // `O_NONBLOCK`: the open of a FIFO in its place must not wait for a writer.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !sys::is_network_namespace(&opened)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a network namespace"));
    }
    Ok(opened)
}

/// The network of a sandbox. Cheap to clone. The last clone gives up a namespace of its own.
#[derive(Clone, Debug)]
pub struct Network {
    /// Empty for the namespace of this process.
    parked: Arc<OnceLock<Parked>>,
}

#[derive(Debug)]
struct Parked {
    tid: u32,
    /// Calls for the thread to make. The thread ends when the sender is dropped.
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Network {
    /// The network of this process.
    pub fn of_process() -> Self {
        Self { parked: Arc::default() }
    }

    /// A namespace held by a thread of its own. The host's namespace needs no thread. Blocks as
    /// long as it takes to start a thread.
    pub fn parked(entrance: Entrance) -> Result<Self, NetworkError> {
        let network = Self::of_process();
        network.park(entrance)?;
        Ok(network)
    }

    /// Leaves the network of the process for that namespace, together with all clones; only once.
    /// For a sandbox that is told its network when it is served already. Blocks as long as it takes
    /// to start a thread.
    pub fn park(&self, entrance: Entrance) -> Result<(), NetworkError> {
        if matches!(entrance, Entrance::Host) {
            return Ok(());
        }
        let (jobs, todo) = mpsc::channel::<Job>();
        let (entered, answer) = mpsc::sync_channel(1);
        let park = move || {
            // Before the first call: a call made in another namespace would reach the host's
            // network.
            let result = entrance.enter().map(|()| gettid().as_raw_nonzero().get().cast_unsigned());
            let is_in = result.is_ok();
            // Cannot fail: `answer` below lives until it has received this.
            let _ = entered.send(result);
            if is_in {
                // A sandbox without its thread would have no network, and look healthy from
                // outside.
                panics::fatal(|| todo.iter().for_each(|job| job()));
            }
        };
        let failed =
            |source| NetworkError::Enter { what: "thread for the network namespace", source };
        thread::Builder::new()
            .name("network".into())
            .stack_size(STACK)
            .spawn(park)
            .map_err(failed)?;
        let tid = answer.recv().map_err(|error| failed(io::Error::other(error)))??;
        // A second namespace is refused: `jobs` is dropped with it, which ends the new thread.
        self.parked
            .set(Parked { tid, jobs })
            .map_err(|_| failed(io::Error::other("there is one already")))
    }

    /// The pid that containerd is told: `/proc/<pid>/ns/net` is this network. Never 0.
    pub fn pid(&self) -> u32 {
        self.parked.get().map_or_else(std::process::id, |parked| parked.tid)
    }

    /// Runs `call` inside the namespace and waits for it. Meant for one short system call that
    /// makes a socket: `call` must not block. Any thread can use the socket later.
    pub fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let Some(parked) = self.parked.get() else { return Ok(call()) };
        let (sender, answer) = mpsc::sync_channel(1);
        let gone = |_| io::Error::other("the thread of the network namespace is gone");
        let job = move || {
            // Cannot fail: the caller waits for the answer below.
            let _ = sender.send(call());
        };
        parked.jobs.send(Box::new(job)).map_err(|_| gone(mpsc::RecvError))?;
        answer.recv().map_err(gone)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{TcpListener, TcpStream, UdpSocket},
        path::PathBuf,
        time::{Duration, Instant},
    };

    use super::*;

    fn namespace_of(pid: u32) -> PathBuf {
        fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
    }

    fn until_gone(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Path::new(&format!("/proc/self/task/{pid}")).exists() {
            assert!(Instant::now() < deadline, "the parked thread stays");
            thread::yield_now();
        }
    }

    #[test]
    fn the_pid_of_a_new_network_names_its_own_namespace() {
        let one = Network::parked(Entrance::New).unwrap();
        let two = Network::parked(Entrance::New).unwrap();
        let host = namespace_of(std::process::id());
        assert!(namespace_of(one.pid()) != host && namespace_of(two.pid()) != host);
        assert_ne!(namespace_of(one.pid()), namespace_of(two.pid()));
        assert_eq!(Network::parked(Entrance::Host).unwrap().pid(), std::process::id());
        assert_eq!(
            namespace_of(gettid().as_raw_nonzero().get().cast_unsigned()),
            host,
            "this thread has not moved"
        );
        let tid = one.pid();
        drop(one);
        until_gone(tid);
    }

    #[test]
    fn a_network_moves_to_a_namespace_once_and_with_all_clones() {
        let network = Network::of_process();
        let clone = network.clone();
        network.park(Entrance::Host).unwrap();
        assert_eq!(clone.pid(), std::process::id());
        network.park(Entrance::New).unwrap();
        assert!(
            clone.pid() == network.pid()
                && namespace_of(clone.pid()) != namespace_of(std::process::id())
        );
        let pid = clone.pid();
        let refused = network.park(Entrance::New).unwrap_err().to_string();
        assert!(refused.contains("one already") && clone.pid() == pid, "{refused}");
    }

    #[test]
    fn a_socket_made_inside_reaches_only_its_namespace_from_any_thread() {
        let inside = Network::parked(Entrance::New).unwrap();
        let other = Network::parked(Entrance::New).unwrap();
        let listener = inside.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let connect = move || TcpStream::connect_timeout(&address, Duration::from_secs(1));
        assert!(inside.run(connect).unwrap().is_ok());
        assert!(other.run(connect).unwrap().is_err());
        assert!(connect().is_err(), "the host does not reach it either");
        listener.accept().unwrap();
    }

    #[test]
    fn a_hundred_networks_bind_the_same_port() {
        let networks: Vec<_> = (0..100).map(|_| Network::parked(Entrance::New).unwrap()).collect();
        let bind = || UdpSocket::bind("127.0.0.1:5353");
        let sockets: Vec<_> =
            networks.iter().map(|network| network.run(bind).unwrap().unwrap()).collect();
        assert!(networks[0].run(bind).unwrap().is_err(), "taken");
        drop(sockets);
        networks[0].run(bind).unwrap().unwrap();
    }

    #[test]
    fn a_network_is_joined_by_its_path() {
        let first = Network::parked(Entrance::New).unwrap();
        let path = PathBuf::from(format!("/proc/{}/ns/net", first.pid()));
        let second =
            Network::parked(Entrance::open(&config::NetworkNamespace::Path(path)).unwrap())
                .unwrap();
        assert_ne!(first.pid(), second.pid());
        assert_eq!(namespace_of(first.pid()), namespace_of(second.pid()));
    }

    #[test]
    fn a_path_to_no_network_namespace_is_refused_with_the_path() {
        for path in ["/nonexistent/net", "/dev/null", "/proc/self/ns/uts"] {
            let error = Entrance::open(&config::NetworkNamespace::Path(path.into()))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("linux.namespaces[network].path") && error.contains(path),
                "{error}"
            );
        }
    }
}
