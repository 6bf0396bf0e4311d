//! The namespaces of a sandbox, its OS process and its network, for engines.
//!
//! A sandbox with namespaces of its own has an OS process that stands in them and runs nothing
//! (`SandboxProcess`). Its pid is what containerd is told: users of that pid, such as the CRI and
//! `ctr run --cni`, look for `/proc/<pid>/ns/net`.
//!
//! All other code stays in the namespaces of this process, and so do the programs that it starts.
//! The exceptions are two threads, each one for all sandboxes. They enter the namespaces of a
//! sandbox and return at once:
//!
//! - `sandboxes` makes the new ones and starts the sandbox's process in them. It lives as long as
//!   this process, as the sandboxes' processes do, which end with it. A node's keeps spare networks
//!   ([`spares`]).
//! - `namespaces` makes a call that must be made inside: opening a socket.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use crate::{
    lock::{Mutex, get_or_start},
    panics,
    sandbox_process::{Reaper, SandboxProcess, Signals},
    sys::{self, NamespaceKind},
    task_limits,
};

mod namespaces;
pub mod spares;

pub use self::namespaces::{Entrance, Namespaces, NetworkError};
use self::{
    namespaces::{failed, make, own},
    spares::Spares,
};

/// Stack of the threads, which make short calls. The minimum is 16 KiB.
const STACK: usize = 64 << 10;

/// How long the thread that makes namespaces has had nothing to do before it makes a spare one.
// A start that comes meanwhile waits for the kernel as if there were no spare. Longer than the time
// between two starts of a node that starts many at once.
const QUIET: Duration = Duration::from_millis(20);

/// The network of a sandbox. Cheap to clone. The last clone ends the sandbox's process.
#[derive(Clone, Debug)]
pub struct Network {
    /// Empty for a sandbox without a process of its own.
    own: Arc<OnceLock<Own>>,
    /// See [`Namespaces::host_pids`].
    host_pids: Arc<AtomicBool>,
    /// Why it has no process that it should have.
    failure: Option<Arc<NetworkError>>,
}

#[derive(Debug)]
struct Own {
    process: SandboxProcess,
    /// Until [`Network::take_signals`].
    signals: Mutex<Option<Signals>>,
    /// True if its network is not that of this process.
    has_network: bool,
}

impl Network {
    /// The network of this process.
    pub fn of_process() -> Self {
        Self { own: Arc::default(), host_pids: Arc::default(), failure: None }
    }

    /// The namespaces of this process, which the sandbox has asked for.
    pub fn of_host(namespaces: &Namespaces) -> Self {
        let network = Self::of_process();
        network.host_pids.store(namespaces.host_pids, Ordering::Relaxed);
        network
    }

    /// True if the sandbox's processes are among the host's.
    // Relaxed: set before the sandbox has containers.
    pub(crate) fn has_host_pids(&self) -> bool {
        self.host_pids.load(Ordering::Relaxed)
    }

    /// A network with a process of its own in these namespaces. Blocks as long as it takes to start
    /// a thread.
    pub fn with_process(namespaces: impl Into<Namespaces>) -> Result<Self, NetworkError> {
        let network = Self::of_process();
        network.move_to(namespaces)?;
        Ok(network)
    }

    /// The same for a server that is connected to already: a failure is kept, for the creations of
    /// containers to report.
    // A server that ended for it would be "ttrpc: closed" to the user.
    pub(crate) fn with_process_or_failure(namespaces: Namespaces) -> Self {
        Self::with_process(namespaces).unwrap_or_else(|error| {
            let failure = Some(Arc::new(error));
            Self { failure, ..Self::of_process() }
        })
    }

    /// Why there is no process in the sandbox's namespaces. No container may be created then.
    pub(crate) fn failure(&self) -> Option<&Arc<NetworkError>> {
        self.failure.as_ref()
    }

