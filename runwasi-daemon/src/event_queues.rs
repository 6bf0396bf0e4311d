//! One event connection per containerd, shared by all its sandboxes.

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
    /// Locked for single look-ups.
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    queue: WeakQueue,
    /// Lives as long as a queue uses it: the connection goes with the last sandbox and its last event.
    forward: Weak<tokio::sync::Mutex<dyn Forward>>,
}

impl EventQueues {
    /// Where the sandboxes of `namespace` put their events.
    pub(crate) fn publisher(
        &self,
        address: &str,
        namespace: &Id,
        tasks: &Tasks,
    ) -> Arc<dyn Publisher> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.forward.strong_count() > 0);
        if let Some(queue) = known.get(address).and_then(|known| known.queue.upgrade()) {
            return Arc::new(queue.publisher(namespace));
        }
        // An earlier queue may still be delivering: what it has comes first.
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
