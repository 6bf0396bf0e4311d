//! The slave of a pty: the three streams of a guest.

use std::{
    fs::File,
    io::{self, Read, Write},
    sync::Arc,
};

use rustix::io::Errno;
use tokio::io::{Interest, unix::AsyncFd};

use super::readiness::{self, Direction};
use crate::lock::Mutex;

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// The guest's side of a pty. It is closed at the guest's end, even while clones are still held.
#[derive(Debug)]
pub struct Slave(pub(super) Mutex<Option<Arc<AsyncFd<File>>>>);

impl Slave {
    pub(super) fn close(&self) {
        // Not left to the last clone: the output of the master ends only when its slave is closed.
        self.0.lock().take();
    }

    pub(super) fn open(&self) -> io::Result<Arc<AsyncFd<File>>> {
        // Cloned: no lock is held while a call waits. A call under way keeps the fd open.
        // With a number, since guests get one: that of a terminal after its hangup.
        self.0.lock().clone().ok_or_else(|| Errno::IO.into())
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let slave = self.open()?;
        // Tokio answers without a look at the terminal until it has met an event.
        match slave.get_ref().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slave.try_io(Interest::READABLE, |mut file| file.read(buffer))
            }
            read => read,
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        readiness::wait_for(&*self.open()?, Direction::Read).await
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let slave = self.open()?;
        // As `try_read`.
        match slave.get_ref().write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                slave.try_io(Interest::WRITABLE, |mut file| file.write(bytes))
            }
            written => written,
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        readiness::wait_for(&*self.open()?, Direction::Write).await
    }
}
