//! The daemons of a node: found by their sockets, and asked at the same time.
//!
//! A command connects to the own sockets of daemons, never to the manager socket: behind that one
//! may be a service manager, which would start a daemon. Nothing is created or removed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    error::CommandError,
    process,
    process::ProcessFacts,
    sandbox::{self, Listed},
};
use crate::manager::{
    client::{Client, ClientError, alive, has_gone},
    reports::{DaemonState, StatusReply},
};

/// Name of the directory with the daemons' own sockets.
const DAEMONS: &str = "daemons";

/// Most daemons that are asked.
// One and those that reloads have retired. A directory of others must not start endless threads.
const MOST: usize = 256;

/// The place of a node's daemons, and how they are asked.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The manager socket, or the own socket of one daemon.
    pub(super) socket: PathBuf,
    /// Name of the daemon's program, for messages.
    pub(super) program: &'static str,
    /// Time limit of each answer.
    pub(super) patience: Duration,
}

/// A daemon that lives.
#[derive(Clone, Debug)]
pub(super) struct Daemon {
    pub(super) pid: u32,
    /// Its own socket.
    pub(super) socket: PathBuf,
    /// Absent if it has just ended, or is another user's.
    pub(super) process: Option<ProcessFacts>,
    pub(super) answer: Answer,
}

/// A daemon's answer to the question for its status.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Status(Box<StatusReply>),
    /// Of an earlier version, which knows no status.
    Earlier {
        version: String,
    },
    /// No answer in time, or a refusal.
    Failed(String),
}

impl Answer {
    /// State of the daemon, in a word.
    pub(super) fn state(&self) -> &'static str {
        match self {
            Self::Status(status) => match status.state() {
                DaemonState::Serving => "serving",
                DaemonState::Retired => "retired",
                DaemonState::Stopping => "stopping",
                DaemonState::Unknown => "unknown",
            },
            Self::Earlier { .. } => "earlier version",
            Self::Failed(_) => "no answer",
        }
    }

    /// The daemon's version, if it has told it.
    pub(super) fn version(&self) -> Option<&str> {
        match self {
            Self::Status(status) => Some(&status.version),
            Self::Earlier { version } => Some(version),
            Self::Failed(_) => None,
        }
    }

    /// The status, if there is one.
    pub(super) fn status(&self) -> Option<&StatusReply> {
        if let Self::Status(status) = self { Some(status) } else { None }
    }
}

