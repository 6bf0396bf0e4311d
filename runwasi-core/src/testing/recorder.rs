//! Publisher that records all events.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{
    events::{Event, Publisher},
    lock::Mutex,
    process::Info,
};

/// Records all events in their order. Cheap to clone; all clones share the record.
#[derive(Clone)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
    /// Number of events.
    // A watch channel, so that waiting needs no polling.
    count: watch::Sender<usize>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { events: Arc::default(), count: watch::channel(0).0 }
    }
}

impl Recorder {
    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        // A panic elsewhere cannot leave the list half changed: pushing is all that happens to it.
        self.events.lock().clone()
    }

    /// All events so far in short form: `created c1`, `exited c1 137`, …
    pub fn summary(&self) -> Vec<String> {
        self.events().iter().map(summary).collect()
    }

    /// Waits until `count` events have been published.
    pub async fn wait_for(&self, count: usize) {
        // No wakeup is lost: `wait_for` looks at the current value first. The only error is a
        // dropped sender, and `self` holds it.
        let _ = self.count.subscribe().wait_for(|have| *have >= count).await;
    }
}

impl Publisher for Recorder {
    fn publish(&self, event: Event) {
        // Before the count: a caller of `wait_for` finds the event in the list.
        self.events.lock().push(event);
        // Unlike `send`, also updates the value while there is no receiver.
        self.count.send_modify(|count| *count += 1);
    }
}

fn summary(event: &Event) -> String {
    match event {
        Event::Created { process, .. } => format!("created {}", process.container),
        Event::ExecAdded { process } => format!("added {}", name(process)),
        Event::Started { process } => format!("started {}", name(process)),
        Event::Exited { process, exit, .. } => {
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

/// `CONTAINER` for an init process, `CONTAINER/EXEC` for an exec.
fn name(process: &Info) -> String {
    process.exec.as_ref().map_or_else(
        || process.container.to_string(),
        |exec| format!("{}/{exec}", process.container),
    )
}
