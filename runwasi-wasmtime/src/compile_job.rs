//! Compilation of one artifact, from the wait for a slot to the code in the cache.
//!
//! ```text
//! cached? ─▶ wait for a slot ─▶ still wanted? ─▶ compile lock? ─▶ cached? ─▶ compile ─▶ store
//!                  ▲      │                           │                         │
//!                  │      └ 250 ms: still wanted? cached now?                   │
//!                  └── 20 ms ── another process has it ┘      not wanted any more ─▶ stop
//! ```

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use runwasi_core::{
    artifact::Artifact,
    blocking,
    code_cache::{single_flight::Leader, store::CompileLock},
    digest::Digest,
    observe::{self, Compiled, Subject},
    sys::trim_memory,
};
use tokio::{runtime::Handle, select, time::sleep};

use crate::{
    codegen::{Codegen, Slot},
    loader::Loader,
    module_cache::Ready,
    world::Wanted,
};

/// Longest wait for the compilation of another process.
// The process is alive: the kernel would have released the lock of a dead one.
const PATIENCE: Duration = Duration::from_secs(120);
/// Interval between two attempts to take the lock of another process.
const LOOK: Duration = Duration::from_millis(20);
/// Interval between two looks at the cache during the wait for a slot.
const GLANCE: Duration = Duration::from_millis(250);

/// A compilation: the artifact, and the entry that is checked before.
// One with a missing entry is refused, and others of the same artifact are not. If both are under
// way, the second waits for the compile lock.
pub(crate) type Flight = (Digest, Wanted);

/// Result of loading or compiling an artifact. The error is the reason.
pub(crate) type Outcome = Result<Made, Arc<str>>;

/// Linked code of an artifact.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) ready: Arc<Ready>,
    pub(crate) origin: CodeOrigin,
    /// Reason of [`CodeOrigin::NotKept`], if it is that the cache has refused the code.
    pub(crate) refused: Option<Arc<str>>,
}

/// Origin of linked code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeOrigin {
    /// Compiled before: it came from a cache.
    Kept,
    /// Compiled now and stored in the code cache.
    Compiled,
    /// Compiled now, but not stored in the code cache.
    NotKept,
}

/// An artifact to load or compile.
struct CompileJob {
    loader: Loader,
    codegen: Codegen,
    /// The container that was the first to need it.
    subject: Option<Arc<Subject>>,
    path: PathBuf,
    bytes: usize,
    digest: Digest,
    /// Code that was used since stays in the cache. Absent if a container waits for the code.
    // Otherwise the artifacts of one run would push each other out, in each run again.
    beside: Option<SystemTime>,
    /// Time of the first attempt to take the compile lock.
    waiting_since: Option<Instant>,
    /// Time of the last use of the cached code that [`CompileJob::load`] has looked at.
    looked_at: Option<SystemTime>,
}

/// End of the wait for a slot and for the compile lock.
enum Turn {
    Compile(Slot, Option<CompileLock>),
    /// Another process has compiled it meanwhile.
    Cached(Outcome),
}

/// Result of an attempt to take the compile lock.
enum LockAttempt {
    Acquired(CompileLock),
    /// Another process has the lock.
    Busy,
    /// There is no lock to wait for: no cache, a failing one, or a holder that takes too long.
    Unavailable,
}

/// Starts to load or compile an artifact. The result goes to all waiters. `keep` is dropped at the
/// end of the work.
#[expect(
    clippy::disallowed_methods,
    reason = "no owner waits for it: it outlives its callers, and no exit waits for a compiler"
)]
pub(crate) fn start(
    (loader, codegen, subject): (Loader, Codegen, Option<Arc<Subject>>),
    (artifact, wanted): (Artifact, Wanted),
    mut leader: Leader<Flight, Outcome>,
    keep: impl Send + 'static,
) {
    let path = artifact.path.clone();
    let digest = artifact.digest;
    let bytes = artifact.bytes.len();
    let beside = matches!(wanted, Wanted::Any).then(|| loader.begun());
    let job = CompileJob {
        loader,
        codegen,
        subject,
        path,
        bytes,
        digest,
        beside,
        waiting_since: None,
        looked_at: None,
    };
    drop(tokio::spawn(async move {
        let outcome = job.outcome((artifact, wanted), &mut leader).await;
        // By now the compile lock is released: with its last waiter this OS process may end, before
        // a later drop could remove the temporary file. Without an outcome, the drop of the leader
        // ends all waits.
        if let Some(outcome) = outcome {
            leader.complete(outcome);
        }
        drop(keep);
    }));
}

impl CompileJob {
    /// Returns nothing if all waiters have left before the code is there, and after a panic.
    async fn outcome(
        mut self,
        wanted: (Artifact, Wanted),
        leader: &mut Leader<Flight, Outcome>,
    ) -> Option<Outcome> {
        // An earlier compilation may have completed between the caller's lookup and its `join`.
        if let Some(cached) = self.load().await? {
            return Some(cached);
        }
        let (slot, lock) = match self.turn(leader).await? {
            Turn::Compile(slot, lock) => (slot, lock),
            Turn::Cached(cached) => return Some(cached),
        };
        // The previous holder of the lock may have stored the code.
        if lock.is_some()
            && let Some(cached) = self.load().await?
        {
            return Some(cached);
        }
        let loader = self.loader.clone();
        let check = move |outline| loader.check(outline).map_err(|error| format!("{error:#}"));
        let begun = Instant::now();
        let code = select! {
            code = slot.compile(wanted, Box::new(check)) => code,
            () = leader.unwanted() => {
                let path = self.path.display();
                tracing::info!(%path, "compiling is stopped: no start waits for it any more");
                return None;
            }
        };
        if let Ok(code) = &code {
            self.tell_compiled(code.len(), begun.elapsed());
        }
        match code {
            Ok(code) => blocking(move || self.store(lock, code), Err).await,
            Err(reason) => Some(Err(reason.into())),
        }
    }