impl Node {
    /// The own sockets of all daemons that live, in the order of their pids.
    pub(super) fn sockets(&self) -> Result<Vec<(u32, PathBuf)>, CommandError> {
        let mut living = Vec::new();
        for (pid, path) in self.found()? {
            match alive(&path) {
                Ok(true) => living.push((pid, path)),
                Ok(false) => {}
                Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(CommandError::Denied { path, source });
                }
                Err(source) => return Err(CommandError::Io { path, source }),
            }
        }
        living.truncate(MOST);
        if living.is_empty() { Err(self.absent()) } else { Ok(living) }
    }

    /// The sockets of daemons that live and are not known, as far as they can be found.
    // Each look at a socket takes a place in the queue of a daemon that is stopped.
    pub(super) fn others(&self, is_known: impl Fn(u32) -> bool) -> Vec<(u32, PathBuf)> {
        let found = self.found().unwrap_or_default().into_iter();
        let others = found.filter(|(pid, path)| !is_known(*pid) && matches!(alive(path), Ok(true)));
        others.take(MOST).collect()
    }

    /// The own sockets of all daemons, also of ended ones.
    fn found(&self) -> Result<Vec<(u32, PathBuf)>, CommandError> {
        match pid_of(&self.socket) {
            Some(pid) => Ok(vec![(pid, self.socket.clone())]),
            None => self.listed(),
        }
    }

    fn listed(&self) -> Result<Vec<(u32, PathBuf)>, CommandError> {
        let directory = self.socket.parent().unwrap_or(Path::new("/")).join(DAEMONS);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(CommandError::Denied { path: directory, source: error });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.absent()),
            Err(source) => return Err(CommandError::Io { path: directory, source }),
        };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut sockets: Vec<_> = paths.filter_map(|path| Some((pid_of(&path)?, path))).collect();
        sockets.sort();
        Ok(sockets)
    }

    fn absent(&self) -> CommandError {
        CommandError::Absent { socket: self.socket.clone(), program: self.program }
    }

    /// A connection to one daemon.
    pub(super) fn client(&self, socket: &Path) -> Result<Client, ClientError> {
        Client::connect(socket, self.program, self.patience)
    }

    /// All daemons that live, with their status, in the order of their pids.
    pub(super) fn daemons(&self, probe: bool) -> Result<Vec<Daemon>, CommandError> {
        let ask = |pid: u32, socket: PathBuf| {
            let answer = self.ask(&socket, |client| client.status(probe))?;
            let answer = match answer {
                Ok(status) => Answer::Status(Box::new(status)),
                Err(ClientError::Unknown { version, .. }) => Answer::Earlier { version },
                Err(error) => Answer::Failed(error.to_string()),
            };
            Some(Daemon { pid, process: process::read(pid).ok(), socket, answer })
        };
        let asked = each(self.sockets()?, |(pid, socket)| ask(pid, socket));
        let living: Vec<_> = asked.into_iter().flatten().collect();
        if living.is_empty() { Err(self.absent()) } else { Ok(living) }
    }

    /// Asks one daemon. Absent if it has ended meanwhile.
    fn ask<A>(
        &self,
        socket: &Path,
        question: impl FnOnce(&Client) -> Result<A, ClientError>,
    ) -> Option<Result<A, ClientError>> {
        let begun = Instant::now();
        let answer = self.client(socket).and_then(|client| question(&client));
        match &answer {
            Err(error) if has_gone(socket, error, begun, self.patience) => None,
            _ => Some(answer),
        }
    }

    /// All sandboxes of these daemons. A daemon that does not answer is an error in its place, and
    /// one that has ended meanwhile has no sandboxes.
    pub(super) fn sandboxes(&self, daemons: &[Daemon]) -> Vec<Listed> {
        each(daemons.to_vec(), |daemon| match &daemon.answer {
            // A second wait would end like the first.
            Answer::Failed(reason) => Err(reason.clone()),
            _ => {
                let answer = self.ask(&daemon.socket, sandbox::ask);
                answer.unwrap_or(Ok(Vec::new())).map_err(|error| error.to_string())
            }
        })
    }

    /// The daemon that takes new sandboxes.
    pub(super) fn current(&self) -> Result<Daemon, CommandError> {
        let daemons = self.daemons(false)?;
        let pid = current(&daemons).map(|daemon| daemon.pid);
        let found = daemons.into_iter().find(|daemon| Some(daemon.pid) == pid);
        found.ok_or_else(|| CommandError::NoneServes { socket: self.socket.clone() })
    }
}

/// The daemon that takes new sandboxes. Daemons of an earlier version do not tell: among them it is
/// the youngest, since each daemon retires those before it.
pub(super) fn current(daemons: &[Daemon]) -> Option<&Daemon> {
    let serving = daemons.iter().find(|daemon| daemon.answer.state() == "serving");
    serving.or_else(|| {
        let earlier =
            daemons.iter().filter(|daemon| matches!(daemon.answer, Answer::Earlier { .. }));
        earlier.min_by_key(|daemon| daemon.process.map(|process| process.age))
    })
}

/// The pid in the name of a daemon's own socket.
fn pid_of(socket: &Path) -> Option<u32> {
    let name = socket.file_name()?.to_str()?.strip_suffix(".sock")?;
    let is_own = socket.parent()?.file_name()? == DAEMONS;
    name.parse().ok().filter(|_| is_own)
}

