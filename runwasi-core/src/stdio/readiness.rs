//! Readiness of a stream, as `poll(2)` has it.
//!
//! Tokio keeps the readiness of a file until a call has met `WouldBlock`. A call that has taken all
//! bytes, or filled the last room, has not, so what Tokio tells after it may be over: the kernel is
//! asked as well.

use std::{fs::File, io, os::fd::AsFd};

use rustix::event::PollFlags;
use tokio::{
    io::{Interest, Ready, unix::AsyncFd},
    time::{Duration, sleep},
};

use crate::sys;

/// Pause between two looks at a file with a closed end.
const CLOSED_POLL: Duration = Duration::from_millis(1);

/// Direction of a wait.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    pub(super) fn interest(self) -> Interest {
        match self {
            Self::Read => Interest::READABLE,
            Self::Write => Interest::WRITABLE,
        }
    }

    /// Asks the kernel. Fails with `WouldBlock` if the file is not ready now.
    pub(super) fn look(self, file: impl AsFd) -> io::Result<()> {
        let events = match self {
            Self::Read => PollFlags::IN,
            Self::Write => PollFlags::OUT,
        };
        match sys::has_event(file, events)? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

/// Waits until a watched file is ready.
pub(super) async fn wait_for(file: &AsyncFd<File>, direction: Direction) -> io::Result<()> {
    let interest = direction.interest();
    let event = || async move { file.ready(interest).await.map(|guard| guard.ready()) };
    wait(event, || file.try_io(interest, |file| direction.look(file))).await
}

/// Waits until a file may be ready again, after a call that has met `WouldBlock`: Tokio has
/// forgotten what it told before, and the call that follows asks the kernel.
pub(super) async fn wait_again<F>(
    event: impl Fn() -> F,
    look: impl Fn() -> io::Result<()>,
) -> io::Result<()>
where
    F: Future<Output = io::Result<Ready>>,
{
    let told = event().await?;
    // Of a closed end Tokio forgets nothing.
    if told.is_read_closed() || told.is_write_closed() { wait(event, look).await } else { Ok(()) }
}

/// Waits until a file is ready. `event` waits for what Tokio tells, and `look` asks the kernel, in
/// Tokio's `try_io`, which forgets the readiness after `WouldBlock`.
pub(super) async fn wait<F>(
    event: impl Fn() -> F,
    look: impl Fn() -> io::Result<()>,
) -> io::Result<()>
where
    F: Future<Output = io::Result<Ready>>,
{
    loop {
        let told = event().await?;
        match look() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
        // Tokio takes a closed end for final and forgets nothing of it. That of a FIFO may have
        // been opened again since.
        if told.is_read_closed() || told.is_write_closed() {
            sleep(CLOSED_POLL).await;
        }
    }
}
