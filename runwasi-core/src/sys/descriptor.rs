//! File descriptors: adoption, registration with Tokio, and the reader of a pipe.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, FromRawFd, OwnedFd, RawFd},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;

/// Takes ownership of a file descriptor that this process got by number, in an argument or from
/// systemd. Fails if it is not open.
pub fn adopt_fd(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is a standard stream"));
    }
    // SAFETY: only reads its flags. The result for a number that is no open fd is EBADF.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the number was passed to this caller alone.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // It came over an exec without this flag; no child of ours is to inherit it.
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Registers a pollable file (terminal, pipe or socket) with the current Tokio runtime.
pub(crate) fn watch(file: File) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its file descriptor, and no code replaces or closes it in the
    // `AsyncFd`.
    Ok(unsafe { AsyncFd::register(file) }?)
}

/// True if no process has the reading end of a pipe open. `fd` is its writing end.
pub fn has_no_reader(fd: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&fd, PollFlags::empty())];
    let ready = poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    // `poll(2)` reports a missing reader as `POLLERR`, even without requested events.
    ready.is_ok() && polled[0].revents().contains(PollFlags::ERR)
}
