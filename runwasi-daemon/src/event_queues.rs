//! Event queues: one connection per containerd, shared by all its sandboxes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use runwasi_core::{
    Id,
    containerd::events,
    events::{Forward, Publisher, Queue, WeakQueue},
    shutdown::Tasks,
};

/// The queues, by the address of containerd's ttrpc socket.
#[derive(Default)]
pub(crate) struct EventQueues {
    /// Locked for single look-ups, never across an await.
    known: Mutex<HashMap<String, Known>>,
}

/// The queue and the connection of one containerd.
struct Known {
    /// Weak: the publishers of the sandboxes keep the queue alive.
    queue: WeakQueue,
    /// Weak: the task of a queue keeps the connection. It closes after the last event of the last
    /// sandbox.
    forward: Weak<tokio::sync::Mutex<dyn Forward>>,
}

impl EventQueues {
    /// Publisher for the events of the sandboxes of `namespace`, to the containerd at `address`.
    pub(crate) fn publisher(
        &self,
        address: &str,
        namespace: &Id,
        tasks: &Tasks,
    ) -> Arc<dyn Publisher> {
        // Held to the end: sandboxes that are created at the same time must share one queue. A
        // panic under the lock leaves the map usable, so poisoning is ignored.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Here and not at the end of a connection, which reports nothing.
        known.retain(|_, known| known.forward.strong_count() > 0);
        if let Some(queue) = known.get(address).and_then(|known| known.queue.upgrade()) {
            return Arc::new(queue.publisher(namespace));
        }
        // An earlier queue may still be delivering. The shared connection has a lock, so the new
        // queue starts after the last event of the earlier one.
        let forward = known.get(address).and_then(|known| known.forward.upgrade());
        let forward = forward.unwrap_or_else(|| {
            Arc::new(tokio::sync::Mutex::new(events::EventForwarder::new(address)))
        });
        let downgraded = Arc::downgrade(&forward);
        let queue = Queue::start_after(forward, tasks);
        known.insert(address.to_owned(), Known { queue: queue.downgrade(), forward: downgraded });
        Arc::new(queue.publisher(namespace))
    }
}
