//! `events`: the events of all daemons of the node, as they happen.
//!
//! ```text
//! watch a daemon ─┐                       a thread per daemon
//! watch a daemon ─┼─▶ channel ─▶ print    a new daemon is found within a second
//! ```
//!
//! Every wait is bounded, so the command ends soon after its reader has gone, and when no daemon is
//! left. A daemon that does not answer is asked again as long as its socket lives: it tells what
//! has happened meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use runwasi_core::sys;
use serde_json::{Value, json};

use super::{
    error::CommandError,
    node::Node,
    output::{self, print},
    text,
};
use crate::manager::{
    client::{Client, ClientError, alive},
    reports::{EventEntry, EventsReply, EventsRequest},
};

/// Time between two looks for new daemons, and for the reader of this command.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait of a request for events.
const WAIT: Duration = Duration::from_secs(20);
/// Messages that wait for a slow reader of this command. Then the daemons' threads wait, and a
/// daemon tells them what it no longer has.
const WAITING: usize = 1024;
/// How long the command waits for another daemon after the end of the last one.
const ALONE: Duration = Duration::from_secs(10);

/// A message of the thread of one daemon.
enum Message {
    Event { daemon: u32, event: EventEntry },
    Lost { daemon: u32, number: u64 },
    Silent { daemon: u32 },
    Ended { daemon: u32, error: ClientError },
}

/// Prints events until the time is over, the reader has gone, or no daemon is left. Fails at the
/// end of the time if a daemon has never answered.
pub(super) fn follow(
    node: &Node,
    as_json: bool,
    past: bool,
    time: Option<Duration>,
) -> Result<(), CommandError> {
    let ends = time.map(|time| Instant::now() + time);
    let (sender, receiver) = sync_channel(WAITING);
    let mut watched = Watched { node, sender, living: BTreeMap::new(), ended: BTreeSet::new() };
    // The first look must find a daemon, and tells why it does not.
    for (pid, socket) in node.sockets()? {
        watched.watch(pid, socket, past);
    }
    let mut alone_since = None;
    while ends.is_none_or(|ends| Instant::now() < ends) && !output::has_no_reader() {
        let limit = ends.map_or(LOOK, |ends| ends.saturating_duration_since(Instant::now()));
        if !take(&receiver, limit.min(LOOK), &mut watched, as_json)? {
            return Ok(());
        }
        // A daemon that has started meanwhile: its events from the first one on.
        for (pid, socket) in node.others(|pid| watched.knows(pid)) {
            watched.watch(pid, socket, true);
        }
        if !watched.living.is_empty() {
            alone_since = None;
        } else if alone_since.get_or_insert_with(Instant::now).elapsed() > ALONE {
            node.sockets()?;
        }
    }
    if output::has_no_reader() { Ok(()) } else { watched.all_answered() }
}

/// Prints what comes within the limit, and leaves a backlog for later. False if the reader has
/// gone.
fn take(
    receiver: &Receiver<Message>,
    limit: Duration,
    watched: &mut Watched<'_>,
    as_json: bool,
) -> Result<bool, CommandError> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(true);
        }
        match receiver.recv_timeout(left) {
            Ok(Message::Event { daemon, event }) => {
                let line =
                    if as_json { json_line(daemon, &event) } else { text_line(daemon, &event) };
                if !print(&line)? {
                    return Ok(false);
                }
            }
            Ok(Message::Lost { daemon, number }) => {
                output::note(&format!("daemon {daemon} no longer has {number} earlier events"));
            }
            Ok(Message::Silent { daemon }) => {
                output::note(&format!("daemon {daemon} does not answer, and is asked again"));
            }
            Ok(Message::Ended { daemon, error }) => watched.ended(daemon, error)?,
            // Never disconnected: this function's caller has a sender.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(true),
        }
    }
}

/// The daemons with events that are followed.
struct Watched<'a> {
    node: &'a Node,
    sender: SyncSender<Message>,
    living: BTreeMap<u32, Asked>,
    /// Not watched again: a pid may be that of a daemon whose socket goes last.
    ended: BTreeSet<u32>,
}

/// A daemon that is asked for its events.
struct Asked {
    socket: PathBuf,
    since: Instant,
    has_answered: Arc<AtomicBool>,
}

