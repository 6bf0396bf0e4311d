//! The streams of a guest, of any kind: FIFO, file or terminal.

use std::{io, path::Path, sync::Arc};

use rustix::io::Errno;
use tokio::{runtime::Handle, time::Instant};

use super::{error::StdioError, fifo, file, paths::StreamTarget, pty::Slave};

/// A stream that the guest reads. The default is an empty stream.
#[derive(Clone, Debug)]
pub enum Input {
    #[doc(hidden)]
    Fifo(fifo::Input),
    #[doc(hidden)]
    Terminal(Arc<Slave>),
}

impl Default for Input {
    fn default() -> Self {
        Self::Fifo(fifo::Input::default())
    }
}

impl Input {
    /// Reads at least one byte into `buffer`; 0 is the end. A dropped future has read nothing.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
            match self {
                Self::Fifo(fifo) => fifo.readable_again().await?,
                Self::Terminal(slave) => slave.readable().await?,
            }
        }
    }

    /// Reads available bytes; 0 is the end. On `WouldBlock`, wait for [`Input::readable`].
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Fifo(fifo) => fifo.try_read(buffer),
            Self::Terminal(slave) => slave.try_read(buffer),
        }
    }

    /// Waits until `try_read` has something to read or an error, as `poll(2)` tells it. All that
    /// wait are woken.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Fifo(fifo) => fifo.readable().await,
            Self::Terminal(slave) => slave.readable().await,
        }
    }

    /// True for a terminal (`isatty(3)`).
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }
}

/// A stream that the guest writes. The default discards everything.
#[derive(Clone, Debug)]
pub enum Output {
    #[doc(hidden)]
    Fifo(fifo::Output),
    #[doc(hidden)]
    File(file::Output),
    #[doc(hidden)]
    Terminal(Arc<Slave>),
}

impl Default for Output {
    fn default() -> Self {
        Self::Fifo(fifo::Output::default())
    }
}

impl Output {
    pub(super) async fn open(
        stream: &'static str,
        place: StreamTarget,
        deadline: Instant,
        reactor: &Handle,
    ) -> Result<Self, StdioError> {
        match place {
            StreamTarget::Nothing => Ok(Self::default()),
            StreamTarget::Fifo(path) => {
                match fifo::Output::open(stream, &path, deadline, reactor).await {
                    // containerd's own shim writes to a file or device of this path, too. It makes
                    // none.
                    Err(error) if error.is_no_fifo() => {
                        file::Output::open(stream, path).await.map(Self::File)
                    }
                    opened => opened.map(Self::Fifo),
                }
            }
            StreamTarget::File(path) => file::Output::open(stream, path).await.map(Self::File),
            StreamTarget::Logger(uri) => {
                let what = format!("{stream} {uri} alone");
                Err(StdioError::Unsupported {
                    what,
                    why: "a logger is given as stdout and takes both",
                })
            }
        }
    }

    /// Writes all of `bytes` and waits for the reader as often as needed. Nothing is buffered here:
    /// written bytes have left the guest for good, and nothing has to be flushed at its end. A
    /// dropped future may have written a part.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = self.write(bytes).await?;
            bytes = &bytes[written..];
        }
        Ok(())
    }

    /// Does the same up to the first error, and returns the number of bytes that were written
    /// before it: some are in a file on a disk that is full now. The next write meets the error
    /// again.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while written < bytes.len() {
            let result = match self.try_write(&bytes[written..]) {
                Ok(count @ 1..) => {
                    written += count;
                    continue;
                }
                // Of a device: to try again could be for ever.
                Ok(0) => Err(Errno::IO.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable_again().await
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => {}
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    /// Does the same on a control thread, which must not wait for a disk.
    pub(super) async fn write_all_aside(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::File(file) if file.is_regular() => file.write_all_aside(bytes.to_vec()).await,
            _ => self.write_all(bytes).await,
        }
    }

    /// Writes as many bytes as fit now. On `WouldBlock`, wait for [`Output::writable`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Fifo(fifo) => fifo.try_write(bytes),
            Self::File(file) => file.try_write(bytes),
            Self::Terminal(slave) => slave.try_write(bytes),
        }
    }

    /// Waits until `try_write` has room or an error, as `poll(2)` tells it. All that wait are
    /// woken.
    pub async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Fifo(fifo) => fifo.writable().await,
            Self::File(file) => file.writable().await,
            Self::Terminal(slave) => slave.writable().await,
        }
    }

    /// The same after a write that has met `WouldBlock`. The next write may meet it again.
    async fn writable_again(&self) -> io::Result<()> {
        match self {
            Self::Fifo(fifo) => fifo.writable_again().await,
            Self::File(_) | Self::Terminal(_) => self.writable().await,
        }
    }

    /// True for a terminal (`isatty(3)`).
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal(_))
    }

    /// The FIFO or a logger's pipe.
    pub(super) fn fifo(&self) -> Option<&fifo::Output> {
        match self {
            Self::Fifo(fifo) => Some(fifo),
            Self::File(_) | Self::Terminal(_) => None,
        }
    }

    /// Path of its file, if writes may wait for more than a local disk.
    pub(super) fn slow(&self) -> Option<&Path> {
        match self {
            Self::File(file) => file.slow(),
            Self::Fifo(_) | Self::Terminal(_) => None,
        }
    }

    /// True if it takes nothing more, since it is full and no process reads it. To be called at the
    /// end of a guest.
    pub(super) fn has_no_taker(&self) -> bool {
        matches!(self, Self::Fifo(fifo) if fifo.has_no_taker())
    }

    /// Waits for its reader. Returns the number of bytes that are left at the deadline.
    pub(super) async fn drained(&self, deadline: Instant) -> u64 {
        match self {
            Self::Fifo(fifo) => fifo.drained(deadline).await,
            // A file needs no reader. The copy of a terminal is waited for at its master.
            Self::File(_) | Self::Terminal(_) => 0,
        }
    }
}
