//! Work on the blocking pool of the Tokio runtime.

use std::io;

use tokio::task::spawn_blocking;

/// Runs `work` on the blocking pool: for system calls that may wait, and for long computations.
///
/// `lost` makes the error of work without a result: it has panicked, or the runtime is shutting
/// down. If the caller is cancelled, the work still runs to its end.
pub async fn blocking<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
    lost: impl FnOnce(io::Error) -> E,
) -> Result<T, E> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(lost(io::Error::other(error))))
}