impl Watched<'_> {
    fn watch(&mut self, pid: u32, socket: PathBuf, past: bool) {
        if self.knows(pid) {
            return;
        }
        let has_answered = Arc::<AtomicBool>::default();
        let asked = Asked {
            socket: socket.clone(),
            since: Instant::now(),
            has_answered: has_answered.clone(),
        };
        self.living.insert(pid, asked);
        let node = self.node.clone();
        let sender = self.sender.clone();
        let from = if past { 0 } else { EventsRequest::NOW };
        let reader = Reader { daemon: pid, sender, from, is_silent: false, has_answered };
        // Not joined: it may wait for an answer, and the end of the process ends it.
        thread::spawn(move || reader.run(&node, &socket));
    }

    fn knows(&self, pid: u32) -> bool {
        self.ended.contains(&pid) || self.living.contains_key(&pid)
    }

    /// An error with the daemons that live and have never answered.
    fn all_answered(&self) -> Result<(), CommandError> {
        // One that was found a moment ago has had no time for it.
        let time = self.node.patience.min(LOOK);
        let is_silent = |asked: &Asked| {
            !asked.has_answered.load(Ordering::Relaxed)
                && asked.since.elapsed() >= time
                && alive(&asked.socket).unwrap_or(true)
        };
        let silent = self.living.iter().filter(|(_, asked)| is_silent(asked));
        let silent: Vec<_> = silent.map(|(pid, _)| pid.to_string()).collect();
        if silent.is_empty() {
            return Ok(());
        }
        let text = format!("no answer of daemon {}: its events are missing", silent.join(", "));
        Err(CommandError::Other(text))
    }

    fn ended(&mut self, daemon: u32, error: ClientError) -> Result<(), CommandError> {
        self.living.remove(&daemon);
        self.ended.insert(daemon);
        match error {
            // One of several may be of an earlier version.
            ClientError::Unknown { .. } if self.living.is_empty() => return Err(error.into()),
            ClientError::Unknown { .. } => output::note(&error.to_string()),
            _ => output::note(&format!("daemon {daemon} has ended")),
        }
        Ok(())
    }
}

/// Reader of the events of one daemon, on a thread of its own.
struct Reader {
    daemon: u32,
    sender: SyncSender<Message>,
    /// Number of the next event.
    from: u64,
    /// True since a request without an answer, until the next one with an answer.
    is_silent: bool,
    /// Set by the first answer.
    has_answered: Arc<AtomicBool>,
}

impl Reader {
    /// Sends the events of the daemon until it ends or the receiver has gone.
    fn run(mut self, node: &Node, socket: &Path) {
        loop {
            let Err(error) = self.read(node, socket) else { return };
            // Stopped, too busy, or it has closed this connection for the sake of others.
            let is_answer =
                matches!(error, ClientError::Refused { .. } | ClientError::Unknown { .. });
            let lives = !is_answer && lives_on(socket);
            let daemon = self.daemon;
            if !lives {
                // An error: the command is ending.
                let _ = self.sender.send(Message::Ended { daemon, error });
                return;
            }
            let is_told = mem::replace(&mut self.is_silent, true);
            if !is_told && self.sender.send(Message::Silent { daemon }).is_err() {
                return;
            }
        }
    }

    /// Sends events until an error, or until the receiver has gone.
    fn read(&mut self, node: &Node, socket: &Path) -> Result<(), ClientError> {
        // Without a wait: a daemon that does not answer is known after the patience.
        let client = node.client(socket)?;
        let first = client.events(self.from, Duration::ZERO)?;
        if !self.pass_on(first) {
            return Ok(());
        }
        let client = client.patient(WAIT);
        loop {
            let reply = client.events(self.from, WAIT)?;
            if !self.pass_on(reply) {
                return Ok(());
            }
            // A reply without a wait would otherwise be asked for without a pause.
            sys::pause(Duration::from_millis(5));
        }
    }

