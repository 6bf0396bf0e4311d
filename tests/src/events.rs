//! What `ctr events` prints about containers; called by tests.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::containers::Containers;
use crate::poll::poll_until;
use crate::running::Running;

/// A `ctr events` that hears.
#[derive(Debug)]
pub struct Events {
    running: Running,
}

/// The topics of one container's task events, without `/tasks/`, each with what it carries.
pub type Seen = Vec<(String, Value)>;

impl Events {
    /// Starts `ctr events` and waits until it really hears.
    pub fn listen(c: &Containers) -> Result<Self> {
        let running =
            c.fixture.ctr_command(["events"]).deadline(Duration::from_secs(120)).spawn()?;
        let mut n = 0;
        // It says nothing when it is ready: make containers until one is heard of.
        poll_until("the first event", Duration::from_secs(20), || {
            n += 1;
            let id = c.id(&format!("probe{n}"));
            c.create(&id, &["exit", "0"]).and_then(|()| c.delete_container(&id)).ok()?;
            running.stdout_so_far().contains("/containers/").then_some(())
        })?;
        Ok(Self { running })
    }

    /// Waits for this event of this container; gives all of its events so far.
    pub fn until(&self, topic: &str, id: &str) -> Result<Seen> {
        let seen = poll_until(&format!("/tasks/{topic} of {id}"), Duration::from_secs(20), || {
            let seen = tasks(&self.running.stdout_so_far(), id);
            seen.iter().any(|(heard, _)| heard == topic).then_some(seen)
        });
        seen.with_context(|| self.running.stdout_so_far())
    }

    /// The task events of `id` in the order containerd had them, up to `delete` and a moment longer.
    pub fn until_delete(self, id: &str) -> Result<Seen> {
        self.until("delete", id)?;
        Ok(tasks(&self.running.kill()?.out(), id))
    }
}

/// Demands the events of a life: each once, in order.
pub fn in_order(seen: &Seen) -> Result<()> {
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    ensure!(topics == ["create", "start", "exit", "delete"], "{topics:?}");
    Ok(())
}

/// Lines of `ctr events` read `DATE TIME ZONE … NAMESPACE TOPIC JSON`.
fn tasks(text: &str, id: &str) -> Seen {
    let parse = |line: &str| {
        let (_, rest) = line.split_once(" /tasks/")?;
        let (topic, json) = rest.split_once(' ')?;
        let event: Value = serde_json::from_str(json).ok()?;
        (event["container_id"] == id).then(|| (topic.to_owned(), event))
    };
    text.lines().filter_map(parse).collect()
}
