//! Ordered queue of container events in front of a [`Forward`], which delivers them to containerd.
//!
//! Drivers publish without waiting; one task forwards in order. containerd may be away for minutes
//! (a restart), so an event that cannot be delivered is kept and tried again. The queue is bounded.
//! When it is full, the newest events are dropped with an error in the log: a consumer that has
//! missed so many events must list tasks anyway.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::{Mutex, mpsc};

use crate::{
    engine::exit::Exit,
    id::Id,
    metrics::delivery::{self, EventFate, WaitingEvent},
    process::Info,
    rootfs::MountConfig,
    shutdown::Tasks,
};

/// An event in the life of a container.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A container was created.
    Created {
        /// Its init.
        process: Arc<Info>,
        /// Its bundle.
        bundle: String,
        /// Mounts of its root file system.
        rootfs: Vec<MountConfig>,
    },
    /// An exec process was made; it does not run yet.
    ExecAdded {
        /// The exec process.
        process: Arc<Info>,
    },
    /// A process runs.
    Started {
        /// The process.
        process: Arc<Info>,
    },
    /// A process has ended; exactly one for every process.
    Exited {
        /// The process.
        process: Arc<Info>,
        /// Its exit.
        exit: Exit,
        /// Cause that the status does not tell, such as a trap and its kind. Untrusted text, empty
        /// if there is none. containerd's event has no field for it.
        cause: Cow<'static, str>,
    },
    /// A container was deleted. The deletion of an exec has no event, as with containerd's own
    /// shims.
    Deleted {
        /// Its init.
        process: Arc<Info>,
        /// The exit of its init.
        exit: Exit,
    },
    /// A process asked for more memory than its container's limit allows, and ends because of it.
    OutOfMemory {
        /// The container.
        container: Id,
    },
    /// A container is paused.
    Paused {
        /// The container.
        container: Id,
    },
    /// A container runs again.
    Resumed {
        /// The container.
        container: Id,
    },
}

/// Receives the events of drivers. Never waits, never fails.
pub trait Publisher: Send + Sync + 'static {
    /// Takes one event; the order of calls is the order of delivery.
    fn publish(&self, event: Event);
}

/// Delivers one event to containerd. The task of the queue makes one call at a time.
#[async_trait]
pub trait Forward: Send + 'static {
    /// Returns when containerd has taken the event. After `Unreachable` and `NotNow`, the same
    /// event is to be tried again.
    async fn forward(
        &mut self,
        namespace: &Id,
        event: &Event,
        at: SystemTime,
    ) -> Result<(), ForwardError>;
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// containerd could not be reached, or the connection broke.
    #[error("{address}: {reason}")]
    Unreachable {
        /// containerd's ttrpc socket.
        address: String,
        /// The transport's error.
        reason: String,
    },
    /// containerd answered with an error that may pass, for example while it shuts down.
    #[error("{address} did not take the event: {reason}")]
    NotNow {
        /// containerd's ttrpc socket.
        address: String,
        /// containerd's error.
        reason: String,
    },
    /// containerd refused the event, for good.
    #[error("{address} refused the event: {reason}")]
    Refused {
        /// containerd's ttrpc socket.
        address: String,
        /// containerd's error.
        reason: String,
    },
}

/// Events that may wait for containerd. A node of ten thousand containers that end at once has two
/// events of each.
const CAPACITY: usize = 65_536;
/// Error answers after which an event is given up: other events wait behind it.
const ANSWERS: u32 = 10;
/// First and longest pause between two attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));
/// How long a containerd may be away after its last sandbox has gone.
const ORPHANED: Duration = Duration::from_secs(60);

/// The queue to one containerd. Cheap to clone.
///
/// Its task ends when every clone and publisher is dropped and the queue is empty, or containerd
/// stays away. It also ends when its tasks are told to stop and the grace is over.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::Sender<Entry>,
}

struct Entry {
    namespace: Id,
    event: Event,
    at: SystemTime,
    _waiting: WaitingEvent,
}