    fn tell_compiled(&self, code_bytes: usize, took: Duration) {
        let compiled = Compiled {
            path: &self.path,
            digest: &self.digest,
            wasm_bytes: self.bytes as u64,
            code_bytes: code_bytes as u64,
            took,
        };
        observe::compiled(self.subject.as_deref(), &compiled);
    }

    /// Loads cached code, if there is any.
    async fn load(&mut self) -> Option<Option<Outcome>> {
        // Before the look, so that what comes during it is looked at later.
        self.looked_at = self.loader.used(&self.digest);
        let loader = self.loader.clone();
        let digest = self.digest;
        let work = move || loader.load(&digest).map(|ready| made(ready, CodeOrigin::Kept));
        blocking(work, |reason| Some(Err(reason))).await
    }

    /// Waits for a slot and for the compile lock, if there is one. Returns nothing once all waiters
    /// have left.
    async fn turn(&mut self, leader: &mut Leader<Flight, Outcome>) -> Option<Turn> {
        let codegen = self.codegen.clone();
        let bytes = self.bytes;
        loop {
            let slot = select! {
                slot = codegen.slot(bytes) => slot,
                cached = self.appears(leader) => return cached.map(Turn::Cached),
            };
            if leader.cancel_if_unwanted() {
                return None;
            }
            match self.reserve() {
                LockAttempt::Acquired(lock) => return Some(Turn::Compile(slot, Some(lock))),
                LockAttempt::Unavailable => return Some(Turn::Compile(slot, None)),
                LockAttempt::Busy => {}
            }
            // Leaves the slot to other jobs meanwhile.
            drop(slot);
            sleep(LOOK).await;
        }
    }

    /// Waits until another process has put the code into the cache, and loads it. Returns nothing
    /// once all waiters have left.
    async fn appears(&mut self, leader: &mut Leader<Flight, Outcome>) -> Option<Outcome> {
        loop {
            sleep(GLANCE).await;
            if leader.cancel_if_unwanted() {
                return None;
            }
            // Not if it is the same: damaged code would be read, and told, at each look.
            if self.loader.used(&self.digest) != self.looked_at
                && let Some(cached) = self.load().await?
            {
                return Some(cached);
            }
        }
    }

    /// Tries to take the compile lock of the artifact in the code cache.
    // On the calling thread: it makes a few system calls and waits for no other process.
    fn reserve(&mut self) -> LockAttempt {
        let Some(attempt) = self.loader.reserve(&self.digest) else {
            return LockAttempt::Unavailable;
        };
        let first = self.waiting_since.is_none();
        let waiting_since = *self.waiting_since.get_or_insert_with(Instant::now);
        let path = self.path.display();
        match attempt {
            Ok(Some(lock)) => LockAttempt::Acquired(lock),
            Ok(None) if waiting_since.elapsed() < PATIENCE => {
                if first {
                    tracing::info!(%path, "another process compiles it, waiting");
                }
                LockAttempt::Busy
            }
            Ok(None) => {
                tracing::warn!(
                    %path,
                    "another process does not finish compiling it, compiling it here, too"
                );
                LockAttempt::Unavailable
            }
            Err(error) => {
                tracing::warn!(%path, %error, "compiled code is not kept");
                LockAttempt::Unavailable
            }
        }
    }

    /// Stores new code in the cache, if there is a compile lock, and loads it. Blocks.
    fn store(&self, lock: Option<CompileLock>, code: Vec<u8>) -> Outcome {
        let filled = lock.map(|lock| lock.fill_beside(&code, self.beside));
        let refused = filled.as_ref().and_then(|filled| filled.as_ref().err());
        if let Some(error) = refused {
            let path = self.path.display();
            tracing::warn!(%path, %error, "compiled code is not kept");
        }
        let refused = refused.map(|error| error.to_string().into());
        let is_kept = matches!(filled, Some(Ok(())));
        let outcome = self.loaded(is_kept, code).map(|made| Made { refused, ..made });
        // The megabytes of an artifact and of its code would otherwise stay with the allocator.
        trim_memory();
        outcome
    }

    fn loaded(&self, is_kept: bool, code: Vec<u8>) -> Outcome {
        // Loaded from the file, so that all processes that run the code share its pages.
        match is_kept.then(|| self.loader.load(&self.digest)).flatten() {
            Some(ready) => made(ready, CodeOrigin::Compiled),
            None => made(self.loader.load_fresh(&self.digest, code), CodeOrigin::NotKept),
        }
    }
}

fn made(ready: wasmtime::Result<Arc<Ready>>, origin: CodeOrigin) -> Outcome {
    ready.map(|ready| Made { ready, origin, refused: None }).map_err(|error| text(&error))
}

fn text(error: &wasmtime::Error) -> Arc<str> {
    format!("{error:#}").into()
}

/// Runs `work` on the blocking pool. `refused` makes the result if there can be no thread for it.
/// Returns nothing if it panics, which the panic hook logs.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    refused: impl FnOnce(Arc<str>) -> T,
) -> Option<T> {
    match blocking::start(&Handle::current(), work) {
        Ok(running) => running.result().await.ok(),
        Err(error) => Some(refused(error.to_string().into())),
    }
}