    /// Sends the events of a reply. False if the receiver has gone.
    fn pass_on(&mut self, reply: EventsReply) -> bool {
        let daemon = self.daemon;
        self.from = reply.next;
        self.is_silent = false;
        self.has_answered.store(true, Ordering::Relaxed);
        // Nothing is lost to a reader that wants what is left of the past.
        let lost = Some(reply.lost).filter(|number| *number > 0);
        let lost = lost.map(|number| Message::Lost { daemon, number });
        let events = reply.events.into_iter().map(|event| Message::Event { daemon, event });
        lost.into_iter().chain(events).all(|message| self.sender.send(message).is_ok())
    }
}

/// True if a daemon listens after a moment: one that ends has its socket that long.
fn lives_on(socket: &Path) -> bool {
    sys::pause(LOOK);
    alive(socket).unwrap_or(true)
}

/// The events that daemons have kept, for a report of a fault.
pub(super) fn kept(node: &Node) -> Result<Vec<Value>, CommandError> {
    let mut all = Vec::new();
    for (pid, socket) in node.sockets()? {
        match node.client(&socket).and_then(|client| all_kept(&client)) {
            Ok(events) => all.extend(events.iter().map(|event| event_json(pid, event))),
            Err(error) => all.push(json!({ "error": error.to_string() })),
        }
    }
    Ok(all)
}

fn all_kept(client: &Client) -> Result<Vec<EventEntry>, ClientError> {
    // More than a daemon keeps: events may come while they are read.
    const MOST: usize = 10_000;
    let mut from = 0;
    let mut all = Vec::new();
    while all.len() < MOST {
        let reply = client.events(from, Duration::ZERO)?;
        if reply.events.is_empty() {
            break;
        }
        from = reply.next;
        all.extend(reply.events);
    }
    Ok(all)
}

/// An event for people.
fn text_line(daemon: u32, event: &EventEntry) -> String {
    let mut line = format!("{} {:<8}", text::time(event.at), text::line(&event.kind));
    let mut add = |name: &str, value: &str| {
        if !value.is_empty() {
            line.push_str(&format!(" {name}={}", text::cell(value)));
        }
    };
    add("namespace", &event.namespace);
    add("sandbox", &event.sandbox);
    add("container", &event.container);
    add("exec", &event.exec);
    add("status", &event.status.map(|status| status.to_string()).unwrap_or_default());
    add("daemon", &daemon.to_string());
    if !event.text.is_empty() {
        line.push_str(&format!(": {}", text::line(&event.text)));
    }
    line.push('\n');
    line
}

/// An event as JSON, on one line.
fn json_line(daemon: u32, event: &EventEntry) -> String {
    text::json_line(&event_json(daemon, event))
}