impl Queue {
    /// Starts the forwarding task.
    pub fn start(forward: impl Forward, tasks: &Tasks) -> Self {
        Self::start_after(Arc::new(Mutex::new(forward)), tasks)
    }

    /// Starts with a `forward` that an earlier queue may still be using: this queue begins when the
    /// earlier one has ended.
    pub fn start_after(forward: Arc<Mutex<dyn Forward>>, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        let ending = tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                // An earlier queue holds the lock until it has delivered everything: events keep
                // their order across queues.
                mut forward = forward.lock() => {
                    deliver(receiver, &mut *forward, ending.clone()).await
                }
                // Bounds the wait for an earlier queue that never ends.
                () = ending.grace_over() => {}
            }
        });
        Self { sender }
    }

    /// A publisher for the sandboxes of `namespace`.
    pub fn publisher(&self, namespace: &Id) -> impl Publisher + use<> {
        NamespacePublisher { queue: self.clone(), namespace: namespace.clone() }
    }

    /// A handle that does not keep the queue alive.
    pub fn downgrade(&self) -> WeakQueue {
        WeakQueue(self.sender.downgrade())
    }
}

/// A handle to a queue that clones and publishers keep alive.
#[derive(Clone)]
pub struct WeakQueue(mpsc::WeakSender<Entry>);

impl WeakQueue {
    /// The queue, as long as a clone or a publisher of it exists.
    pub fn upgrade(&self) -> Option<Queue> {
        self.0.upgrade().map(|sender| Queue { sender })
    }
}

struct NamespacePublisher {
    queue: Queue,
    namespace: Id,
}

impl Publisher for NamespacePublisher {
    fn publish(&self, event: Event) {
        let namespace = self.namespace.clone();
        let waiting = delivery::waiting_event();
        let entry = Entry { namespace, event, at: SystemTime::now(), _waiting: waiting };
        // Never waits: the driver of a container must not depend on containerd. A queue that is
        // full, or that has ended with the grace, loses the event.
        if let Err(error) = self.queue.sender.try_send(entry) {
            delivery::events(EventFate::Lost, 1);
            tracing::error!(%error, "an event is lost");
        }
    }
}

async fn deliver(mut receiver: mpsc::Receiver<Entry>, forward: &mut dyn Forward, tasks: Tasks) {
    while let Some(entry) = receiver.recv().await {
        match deliver_one(&entry, &receiver, forward, &tasks).await {
            Ok(fate) => delivery::events(fate, 1),
            Err(reason) => {
                let left = receiver.len() + 1;
                delivery::events(EventFate::Lost, left);
                return tracing::error!(left, "{reason}");
            }
        }
    }
}

