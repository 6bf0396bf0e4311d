//! Work on the blocking pool of a Tokio runtime.
//!
//! Tokio panics if the pool has no thread and the kernel refuses one. Here that is an error of the
//! one request, or the work waits for the next thread of the pool.

use std::{fmt, io, sync::Arc};

use tokio::{
    runtime::Handle,
    task::{JoinError, JoinHandle},
};

use crate::{lock::Mutex, panics, task_limits};

/// Work that has no thread.
#[derive(Debug, PartialEq, Eq)]
pub struct NoThread;

impl fmt::Display for NoThread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "no thread can be made: {}", task_limits::RAISED_BY)
    }
}

impl std::error::Error for NoThread {}

impl From<NoThread> for io::Error {
    fn from(error: NoThread) -> Self {
        Self::new(io::ErrorKind::WouldBlock, error)
    }
}

/// Work that has a thread, or waits for one of the pool.
pub struct Running<T>(JoinHandle<Option<T>>);

impl<T> Running<T> {
    /// Waits for the result. An error is a panic of the work, or the runtime is shutting down.
    pub async fn result(self) -> Result<T, JoinError> {
        match self.0.await? {
            Some(result) => Ok(result),
            // Only work that was taken back has no result, and then there is no `Running`.
            None => std::future::pending().await,
        }
    }
}

/// Runs `work` on the blocking pool: for system calls that may wait, and for long computations.
///
/// `lost` makes the error of work without a result: it has panicked, it has no thread, or the
/// runtime is shutting down. If the caller is cancelled, the work still runs to its end.
pub async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
    lost: impl FnOnce(io::Error) -> E,
) -> Result<T, E> {
    match start(&Handle::current(), work) {
        Ok(running) => {
            running.result().await.unwrap_or_else(|error| Err(lost(io::Error::other(error))))
        }
        Err(error) => Err(lost(error.into())),
    }
}

/// Starts `work` on the blocking pool of `runtime`. Without a thread for it, it is dropped.
pub fn start<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Running<T>, NoThread> {
    // Shared, because Tokio keeps work for which it has found no thread, and would run it later.
    let kept = Arc::new(Mutex::new(Some(work)));
    let taken = kept.clone();
    let job = move || {
        let work = taken.lock().take();
        work.map(|work| work())
    };
    panics::expected(|| runtime.spawn_blocking(job)).map(Running).map_err(|_| {
        let unused = kept.lock().take();
        // Without the lock: the drop of the work may do anything.
        drop(unused);
        NoThread
    })
}

/// Has `work` done by the blocking pool of `runtime`, by a later thread if none can be made now.
/// For work without a result whose drop in this place could wait.
pub fn eventually(runtime: &Handle, work: impl FnOnce() + Send + 'static) {
    // An error: Tokio has queued it before it asked the kernel for a thread.
    drop(panics::expected(|| runtime.spawn_blocking(work)));
}
