//! Repetition of calls that renames on the host, or a lease, disturb.

use std::{io, time::Duration};

/// Pause before the second try. It doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const MAX_PAUSE: Duration = Duration::from_millis(64);

/// Tries in a row of a path that leads through `..`: the kernel gives up such a path if anything on
/// the host is renamed meanwhile. A lease answers likewise. It costs these tries only.
const TRIES: usize = 4;

/// Repeats a call with the error `WouldBlock`, with pauses in which no thread is held. Dropping the
/// future ends the tries.
pub(crate) async fn patiently<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = FIRST_PAUSE;
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause = MAX_PAUSE.min(pause * 2);
    }
}

/// Repeats a call of the kernel at once.
pub(super) fn at_once<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    for _ in 1..TRIES {
        match call() {
            Err(rustix::io::Errno::AGAIN) => {}
            done => return done,
        }
    }
    call()
}