/// Delivers an event, or loses it if containerd refuses it. An error ends the delivery of all, with
/// the reason for the log.
async fn deliver_one(
    Entry { namespace, event, at, .. }: &Entry,
    receiver: &mpsc::Receiver<Entry>,
    forward: &mut dyn Forward,
    tasks: &Tasks,
) -> Result<EventFate, &'static str> {
    let mut pause = BACKOFF.0;
    let mut answers = 0;
    let mut orphaned = None;
    while let Err(error) = forward.forward(namespace, event, *at).await {
        // Only answers count: an absence of containerd uses up no attempts.
        answers += u32::from(matches!(error, ForwardError::NotNow { .. }));
        if answers == ANSWERS || matches!(error, ForwardError::Refused { .. }) {
            tracing::error!(%error, ?event, "an event is lost");
            return Ok(EventFate::Lost);
        }
        // Only the first failure of an event is logged.
        if pause == BACKOFF.0 {
            tracing::warn!(%error, "containerd does not take events, trying again until it does");
        }
        // Without senders no sandbox of this containerd is left. The task must not last for ever
        // when that containerd never comes back.
        if receiver.sender_strong_count() == 0
            && orphaned.get_or_insert_with(Instant::now).elapsed() > ORPHANED
        {
            return Err("containerd stays away, its events are lost");
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
            () = tasks.grace_over() => return Err("leaving with events undelivered"),
        }
    }
    Ok(EventFate::Delivered)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::UnboundedSender;

    use super::*;

    struct Flaky {
        failures: u32,
        delivered: UnboundedSender<Event>,
    }

    /// Never takes the event of container `c1`.
    struct Picky(UnboundedSender<Event>);

    #[async_trait]
    impl Forward for Picky {
        async fn forward(
            &mut self,
            _: &Id,
            event: &Event,
            _: SystemTime,
        ) -> Result<(), ForwardError> {
            if *event == self::event(1) {
                return Err(ForwardError::NotNow { address: "a".into(), reason: "no".into() });
            }
            self.0.send(event.clone()).unwrap();
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_event_that_is_never_taken_does_not_block_later_events() {
        let tasks = Tasks::new(Duration::from_secs(1));
        let (delivered, mut received) = mpsc::unbounded_channel();
        let queue = start(Picky(delivered), &tasks);
        for n in 0..3 {
            queue.publish(event(n));
        }
        assert_eq!(received.recv().await, Some(event(0)));
        assert_eq!(received.recv().await, Some(event(2)));
    }

    #[async_trait]
    impl Forward for Flaky {
        async fn forward(
            &mut self,
            _: &Id,
            event: &Event,
            _: SystemTime,
        ) -> Result<(), ForwardError> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(ForwardError::Unreachable {
                    address: "a".into(),
                    reason: "away".into(),
                });
            }
            self.delivered.send(event.clone()).unwrap();
            Ok(())
        }
    }

    fn start(forward: impl Forward, tasks: &Tasks) -> impl Publisher {
        Queue::start(forward, tasks).publisher(&Id::parse("namespace", "default").unwrap())
    }

    fn event(n: u32) -> Event {
        Event::Paused { container: Id::parse("container id", &format!("c{n}")).unwrap() }
    }

    #[tokio::test]
    async fn events_keep_their_order_while_containerd_is_away() {
        let tasks = Tasks::new(Duration::from_secs(1));
        let (delivered, mut received) = mpsc::unbounded_channel();
        let queue = start(Flaky { failures: 4, delivered }, &tasks);
        for n in 0..100 {
            queue.publish(event(n));
        }
        for n in 0..100 {
            assert_eq!(received.recv().await, Some(event(n)));
        }
    }

    /// Restart of a containerd: meanwhile its sandboxes have gone and new ones have come.
    #[tokio::test]
    async fn a_queue_begins_when_its_predecessor_has_delivered_everything() {
        let tasks = Tasks::new(Duration::from_secs(1));
        let (delivered, mut received) = mpsc::unbounded_channel();
        let forward: Arc<Mutex<dyn Forward>> =
            Arc::new(Mutex::new(Flaky { failures: 3, delivered }));
        let namespace = Id::parse("namespace", "default").unwrap();
        let first = Queue::start_after(forward.clone(), &tasks);
        let weak = first.downgrade();
        let publisher = first.publisher(&namespace);
        publisher.publish(event(0));
        drop(first);
        assert!(weak.upgrade().is_some(), "a publisher keeps it");
        drop(publisher);
        assert!(weak.upgrade().is_none());
        Queue::start_after(forward, &tasks).publisher(&namespace).publish(event(1));
        assert_eq!(received.recv().await, Some(event(0)));
        assert_eq!(received.recv().await, Some(event(1)));
    }

    #[tokio::test]
    async fn an_absent_containerd_delays_the_end_no_longer_than_the_grace() {
        let tasks = Tasks::new(Duration::from_millis(200));
        let (delivered, _received) = mpsc::unbounded_channel();
        let queue = start(Flaky { failures: u32::MAX, delivered }, &tasks);
        queue.publish(event(1));
        drop(queue);
        let start = std::time::Instant::now();
        tasks.stop();
        tasks.drained().await;
        // Without the bound, this would never end.
        assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
    }
}
