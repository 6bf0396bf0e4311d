//! Processes that compile, from their start to their first artifact. A daemon keeps one that waits:
//! it has its engine by then, and has compiled once, so a small module does not wait for either.
//!
//! ```text
//! compilation ─▶ one waits? ─ no ─▶ start one
//!                  │ yes                │
//!                  ▼                    ▼
//!            a process with an engine, confined ─▶ compiles one artifact, ends
//!                  ▲
//!   start the next ┘ after the compilation; ended after 10 s without one
//! ```

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use runwasi_core::{code_cache::compile_process::CompileProcess, lock::Mutex};
use tokio::time::sleep;

use crate::{compile_process::tag, settings::Settings};

/// Idle time after which a waiting process ends.
// New modules come in groups: with a deployment, or with the images of a node.
const IDLE: Duration = Duration::from_secs(10);

/// Source of processes that compile. Clones share the one that waits.
#[derive(Clone)]
pub(crate) struct Spare(Arc<Shared>);

struct Shared {
    settings: Arc<Settings>,
    /// False for a pod: it compiles once or never, and the memory of a process that waits is most
    /// of its own.
    keeps_one: bool,
    /// The process that waits. Locked for a look or a change.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    process: Option<CompileProcess>,
    /// True from the start of a process to its place above.
    starting: bool,
    /// Number of processes so far that have waited.
    number: u64,
}

impl Spare {
    pub(crate) fn new(settings: Arc<Settings>, keeps_one: bool) -> Self {
        Self(Arc::new(Shared { settings, keeps_one, waiting: Mutex::default() }))
    }

    /// The process that waits, or a new one.
    pub(crate) async fn take(&self) -> io::Result<CompileProcess> {
        let waiting = self.0.waiting.lock().process.take();
        // The kernel may have ended it, to free memory.
        if let Some(mut process) = waiting
            && process.is_alive()
        {
            return Ok(process);
        }
        self.0.start().await
    }

    /// Starts a process that waits, unless there is one.
    #[expect(
        clippy::disallowed_methods,
        reason = "no owner waits for it: the process ends with this value, and no exit waits for it"
    )]
    pub(crate) fn refill(&self) {
        if !self.0.keeps_one || !self.0.waiting.lock().begin() {
            return;
        }
        let shared = Arc::downgrade(&self.0);
        drop(tokio::spawn(async move {
            let Some(number) = start(&shared).await else { return };
            sleep(IDLE).await;
            if let Some(shared) = shared.upgrade() {
                shared.end(number);
            }
        }));
    }
}

/// Starts a process that waits. Returns its number.
async fn start(shared: &Weak<Shared>) -> Option<u64> {
    let shared = shared.upgrade()?;
    let started = match shared.start().await {
        Ok(mut process) => process.send(tag::WARM_UP, &[]).await.map(|()| process),
        Err(error) => Err(error),
    };
    let process = started.inspect_err(|error| {
        // The next compilation starts its own, and reports the error if there is one still.
        tracing::debug!(%error, "no process waits to compile");
    });
    shared.waiting.lock().keep(process.ok())
}

impl Shared {
    /// Starts a process and lets it make its engine.
    async fn start(&self) -> io::Result<CompileProcess> {
        let settings = self.settings.to_toml().map_err(io::Error::other)?;
        let mut process = CompileProcess::spawn().await?;
        process.send(tag::SETTINGS, settings.as_bytes()).await?;
        Ok(process)
    }

    /// Ends the process with this number, if it waits still.
    fn end(&self, number: u64) {
        let mut waiting = self.waiting.lock();
        let idle = (waiting.number == number).then(|| waiting.process.take()).flatten();
        drop(waiting);
        // Its drop ends it, without the lock.
        drop(idle);
    }
}

impl Waiting {
    /// True for the caller that is to start a process.
    fn begin(&mut self) -> bool {
        let begins = !self.starting && self.process.is_none();
        self.starting |= begins;
        begins
    }

    /// Keeps a started process, or goes back without one. Returns its number.
    fn keep(&mut self, process: Option<CompileProcess>) -> Option<u64> {
        self.starting = false;
        self.process = Some(process?);
        self.number += 1;
        Some(self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_is_started_at_a_time() {
        let mut waiting = Waiting::default();
        assert!(waiting.begin());
        assert!(!waiting.begin(), "a second one while the first starts");
        assert_eq!(waiting.keep(None), None);
        assert!(waiting.begin(), "none after a failure");
    }

    #[test]
    fn pod_keeps_no_process() {
        let spare = Spare::new(Arc::default(), false);
        spare.refill();
        assert!(!spare.0.waiting.lock().starting);
    }
}