    /// Gives a network without a process one in these namespaces, together with all clones; only
    /// once. For a sandbox that is told its network when it is served already. Blocks as long as it
    /// takes to start a thread.
    pub fn move_to(&self, namespaces: impl Into<Namespaces>) -> Result<(), NetworkError> {
        let namespaces = namespaces.into();
        let has_network = !namespaces.network.is_host();
        self.host_pids.store(namespaces.host_pids, Ordering::Relaxed);
        let reaper = Reaper::get().map_err(failed("thread for the processes of sandboxes"))?;
        let start = move || SandboxProcess::start(&reaper);
        let started = STARTS.inside(namespaces, start)?;
        let (process, signals) = started.map_err(failed("process of the sandbox"))?;
        let own = Own { process, signals: Mutex::new(Some(signals)), has_network };
        // A second process is refused and ends with its handle.
        let twice = |_| io::Error::other("there is one already");
        self.own.set(own).map_err(twice).map_err(failed("process of the sandbox"))
    }

    /// The pid that containerd is told: its namespaces are the sandbox's. Never 0.
    pub fn pid(&self) -> u32 {
        self.own.get().map_or_else(std::process::id, |own| own.process.pid())
    }

    /// Pid of the sandbox's process, if it has one that lives.
    pub(crate) fn process(&self) -> Option<u32> {
        self.own.get().filter(|own| !own.process.has_ended()).map(|own| own.process.pid())
    }

    /// True if a signal has ended the sandbox's process.
    pub(crate) fn has_ended(&self) -> bool {
        self.own.get().is_some_and(|own| own.process.has_ended())
    }

    /// The signals to the sandbox's process, for the first caller.
    pub(crate) fn take_signals(&self) -> Option<Signals> {
        self.own.get()?.signals.lock().take()
    }

    /// Runs `call` inside the namespace and waits for it. Meant for one short system call that
    /// makes a socket: `call` must not block. Any thread can use the socket later.
    pub fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self.own.get() {
            Some(Own { process, has_network: true, .. }) => {
                // `setns(2)` takes the pidfd of a process for its namespaces. None is kept open: a
                // node has more sandboxes than sockets that are being made.
                let network = Entrance::Opened(process.open()?.into());
                CALLS.inside(network.into(), call).map_err(io::Error::other)
            }
            _ => Ok(call()),
        }
    }
}

/// A thread that enters namespaces of sandboxes and returns from them, once it is needed.
struct NamespaceThread {
    /// Its name, at most 15 bytes.
    name: &'static str,
    jobs: Mutex<Option<Jobs>>,
}

type Jobs = mpsc::Sender<Job>;

struct Job {
    namespaces: Namespaces,
    /// Called inside, or with the reason for that it is not.
    call: Box<dyn FnOnce(Result<(), NetworkError>) + Send>,
}

/// The thread for the starts of sandboxes' processes, which end with it.
static STARTS: NamespaceThread = NamespaceThread::new("sandboxes");

/// The thread for calls of guests. Apart from the starts: the kernel takes its time for a new
/// network.
static CALLS: NamespaceThread = NamespaceThread::new("namespaces");

impl NamespaceThread {
    const fn new(name: &'static str) -> Self {
        Self { name, jobs: Mutex::new(None) }
    }

    /// Starts the thread if it does not run.
    fn get(&self) -> Result<Jobs, NetworkError> {
        get_or_start(&mut self.jobs.lock(), || self.start()).cloned()
    }

    fn start(&self) -> Result<Jobs, NetworkError> {
        let kinds = [NamespaceKind::Network, NamespaceKind::Ipc, NamespaceKind::Uts];
        let home = kinds.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
        let (jobs, todo) = mpsc::channel();
        // Sandboxes without this thread would have no network, and look healthy from outside.
        let work = move || panics::fatal(|| serve_all(&todo, &home));
        thread::Builder::new()
            .name(self.name.into())
            .stack_size(STACK)
            .spawn(work)
            .map_err(task_limits::named)
            .map_err(failed("thread for the namespaces of sandboxes"))?;
        Ok(jobs)
    }