fn event_json(daemon: u32, event: &EventEntry) -> Value {
    let filled = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "time": text::time(event.at),
        "event": event.kind,
        "namespace": filled(&event.namespace),
        "sandbox": filled(&event.sandbox),
        "container": filled(&event.container),
        "exec": filled(&event.exec),
        "exit_status": event.status,
        "text": filled(&event.text),
        "daemon": daemon,
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, future, os::unix::net::UnixListener};

    use async_trait::async_trait;
    use containerd_shim_protos::ttrpc::{
        self, Code, Response,
        r#async::{MethodHandler, Server, Service, TtrpcContext, transport::Listener},
    };
    use prost::Message as _;
    use runwasi_core::{bootstrap::socket::connect_within, server::Accept};

    use super::*;
    use crate::manager::{Method, SERVICE};

    /// A daemon with one event.
    struct OneEvent;

    #[async_trait]
    impl MethodHandler for OneEvent {
        async fn handler(
            &self,
            _: TtrpcContext,
            request: ttrpc::Request,
        ) -> ttrpc::Result<Response> {
            if EventsRequest::decode(request.payload.as_slice()).unwrap().from > 0 {
                return future::pending().await;
            }
            let event = EventEntry { kind: "late".into(), ..EventEntry::default() };
            let reply = EventsReply { next: 1, events: vec![event], ..EventsReply::default() };
            let mut response = Response { payload: reply.encode_to_vec(), ..Response::default() };
            response.set_status(ttrpc::get_status(Code::OK, ""));
            Ok(response)
        }
    }

    #[tokio::test]
    async fn daemon_that_has_closed_the_connection_is_asked_again() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("1.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let node = Node { socket: socket.clone(), program: "p", patience: Duration::from_secs(60) };
        let (sender, receiver) = sync_channel(WAITING);
        let has_answered = Arc::default();
        let reader = Reader { daemon: 1, sender, from: 0, is_silent: false, has_answered };
        thread::spawn(move || reader.run(&node, &socket));
        drop(listener.accept().unwrap());
        let accept = Accept::new(listener).unwrap();
        let handler: Box<dyn MethodHandler + Send + Sync> = Box::new(OneEvent);
        let methods = [(Method::Events.name().to_owned(), handler)].into();
        let service = Service { methods, streams: HashMap::new() };
        let mut server = Server::new()
            .add_listener(Listener::new(accept))
            .register_service([(SERVICE.to_owned(), service)].into());
        server.start().await.unwrap();
        let received = tokio::task::spawn_blocking(move || {
            let next = || receiver.recv_timeout(Duration::from_secs(60)).unwrap();
            (next(), next())
        });
        let (silent, event) = received.await.unwrap();
        assert!(matches!(silent, Message::Silent { daemon: 1 }));
        assert!(matches!(event, Message::Event { event, .. } if event.kind == "late"));
    }

    #[test]
    fn daemon_whose_queue_of_connections_is_full_has_not_ended() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("1.sock");
        let listener = runwasi_core::bootstrap::socket::listener(&socket).unwrap();
        let mut held = Vec::new();
        while let Ok(stream) = connect_within(&socket, Duration::ZERO) {
            held.push(stream);
        }
        let node = Node { socket: socket.clone(), program: "p", patience: Duration::ZERO };
        let (sender, receiver) = sync_channel(WAITING);
        let has_answered = Arc::default();
        let reader = Reader { daemon: 1, sender, from: 0, is_silent: false, has_answered };
        thread::spawn(move || reader.run(&node, &socket));
        let next = || receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(matches!(next(), Message::Silent { daemon: 1 }));
        drop((listener, held));
        assert!(matches!(next(), Message::Ended { daemon: 1, .. }));
    }

    #[test]
    fn backlog_does_not_outlast_the_time() {
        let node = Node { socket: PathBuf::new(), program: "p", patience: LOOK };
        let (sender, receiver) = sync_channel(WAITING);
        let mut watched = Watched {
            node: &node,
            sender: sender.clone(),
            living: BTreeMap::new(),
            ended: BTreeSet::new(),
        };
        sender.send(Message::Lost { daemon: 1, number: 1 }).unwrap();
        assert!(take(&receiver, Duration::ZERO, &mut watched, false).unwrap());
        assert!(receiver.try_recv().is_ok(), "it was printed after the time");
    }

    #[test]
    fn daemon_that_never_answers_is_told_at_the_end_of_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("daemons/7.sock");
        std::fs::create_dir(own.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&own).unwrap();
        let node = Node { socket: own.clone(), program: "p", patience: Duration::from_millis(100) };
        let ended = follow(&node, false, true, Some(Duration::from_millis(300)));
        let error = ended.unwrap_err().to_string();
        assert_eq!(error, "no answer of daemon 7: its events are missing");
        let (sender, _receiver) = sync_channel(WAITING);
        let asked = Asked { socket: own, since: Instant::now(), has_answered: Arc::default() };
        let patience = Duration::ZERO;
        let node = Node { patience, ..node };
        let living = [(7, asked)].into();
        let watched = Watched { node: &node, sender, living, ended: BTreeSet::new() };
        assert!(watched.all_answered().is_err());
        drop(listener);
        assert!(watched.all_answered().is_ok(), "it has gone");
    }

    #[test]
    fn event_is_one_line() {
        let event = EventEntry {
            at: 1_764_374_400_000,
            kind: "exit".into(),
            namespace: "default".into(),
            sandbox: "pod".into(),
            container: "app\n".into(),
            status: Some(137),
            text: "killed\u{1b}".into(),
            ..EventEntry::default()
        };
        let line = text_line(7, &event);
        assert_eq!(
            line,
            "2025-11-29T00:00:00.000Z exit     namespace=default sandbox=pod container=app\\n \
             status=137 daemon=7: killed\\u{1b}\n"
        );
        let json = json_line(7, &event);
        assert_eq!(json.lines().count(), 1);
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["exit_status"], &value["exec"]), (&json!(137), &Value::Null));
    }
}
