//! Journal: the latest events of a daemon, in memory, for the command `events`.
//!
//! ```text
//! driver ─▶ JournalPublisher ─┬─▶ event queue ─▶ containerd
//!                             ├─▶ Times of the sandbox's containers
//!                             └─▶ Journal ─▶ readers, each with the number of its next event
//! ```
//!
//! The journal is bounded, and nothing waits for a reader: one that is late is told the number of
//! events that it has lost. Only the end of the daemon waits, for a moment, for readers that are
//! about to ask for its last events.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use runwasi_core::{
    Id,
    events::{Event, Publisher},
    lock::Mutex,
    process::Info,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use crate::manager::reports::{EventEntry, EventsReply, EventsRequest};

/// Events that are kept.
// A container's life has five; each takes some hundred bytes.
const KEPT: usize = 4096;

/// Most events of one reply, below the largest message of ttrpc (4 MiB).
const MOST: usize = 1024;

/// Longest wait of one request.
// Below the time after which a connection without a reply counts as idle.
const LONGEST: Duration = Duration::from_secs(30);

/// Longest time in which a reader asks again. One that takes longer is thought to have gone.
const PAUSE: Duration = Duration::from_secs(5);
/// Time between two looks at the readers of the last events.
const LOOK: Duration = Duration::from_millis(5);

/// The journal. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Locked for one event, or for the copy of a reply.
    ring: Mutex<Ring>,
    /// Locked for single look-ups and changes, never with the ring.
    readers: Mutex<Readers>,
    news: Notify,
}

/// Requests under way, and readers between two requests.
#[derive(Default)]
struct Readers {
    has_ended: bool,
    asking: usize,
    pausing: Vec<Pausing>,
}

/// A reader between two requests.
struct Pausing {
    /// Number that its next request has.
    next: u64,
    /// It has surely got all events before this number.
    has: u64,
    since: Instant,
}

/// A request under way. Its drop is its end.
struct Asking<'a>(&'a Mutex<Readers>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.lock().asking -= 1;
    }
}

impl Readers {
    fn is_waited_for(&self, end: u64) -> bool {
        let is_late = |one: &Pausing| one.has < end && one.since.elapsed() < PAUSE;
        self.asking > 0 || self.pausing.iter().any(is_late)
    }
}

#[derive(Default)]
struct Ring {
    /// Number of the oldest event that is kept.
    first: u64,
    events: VecDeque<EventEntry>,
}

impl Ring {
    fn add(&mut self, event: EventEntry) {
        if self.events.len() == KEPT {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(event);
    }

    /// Number of the event that comes next.
    fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// The events from that number on.
    fn from(&self, from: u64) -> EventsReply {
        let from = from.min(self.next());
        let begin = from.max(self.first);
        let skipped = usize::try_from(begin - self.first).unwrap_or(usize::MAX);
        let events: Vec<_> = self.events.iter().skip(skipped).take(MOST).cloned().collect();
        EventsReply { next: begin + events.len() as u64, lost: begin - from, events }
    }
}

impl Journal {
    /// Adds an event.
    pub(crate) fn note(&self, event: EventEntry) {
        self.shared.ring.lock().add(event);
        self.shared.news.notify_waiters();
    }

    /// Adds an event of the daemon itself.
    pub(crate) fn note_daemon(&self, kind: &str, text: String) {
        self.note(EventEntry { at: now(), kind: kind.to_owned(), text, ..EventEntry::default() });
    }

    /// Adds an event of a sandbox.
    pub(crate) fn note_sandbox(&self, kind: &str, namespace: &Id, sandbox: &Id) {
        self.note(EventEntry {
            at: now(),
            kind: kind.to_owned(),
            namespace: namespace.to_string(),
            sandbox: sandbox.to_string(),
            ..EventEntry::default()
        });
    }

    /// The events that a request asks for. Waits for the first one, within the request's limit.
    pub(crate) async fn read(&self, request: &EventsRequest) -> EventsReply {
        let from = match request.from {
            EventsRequest::NOW => self.shared.ring.lock().next(),
            from => from,
        };
        let _asking = self.asking(from);
        let reply = self.wait_from(from, request.wait).await;
        // Without events it has all before `next`. With some, that is told by its next request.
        let has = if reply.events.is_empty() { reply.next } else { from };
        let mut readers = self.shared.readers.lock();
        readers.pausing.push(Pausing { next: reply.next, has, since: Instant::now() });
        drop(readers);
        reply
    }