/// Asks all at the same time: of several daemons that do not answer, one costs the time.
fn each<A: Send, B: Send>(all: Vec<A>, ask: impl Fn(A) -> B + Sync) -> Vec<B> {
    let ask = &ask;
    thread::scope(|scope| {
        let asked: Vec<_> = all.into_iter().map(|one| scope.spawn(move || ask(one))).collect();
        // A panic goes on here.
        asked
            .into_iter()
            .map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use async_trait::async_trait;
    use containerd_shim_protos::ttrpc::{
        self, Code, Response,
        r#async::{MethodHandler, Server, Service, TtrpcContext, transport::Listener},
    };
    use prost::Message;
    use runwasi_core::{bootstrap::socket, server::Accept};

    use super::*;
    use crate::{
        commands::{
            inspect::{self, Inspected},
            list, top,
        },
        manager::{
            Method, SERVICE,
            messages::{ListReply, SandboxEntry, VersionReply},
        },
    };

    fn daemon(pid: u32, age: u64, answer: Answer) -> Daemon {
        let age = Duration::from_secs(age);
        let process = Some(ProcessFacts { age, ..ProcessFacts::default() });
        Daemon { pid, socket: PathBuf::new(), process, answer }
    }

    fn status(state: DaemonState) -> Answer {
        Answer::Status(Box::new(StatusReply { state: state as i32, ..StatusReply::default() }))
    }

    fn earlier() -> Answer {
        Answer::Earlier { version: "0.0.9".into() }
    }

    #[test]
    fn the_serving_daemon_is_the_current_one() {
        let retired = daemon(1, 50, status(DaemonState::Retired));
        let serving = daemon(2, 10, status(DaemonState::Serving));
        let old = daemon(3, 5, earlier());
        let silent = daemon(4, 1, Answer::Failed("late".into()));
        let pid = |all: &[Daemon]| current(all).map(|daemon| daemon.pid);
        assert_eq!(pid(&[retired.clone(), old.clone(), serving]), Some(2));
        assert_eq!(pid(&[retired.clone(), daemon(5, 20, earlier()), old]), Some(3));
        assert_eq!(pid(&[retired, silent]), None);
    }

    #[test]
    fn own_sockets_have_a_pid_as_their_name() {
        assert_eq!(pid_of(Path::new("/run/x/daemons/12.sock")), Some(12));
        for path in ["/run/x/12.sock", "/run/x/daemons/a.sock", "/run/x/daemons/12.new", "/"] {
            assert_eq!(pid_of(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn absence_and_a_dead_socket_are_told_alike_and_nothing_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("manager.sock");
        let node = Node { socket, program: "daemon", patience: Duration::from_millis(100) };
        let absent = |node: &Node| matches!(node.sockets(), Err(CommandError::Absent { .. }));
        assert!(absent(&node));
        let daemons = directory.path().join(DAEMONS);
        fs::create_dir(&daemons).unwrap();
        assert!(absent(&node));
        let dead = daemons.join("1.sock");
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        fs::write(daemons.join("note.txt"), "").unwrap();
        assert!(absent(&node));
        assert!(dead.exists());
        let one = Node { socket: dead, ..node };
        assert!(absent(&one));
    }

    /// A daemon of an earlier version: it knows nothing but its version and a list.
    struct Earlier(Method);

    #[async_trait]
    impl MethodHandler for Earlier {
        async fn handler(&self, _: TtrpcContext, _: ttrpc::Request) -> ttrpc::Result<Response> {
            let version = VersionReply { version: "0.0.9".into(), ..VersionReply::default() };
            let sandbox = SandboxEntry {
                namespace: "default".into(),
                group: "pod".into(),
                pid: 5,
                socket: "/s".into(),
                containers: 2,
            };
            let payload = match self.0 {
                Method::Version => version.encode_to_vec(),
                Method::List => ListReply { sandboxes: vec![sandbox] }.encode_to_vec(),
                _ => Vec::new(),
            };
            let mut response = Response { payload, ..Response::default() };
            response.set_status(ttrpc::get_status(Code::OK, ""));
            Ok(response)
        }
    }

    async fn serve_earlier(socket: &Path) -> Server {
        let known = [Method::Version, Method::List, Method::Retire].map(|method| {
            let handler: Box<dyn MethodHandler + Send + Sync> = Box::new(Earlier(method));
            (method.name().to_owned(), handler)
        });
        let service = Service { methods: known.into(), streams: HashMap::new() };
        let listener = socket::listener(socket).unwrap();
        let accept = Accept::new(listener).unwrap();
        let mut server = Server::new()
            .add_listener(Listener::new(accept))
            .register_service([(SERVICE.to_owned(), service)].into());
        server.start().await.unwrap();
        server
    }

    #[tokio::test]
    async fn daemon_of_an_earlier_version_is_asked_for_less() {
        let directory = tempfile::tempdir().unwrap();
        let daemons = directory.path().join(DAEMONS);
        fs::create_dir(&daemons).unwrap();
        let own = daemons.join(format!("{}.sock", std::process::id()));
        let _server = serve_earlier(&own).await;
        let socket = directory.path().join("manager.sock");
        let node = Node { socket, program: "daemon", patience: Duration::from_secs(10) };
        let asked = move || {
            let daemons = node.daemons(false).unwrap();
            let sandboxes = node.sandboxes(&daemons);
            let refused = node.client(&own).unwrap().status(false).unwrap_err().to_string();
            let top = top::batch(&node, Duration::from_millis(1)).unwrap();
            (node.current().unwrap().pid, daemons, sandboxes, (refused, top))
        };
        let asked = tokio::task::spawn_blocking(asked).await.unwrap();
        let (pid, daemons, sandboxes, (refused, top)) = asked;
        assert_eq!(pid, std::process::id());
        assert_eq!(daemons[0].answer.state(), "earlier version");
        assert_eq!(daemons[0].answer.version(), Some("0.0.9"));
        let unknown = "(version 0.0.9) does not know";
        assert!(refused.contains(&format!("{unknown} Status")), "{refused}");
        assert!(list::faults(&daemons, &sandboxes).is_empty(), "{sandboxes:?}");
        let rows = list::rows(&daemons, &sandboxes);
        let table = list::table(&rows, 1000);
        let words: Vec<_> = table.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(words[..8], ["default", "pod", "-", "2", "-", "-", "-", "5"], "{table}");
        assert_eq!(words[9..], ["(earlier", "version)"], "{table}");
        let [note] = &list::unknown(&daemons, &sandboxes, "daemon")[..] else { panic!("a note") };
        assert!(note.contains("(version 0.0.9) tells of its 2 containers"), "{note}");
        assert!(top.contains(note) && top.starts_with("0 containers of 1 daemons"), "{top}");
        let Ok(Inspected::Sandbox(row)) = inspect::find(&rows, "pod", None) else { panic!("pod") };
        assert!(inspect::sandbox_text(&row, 0).contains("containers  2, of which"), "{rows:?}");
    }

    #[test]
    fn daemon_that_ends_while_it_is_asked_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join(DAEMONS).join("1.sock");
        fs::create_dir(own.parent().unwrap()).unwrap();
        let socket = directory.path().join("manager.sock");
        let node = Node { socket, program: "daemon", patience: Duration::from_secs(60) };
        let other = daemon(1, 0, status(DaemonState::Retired));
        let other = Daemon { socket: own.clone(), ..other };
        // It closes its connections, and then its socket.
        let end = || {
            let listener = std::os::unix::net::UnixListener::bind(&own).unwrap();
            thread::spawn(move || {
                drop(listener.accept().unwrap());
                runwasi_core::sys::pause(Duration::from_millis(50));
            })
        };
        let ending = end();
        let listed = node.sandboxes(std::slice::from_ref(&other));
        assert!(matches!(&listed[..], [Ok(none)] if none.is_empty()), "{listed:?}");
        ending.join().unwrap();
        fs::remove_file(&own).unwrap();
        let ending = end();
        let daemons = node.daemons(false);
        assert!(matches!(daemons, Err(CommandError::Absent { .. })), "{daemons:?}");
        ending.join().unwrap();
    }

    #[test]
    fn daemon_without_an_answer_is_told_in_time() {
        let directory = tempfile::tempdir().unwrap();
        let daemons = directory.path().join(DAEMONS);
        fs::create_dir(&daemons).unwrap();
        let pid = std::process::id();
        let path = daemons.join(format!("{pid}.sock"));
        let _silent = std::os::unix::net::UnixListener::bind(path).unwrap();
        let socket = directory.path().join("manager.sock");
        let node = Node { socket, program: "daemon", patience: Duration::from_millis(100) };
        assert_eq!(node.others(|_| false).len(), 1);
        assert!(node.others(|known| known == pid).is_empty());
        let [daemon] = &node.daemons(false).unwrap()[..] else { panic!("one daemon") };
        assert_eq!((daemon.pid, daemon.answer.state()), (pid, "no answer"));
        assert!(matches!(node.current(), Err(CommandError::NoneServes { .. })));
        let [Err(reason)] = &node.sandboxes(std::slice::from_ref(daemon))[..] else {
            panic!("an error")
        };
        assert!(reason.contains("no answer"), "{reason}");
    }
}
