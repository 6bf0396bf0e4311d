//! What happens to containers, on its way to containerd: an ordered queue in front of a [`Forward`].
//!
//! Drivers publish without waiting; one task forwards in order. containerd may be away for minutes (a restart), so
//! an event that cannot be delivered is kept and tried again; the queue is bounded, and when it is full the newest
//! events are dropped with an error in the log, since a consumer that has missed so much must list tasks anyway.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::{
    bundle::rootfs::MountConfig,
    id::Id,
    process::{Info, exit::Exit},
    shutdown::Tasks,
};

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A container was created.
    Created {
        /// Its init.
        process: Arc<Info>,
        /// Its bundle.
        bundle: String,
        /// What its root file system is mounted from.
        rootfs: Vec<MountConfig>,
    },
    /// A process runs.
    Started {
        /// Which.
        process: Arc<Info>,
    },
    /// A process has ended; exactly one for every process.
    Exited {
        /// Which.
        process: Arc<Info>,
        /// How.
        exit: Exit,
    },
    /// A process was deleted.
    Deleted {
        /// Which.
        process: Arc<Info>,
        /// How it had ended.
        exit: Exit,
    },
    /// A container is paused.
    Paused {
        /// Which.
        container: Id,
    },
    /// A container runs again.
    Resumed {
        /// Which.
        container: Id,
    },
}

/// Where drivers put their events. Never waits, never fails.
pub trait Publisher: Send + Sync + 'static {
    /// Takes one event; the order of calls is the order of delivery.
    fn publish(&self, event: Event);
}

/// Delivers one event to containerd. Called by the queue's task, one call at a time.
#[async_trait]
pub trait Forward: Send + 'static {
    /// Returns when containerd has taken the event. `Unreachable` and `NotNow` mean: try the same event again.
    async fn forward(&mut self, event: &Event, at: SystemTime) -> Result<(), ForwardError>;
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// containerd could not be reached, or the connection broke.
    #[error("{address}: {reason}")]
    Unreachable {
        /// containerd's ttrpc socket.
        address: String,
        /// The transport's words.
        reason: String,
    },
    /// containerd answered with an error that may pass, as while it is leaving.
    #[error("{address} did not take the event: {reason}")]
    NotNow {
        /// containerd's ttrpc socket.
        address: String,
        /// containerd's words.
        reason: String,
    },
    /// containerd refused the event; it will not take it later either.
    #[error("{address} refused the event: {reason}")]
    Refused {
        /// containerd's ttrpc socket.
        address: String,
        /// containerd's words.
        reason: String,
    },
}

/// Events that may wait for containerd, about 1 MB of them.
const CAPACITY: usize = 8192;
/// Answers with an error after which an event is given up: others wait behind it.
const ANSWERS: u32 = 10;
/// First and longest pause between two tries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

/// The queue. Cheap to clone; the forwarding task ends when the last clone is dropped and the queue is empty,
/// or when its tasks are told to stop and the grace is over.
#[derive(Clone)]
pub struct Queue {
    sender: mpsc::Sender<(Event, SystemTime)>,
}

impl Queue {
    /// Starts the forwarding task.
    pub fn start(forward: impl Forward, tasks: &Tasks) -> Self {
        let (sender, receiver) = mpsc::channel(CAPACITY);
        tasks.spawn(deliver(receiver, forward, tasks.clone()));
        Self { sender }
    }
}

impl Publisher for Queue {
    fn publish(&self, event: Event) {
        if let Err(error) = self.sender.try_send((event, SystemTime::now())) {
            tracing::error!(%error, "an event is lost");
        }
    }
}

async fn deliver(mut receiver: mpsc::Receiver<(Event, SystemTime)>, mut forward: impl Forward, tasks: Tasks) {
    while let Some((event, at)) = receiver.recv().await {
        let (mut pause, mut answers) = (BACKOFF.0, 0);
        while let Err(error) = forward.forward(&event, at).await {
            answers += u32::from(matches!(error, ForwardError::NotNow { .. }));
            if answers == ANSWERS || matches!(error, ForwardError::Refused { .. }) {
                tracing::error!(%error, ?event, "an event is lost");
                break;
            }
            tracing::warn!(%error, "containerd does not take events, trying again");
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
                () = tasks.grace_over() => {
                    return tracing::error!(left = receiver.len() + 1, "leaving with events undelivered");
                }
            }
        }
    }
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
        async fn forward(&mut self, event: &Event, _: SystemTime) -> Result<(), ForwardError> {
            if *event == self::event(1) {
                return Err(ForwardError::NotNow { address: "a".into(), reason: "no".into() });
            }
            self.0.send(event.clone()).unwrap();
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_event_that_is_never_taken_does_not_hold_up_the_others_for_ever() {
        let tasks = Tasks::new(Duration::from_secs(1));
        let (delivered, mut received) = mpsc::unbounded_channel();
        let queue = Queue::start(Picky(delivered), &tasks);
        for n in 0..3 {
            queue.publish(event(n));
        }
        assert_eq!(received.recv().await, Some(event(0)));
        assert_eq!(received.recv().await, Some(event(2)));
    }

    #[async_trait]
    impl Forward for Flaky {
        async fn forward(&mut self, event: &Event, _: SystemTime) -> Result<(), ForwardError> {
            if self.failures > 0 {
                self.failures -= 1;
                return Err(ForwardError::Unreachable { address: "a".into(), reason: "away".into() });
            }
            self.delivered.send(event.clone()).unwrap();
            Ok(())
        }
    }

    fn event(n: u32) -> Event {
        Event::Paused { container: Id::parse("container id", &format!("c{n}")).unwrap() }
    }

    #[tokio::test]
    async fn events_keep_their_order_while_containerd_is_away() {
        let tasks = Tasks::new(Duration::from_secs(1));
        let (delivered, mut received) = mpsc::unbounded_channel();
        let queue = Queue::start(Flaky { failures: 4, delivered }, &tasks);
        for n in 0..100 {
            queue.publish(event(n));
        }
        for n in 0..100 {
            assert_eq!(received.recv().await, Some(event(n)));
        }
    }

    #[tokio::test]
    async fn a_containerd_that_never_comes_back_delays_the_end_no_longer_than_the_grace() {
        let tasks = Tasks::new(Duration::from_millis(200));
        let (delivered, _received) = mpsc::unbounded_channel();
        let queue = Queue::start(Flaky { failures: u32::MAX, delivered }, &tasks);
        queue.publish(event(1));
        drop(queue);
        let start = std::time::Instant::now();
        tasks.stop();
        tasks.drained().await;
        assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