    /// Runs `call` in these namespaces and waits for it.
    fn inside<T: Send + 'static>(
        &self,
        namespaces: Namespaces,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, NetworkError> {
        let (sender, answer) = mpsc::sync_channel(1);
        let call = move |entered: Result<(), NetworkError>| {
            // Cannot fail: the caller waits for the answer below.
            let _ = sender.send(entered.map(|()| call()));
        };
        let gone = |_| failed("namespaces of a sandbox")(io::Error::other("their thread is gone"));
        let job = Job { namespaces, call: Box::new(call) };
        self.get()?.send(job).map_err(|_| gone(mpsc::RecvError))?;
        answer.recv().map_err(gone)?
    }
}

/// Serves all jobs, and makes spare networks in between.
fn serve_all(todo: &mpsc::Receiver<Job>, home: &[(NamespaceKind, File)]) {
    let mut spares = Spares::default();
    loop {
        let job = match spares.lack(spares::kept()) {
            true => todo.recv_timeout(QUIET),
            false => todo.recv().map_err(RecvTimeoutError::from),
        };
        match job {
            Ok(job) => serve(job, home, &mut spares),
            Err(RecvTimeoutError::Timeout) => spares.add(spare(home)),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Makes a call in its namespaces and returns to those of the process.
fn serve(Job { namespaces, call }: Job, home: &[(NamespaceKind, File)], spares: &mut Spares) {
    call(namespaces.enter(spares));
    let left = namespaces.all().into_iter().filter(|(_, entrance)| !entrance.is_host());
    left.for_each(|(kind, _)| leave(kind, home));
}

/// Makes a network for a sandbox to come. Nothing if the kernel refuses it: that sandbox tells why.
fn spare(home: &[(NamespaceKind, File)]) -> Option<File> {
    let made = make(&[NamespaceKind::Network], None);
    let opened = made.and_then(|()| own(NamespaceKind::Network));
    leave(NamespaceKind::Network, home);
    opened.ok().map(|(_, file)| file)
}

/// Returns to the process's namespace of this kind.
fn leave(kind: NamespaceKind, home: &[(NamespaceKind, File)]) {
    let back = |(_, file): &(NamespaceKind, File)| sys::enter_namespace(file.as_fd(), kind);
    let back = home.iter().filter(|(of, _)| *of == kind).try_for_each(back);
    // The next call would be made in the namespace of a stranger.
    back.unwrap_or_else(|error| panic!("leave the {} namespace: {error}", kind.name()));
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        net::{TcpListener, TcpStream, UdpSocket},
        path::{Path, PathBuf},
        time::{Duration, Instant},
    };

    use super::*;
    use crate::bundle::sysctls::Sysctl;

    fn namespace_of(pid: u32) -> PathBuf {
        fs::read_link(format!("/proc/{pid}/ns/net")).unwrap()
    }

    fn until_gone(pid: u32) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Path::new(&format!("/proc/{pid}")).exists() {
            assert!(Instant::now() < deadline, "the process stays");
            thread::yield_now();
        }
    }

    #[test]
    fn the_pid_of_a_new_network_names_its_own_namespace() {
        let one = Network::with_process(Entrance::New).unwrap();
        let two = Network::with_process(Entrance::New).unwrap();
        let host = namespace_of(std::process::id());
        assert!(namespace_of(one.pid()) != host && namespace_of(two.pid()) != host);
        assert_ne!(namespace_of(one.pid()), namespace_of(two.pid()));
        let on_host = Network::with_process(Entrance::Host).unwrap();
        assert!(on_host.pid() != std::process::id() && namespace_of(on_host.pid()) == host);
        assert_eq!(fs::read_link("/proc/thread-self/ns/net").unwrap(), host, "has not moved");
        let pid = one.pid();
        drop(one);
        until_gone(pid);
    }

    /// Networks other than the host's that this process holds open.
    fn held() -> Vec<PathBuf> {
        let host = namespace_of(std::process::id());
        let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let links = files.filter_map(|file| fs::read_link(file.path()).ok());
        let is_network = |link: &PathBuf| link.to_string_lossy().starts_with("net:[");
        links.filter(|link| is_network(link) && *link != host).collect()
    }

    #[test]
    fn spare_network_is_made_for_the_next_sandbox_and_is_like_a_new_one() {
        spares::keep(1);
        let deadline = Instant::now() + Duration::from_secs(10);
        // Repeated: another test may take the spare.
        let network = loop {
            assert!(Instant::now() < deadline, "no spare is used");
            let made = held();
            let network = Network::with_process(Entrance::New).unwrap();
            if made.contains(&namespace_of(network.pid())) {
                break network;
            }
            sys::pause(2 * QUIET);
        };
        let listener = network.run(|| TcpListener::bind("127.0.0.1:0")).unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let connect = move || TcpStream::connect_timeout(&address, Duration::from_secs(1));
        assert!(network.run(connect).unwrap().is_ok(), "its loopback device is up");
    }

    #[test]
    fn new_namespaces_have_their_host_name_and_the_others_are_the_hosts() {
        let uts = Entrance::New;
        let hostname = Some("inside".to_owned());
        let namespaces = Namespaces { uts, hostname, ..Namespaces::default() };
        let network = Network::with_process(namespaces).unwrap();
        let is_host = |kind| {
            let of = |pid| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
            of(network.pid()) == of(std::process::id())
        };
        assert!(is_host("net") && is_host("ipc") && !is_host("uts"));
        let file = File::open(format!("/proc/{}/ns/uts", network.pid())).unwrap();
        let inside = thread::spawn(move || {
            sys::enter_namespace(file, NamespaceKind::Uts).unwrap();
            fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
        });
        assert_eq!(inside.join().unwrap(), "inside\n");
    }

    #[test]
    fn failure_of_a_server_that_is_connected_to_is_kept() {
        let sysctl = Sysctl { name: "net.ipv4.no_such_thing".into(), value: "1".into() };
        let sysctls = vec![sysctl];
        let namespaces = Namespaces { network: Entrance::New, sysctls, ..Namespaces::default() };
        let network = Network::with_process_or_failure(namespaces);
        let failure = network.failure().unwrap().to_string();
        assert!(failure.contains("linux.sysctl[\"net.ipv4.no_such_thing\"]"), "{failure}");
        assert_eq!(network.process(), None);
        let network = Network::with_process_or_failure(Entrance::New.into());
        assert!(network.failure().is_none() && network.process().is_some());
    }

    #[test]
    fn parameters_are_those_of_the_new_network() {
        let name = "net.ipv4.ip_unprivileged_port_start".to_owned();
        let sysctl = Sysctl { name: name.clone(), value: "77".into() };
        let host = fs::read_to_string(sysctl.file()).unwrap();
        let namespaces = |sysctl: &Sysctl| Namespaces {
            network: Entrance::New,
            sysctls: vec![sysctl.clone()],
            ..Namespaces::default()
        };
        let network = Network::with_process(namespaces(&sysctl)).unwrap();
        let file = sysctl.file();
        let inside = network.run(move || fs::read_to_string(file).unwrap()).unwrap();
        assert_eq!((inside.as_str(), fs::read_to_string(sysctl.file()).unwrap()), ("77\n", host));
        let unknown = Sysctl { name: "net.ipv4.no_such_thing".into(), value: "1".into() };
        let error = Network::with_process(namespaces(&unknown)).unwrap_err().to_string();
        assert!(error.contains("linux.sysctl[\"net.ipv4.no_such_thing\"] = \"1\""), "{error}");
    }

    #[test]
    fn domain_name_is_that_of_the_new_uts_namespace() {
        let sysctl = Sysctl { name: "kernel.domainname".into(), value: "inside".into() };
        let host = fs::read_to_string(sysctl.file()).unwrap();
        let uts = Entrance::New;
        let sysctls = vec![sysctl.clone()];
        let network =
            Network::with_process(Namespaces { uts, sysctls, ..Namespaces::default() }).unwrap();
        let namespace = File::open(format!("/proc/{}/ns/uts", network.pid())).unwrap();
        let file = sysctl.file();
        let inside = thread::spawn(move || {
            sys::enter_namespace(namespace, NamespaceKind::Uts).unwrap();
            fs::read_to_string(file).unwrap()
        });
        assert_eq!(inside.join().unwrap(), "inside\n");
        assert_eq!(fs::read_to_string(sysctl.file()).unwrap(), host);
    }

    #[test]
    fn parameters_of_the_hosts_namespaces_are_refused_also_by_their_paths() {
        let host =
            |kind: NamespaceKind| Entrance::at(kind, "field", Path::new(kind.own())).unwrap();
        for (name, namespaces) in [
            ("net.ipv4.ip_unprivileged_port_start", Namespaces::from(host(NamespaceKind::Network))),
            ("kernel.msgmni", Namespaces { ipc: host(NamespaceKind::Ipc), ..Default::default() }),
            (
                "kernel.domainname",
                Namespaces { uts: host(NamespaceKind::Uts), ..Default::default() },
            ),
        ] {
            let sysctl = Sysctl { name: name.into(), value: "7".into() };
            let before = fs::read_to_string(sysctl.file()).unwrap();
            let sysctls = vec![sysctl.clone()];
            let refused = Network::with_process(Namespaces { sysctls, ..namespaces });
            let error = refused.unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("belongs to the host's"), "{error}");
            assert_eq!(fs::read_to_string(sysctl.file()).unwrap(), before);
        }
    }

    #[test]
    fn a_network_moves_to_a_namespace_once_and_with_all_clones() {
        let network = Network::of_process();
        let clone = network.clone();
        assert_eq!(clone.pid(), std::process::id());
        network.move_to(Entrance::New).unwrap();
        assert!(
            clone.pid() == network.pid()
                && namespace_of(clone.pid()) != namespace_of(std::process::id())
        );
        let pid = clone.pid();
        let refused = network.move_to(Entrance::New).unwrap_err().to_string();
        assert!(refused.contains("one already") && clone.pid() == pid, "{refused}");
    }

    #[test]
    fn a_call_inside_is_refused_after_the_end_of_the_process() {
        let network = Network::with_process(Entrance::New).unwrap();
        let pid = rustix::process::Pid::from_raw(network.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        until_gone(network.pid());
        assert!(network.has_ended());
        let refused = network.run(|| ()).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {} ", network.pid())), "{refused}");
    }

    #[test]
    fn a_socket_made_inside_reaches_only_its_namespace_from_any_thread() {
        let inside = Network::with_process(Entrance::New).unwrap();
        let other = Network::with_process(Entrance::New).unwrap();
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
        let networks: Vec<_> =
            (0..100).map(|_| Network::with_process(Entrance::New).unwrap()).collect();
        let bind = || UdpSocket::bind("127.0.0.1:5353");
        let sockets: Vec<_> =
            networks.iter().map(|network| network.run(bind).unwrap().unwrap()).collect();
        assert!(networks[0].run(bind).unwrap().is_err(), "taken");
        drop(sockets);
        networks[0].run(bind).unwrap().unwrap();
    }

    #[test]
    fn a_network_is_joined_by_its_path() {
        let first = Network::with_process(Entrance::New).unwrap();
        let path = PathBuf::from(format!("/proc/{}/ns/net", first.pid()));
        let second =
            Network::with_process(Entrance::at(NamespaceKind::Network, "field", &path).unwrap())
                .unwrap();
        assert_ne!(first.pid(), second.pid());
        assert_eq!(namespace_of(first.pid()), namespace_of(second.pid()));
    }
}
