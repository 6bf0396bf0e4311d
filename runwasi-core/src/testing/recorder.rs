//! A publisher that keeps what it is given. Used by tests and examples.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::{
    events::{Event, Publisher},
    process::Info,
};

/// Keeps all events in their order. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    /// Counts events, so that waiting needs no polling.
    count: watch::Sender<usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { events: Arc::default(), count: watch::channel(0).0 }
    }
}

impl Recorder {
    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything so far in a few words: `created c1`, `exited c1 137`, …
    pub fn summary(&self) -> Vec<String> {
        self.events().iter().map(summary).collect()
    }

    /// Waits until `count` events have come.
    pub async fn wait_for(&self, count: usize) {
        // The sender lives as long as we do.
        let _ = self.count.subscribe().wait_for(|have| *have >= count).await;
    }
}

impl Publisher for Recorder {
    fn publish(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.count.send_modify(|count| *count += 1);
    }
}

fn summary(event: &Event) -> String {
    match event {
        Event::Created { process, .. } => format!("created {}", process.container),
        Event::ExecAdded { process } => format!("added {}", name(process)),
        Event::Started { process } => format!("started {}", name(process)),
        Event::Exited { process, exit } => {
            format!("exited {} {}", name(process), exit.status.get())
        }
        Event::Deleted { process, exit } => {
            format!("deleted {} {}", process.container, exit.status.get())
        }
        Event::OutOfMemory { container } => format!("oom {container}"),
        Event::Paused { container } => format!("paused {container}"),
        Event::Resumed { container } => format!("resumed {container}"),
    }
}

/// An exec is named after its container.
fn name(process: &Info) -> String {
    process.exec.as_ref().map_or_else(
        || process.container.to_string(),
        |exec| format!("{}/{exec}", process.container),
    )
}