    fn asking(&self, from: u64) -> Asking<'_> {
        let readers = &self.shared.readers;
        let mut all = readers.lock();
        all.asking += 1;
        all.pausing.retain(|one| one.since.elapsed() < PAUSE);
        if let Some(found) = all.pausing.iter().position(|one| one.next == from) {
            all.pausing.swap_remove(found);
        }
        drop(all);
        Asking(readers)
    }

    /// Lets no request wait any more. Waits until all readers have the last event.
    pub(crate) async fn end(&self) {
        self.shared.readers.lock().has_ended = true;
        self.shared.news.notify_waiters();
        let end = self.shared.ring.lock().next();
        while self.shared.readers.lock().is_waited_for(end) {
            sleep(LOOK).await;
        }
    }

    async fn wait_from(&self, from: u64, wait: u32) -> EventsReply {
        let wait = Duration::from_millis(wait.into()).min(LONGEST);
        let first = async {
            loop {
                // Before the look: it gets every later notification, also before its first poll.
                let news = self.shared.news.notified();
                let reply = self.shared.ring.lock().from(from);
                if !reply.events.is_empty() || self.shared.readers.lock().has_ended {
                    return reply;
                }
                news.await;
            }
        };
        let found = timeout(wait, first).await;
        found.unwrap_or_else(|_| self.shared.ring.lock().from(from))
    }
}

/// Times of the containers of one sandbox.
#[derive(Default)]
pub(crate) struct Times {
    /// Locked for single look-ups and changes.
    known: Mutex<HashMap<Id, ContainerTimes>>,
}

/// Times of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerTimes {
    pub(crate) created: u64,
    pub(crate) started: u64,
}

impl Times {
    /// The times of a container. Empty for one that is not known.
    pub(crate) fn of(&self, container: &Id) -> ContainerTimes {
        self.known.lock().get(container).copied().unwrap_or_default()
    }

    fn note(&self, event: &Event, at: u64) {
        let mut known = self.known.lock();
        match event {
            Event::Created { process, .. } => {
                let times = ContainerTimes { created: at, started: 0 };
                known.insert(process.container.clone(), times);
            }
            Event::Started { process } if process.exec.is_none() => {
                if let Some(times) = known.get_mut(&process.container) {
                    times.started = at;
                }
            }
            Event::Deleted { process, .. } => {
                known.remove(&process.container);
            }
            _ => {}
        }
    }
}

/// Publisher of one sandbox: passes events on, and notes them.
pub(crate) struct JournalPublisher {
    pub(crate) inner: Arc<dyn Publisher>,
    pub(crate) journal: Journal,
    pub(crate) times: Arc<Times>,
    pub(crate) namespace: Id,
    pub(crate) sandbox: Id,
}

impl Publisher for JournalPublisher {
    fn publish(&self, event: Event) {
        let at = now();
        self.times.note(&event, at);
        let namespace = self.namespace.to_string();
        let sandbox = self.sandbox.to_string();
        self.journal.note(EventEntry { at, namespace, sandbox, ..entry(&event) });
        self.inner.publish(event);
    }
}

/// An event without its time, namespace and sandbox.
fn entry(event: &Event) -> EventEntry {
    match event {
        Event::Created { process, .. } => of_process("create", process, None),
        Event::ExecAdded { process } => of_process("exec", process, None),
        Event::Started { process } => of_process("start", process, None),
        Event::Exited { process, exit, cause } => {
            // containerd's event has no field for it: here is the only event that tells.
            let text = cause.clone().into_owned();
            EventEntry { text, ..of_process("exit", process, Some(exit.status.get())) }
        }
        Event::Deleted { process, exit } => of_process("delete", process, Some(exit.status.get())),
        Event::OutOfMemory { container } => of_container("oom", container),
        Event::Paused { container } => of_container("pause", container),
        Event::Resumed { container } => of_container("resume", container),
    }
}

fn of_process(kind: &str, process: &Info, status: Option<u32>) -> EventEntry {
    let exec = process.exec.as_ref().map(ToString::to_string).unwrap_or_default();
    EventEntry { exec, status, ..of_container(kind, &process.container) }
}

fn of_container(kind: &str, container: &Id) -> EventEntry {
    EventEntry { kind: kind.to_owned(), container: container.to_string(), ..EventEntry::default() }
}

/// The present time in milliseconds since 1970.
pub(crate) fn now() -> u64 {
    millis(SystemTime::now())
}

/// A time in milliseconds since 1970; 0 for one before.
pub(crate) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use runwasi_core::{ExitStatus, engine::exit::Exit};

    use super::*;

    fn event(text: &str) -> EventEntry {
        EventEntry { kind: "start".into(), text: text.into(), ..EventEntry::default() }
    }

    fn request(from: u64, wait: u32) -> EventsRequest {
        EventsRequest { protocol: 1, from, wait }
    }

    #[tokio::test]
    async fn reader_gets_each_event_once() {
        let journal = Journal::default();
        journal.note(event("a"));
        let first = journal.read(&request(0, 1000)).await;
        assert_eq!((first.events.len(), first.next, first.lost), (1, 1, 0));
        let none = journal.read(&request(first.next, 10)).await;
        assert_eq!((none.events.len(), none.next), (0, 1));
        let late = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            journal.note(event("b"));
        };
        let (second, ()) = tokio::join!(journal.read_owned(request(none.next, 10_000)), late);
        assert_eq!(second.events[0].text, "b");
        let now = journal.read(&request(EventsRequest::NOW, 0)).await;
        assert_eq!((now.events.len(), now.next), (0, 2));
    }

    #[tokio::test]
    async fn end_waits_for_a_reader_that_pauses() {
        let journal = Journal::default();
        journal.note(event("a"));
        let first = journal.read(&request(0, 1000)).await;
        journal.note(event("gone"));
        let mut end = Box::pin(journal.end());
        assert!(timeout(LOOK, &mut end).await.is_err(), "it did not wait");
        let last = journal.read(&request(first.next, 1_000_000)).await;
        assert_eq!(last.events[0].text, "gone");
        // It has no event to wait for: without the end it would wait for the longest time.
        let nothing = journal.read(&request(last.next, 1_000_000)).await;
        assert!(nothing.events.is_empty());
        timeout(LONGEST / 2, end).await.unwrap();
        let other = Journal::default();
        other.note(event("a"));
        timeout(LONGEST / 2, other.end()).await.unwrap();
    }

    #[tokio::test]
    async fn end_answers_requests_that_wait() {
        let journal = Journal::default();
        let reads = async { timeout(LONGEST / 2, journal.read(&request(0, 1_000_000))).await };
        let (read, ()) = tokio::join!(reads, journal.end());
        assert!(read.unwrap().events.is_empty());
    }

    impl Journal {
        async fn read_owned(&self, request: EventsRequest) -> EventsReply {
            self.read(&request).await
        }
    }

    #[test]
    fn late_reader_is_told_what_it_has_lost() {
        let mut ring = Ring::default();
        for n in 0..KEPT + 10 {
            ring.add(event(&n.to_string()));
        }
        let reply = ring.from(3);
        assert_eq!((reply.lost, reply.events.len()), (7, MOST));
        assert_eq!(reply.events[0].text, "10");
        let rest = ring.from(reply.next);
        assert_eq!((rest.lost, &*rest.events[0].text), (0, &*(10 + MOST).to_string()));
        // A number of another daemon's journal.
        assert_eq!(ring.from(u64::MAX - 1).next, ring.next());
    }

    #[test]
    fn times_are_those_of_the_init() {
        let id = Id::parse("container id", "c").unwrap();
        let info = |exec: Option<&str>| {
            Arc::new(Info {
                container: id.clone(),
                exec: exec.map(|exec| Id::parse("exec id", exec).unwrap()),
                pid: 1,
                stdio: Default::default(),
            })
        };
        let times = Times::default();
        let created =
            Event::Created { process: info(None), bundle: String::new(), rootfs: Vec::new() };
        times.note(&created, 1);
        times.note(&Event::Started { process: info(None) }, 2);
        times.note(&Event::Started { process: info(Some("e")) }, 3);
        assert_eq!(times.of(&id), ContainerTimes { created: 1, started: 2 });
        let exit = Exit::now(ExitStatus::code(3));
        let cause = "trap: x".into();
        let entry = entry(&Event::Exited { process: info(Some("e")), exit, cause });
        assert_eq!((&*entry.kind, &*entry.exec, entry.status), ("exit", "e", Some(3)));
        assert_eq!(entry.text, "trap: x");
        times.note(&Event::Deleted { process: info(None), exit }, 4);
        assert_eq!(times.of(&id), ContainerTimes::default());
    }
}
