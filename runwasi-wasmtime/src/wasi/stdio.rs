//! The process's streams as WASI streams.
//!
//! wasmtime-wasi's own adapters copy in a separate task and lose its last bytes when the task is
//! dropped. These adapters write to the pipe from the guest's call: when the call returns, the
//! bytes are in the pipe. The exception is `write` of p2, which must not wait and accepts more than
//! may fit: [`Pending`] has the rest, and the guest waits for it when it drops the stream or ends.

use std::{io, sync::Arc};

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use runwasi_core::{
    lock::Mutex,
    stdio::{
        Stdio,
        streams::{Input, Output},
    },
};
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::{
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

use super::polled::{PolledStdin, PolledStdout};
use crate::paced::Paced;

/// Most bytes read or accepted for writing at once: the size of a pipe.
const CHUNK: usize = 64 << 10;

/// Stdin of a guest.
#[derive(Clone)]
pub(crate) struct Stdin(pub(crate) Input);

/// Stdout or stderr of a guest.
#[derive(Clone)]
pub(crate) struct Stdout {
    output: Output,
    /// Shared by all streams of p2.
    // Locked for one write that does not wait.
    pending: Arc<Mutex<Pending>>,
}

/// The rest of a `write` of p2.
#[derive(Default)]
struct Pending {
    /// Bytes that the pipe has not taken yet. No more are accepted until they are written.
    bytes: Bytes,
    /// Error of their write, for the next call of the guest.
    error: Option<io::Error>,
}

/// A standard stream that a guest has opened by its name in `/dev`.
#[derive(Clone)]
pub(crate) enum Standard {
    Input(Stdin),
    Output(Stdout),
}

impl Standard {
    /// The stream with this number.
    pub(crate) fn of(stdio: &Stdio, number: u32) -> Self {
        match number {
            0 => Self::Input(Stdin(stdio.stdin.clone())),
            1 => Self::Output(Stdout::new(stdio.stdout.clone())),
            _ => Self::Output(Stdout::new(stdio.stderr.clone())),
        }
    }

    /// True for stdin.
    pub(crate) fn is_input(&self) -> bool {
        matches!(self, Self::Input(_))
    }

    /// True for a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        match self {
            Self::Input(stream) => stream.is_terminal(),
            Self::Output(stream) => stream.is_terminal(),
        }
    }

    /// Waits until it can be read or written.
    pub(crate) async fn ready(&self) {
        // Dropped, because the call that follows reports the same error.
        let _ = match self {
            Self::Input(Stdin(input)) => input.readable().await,
            Self::Output(Stdout { output, .. }) => output.writable().await,
        };
    }

    /// Reads some bytes, and returns their number: 0 at the end. `waits` for them, or fails with
    /// `WouldBlock`.
    pub(crate) async fn read(&self, bytes: &mut [u8], waits: bool) -> io::Result<usize> {
        let Self::Input(Stdin(input)) = self else { return Err(bad()) };
        if waits { input.read(bytes).await } else { input.try_read(bytes) }
    }

    /// Reads what is there now, without a wait.
    pub(crate) fn try_read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let Self::Input(Stdin(input)) = self else { return Err(bad()) };
        input.try_read(bytes)
    }

    /// Writes bytes and returns their number: if it `waits`, all up to the first error, else those
    /// for which there is room.
    pub(crate) async fn write(&self, bytes: &[u8], waits: bool) -> io::Result<usize> {
        let Self::Output(Stdout { output, .. }) = self else { return Err(bad()) };
        if waits { output.write(bytes).await } else { output.try_write(bytes) }
    }

    /// Writes the bytes for which there is room now, without a wait.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let Self::Output(Stdout { output, .. }) = self else { return Err(bad()) };
        output.try_write(bytes)
    }
}

/// Error of a stream that goes the other way.
fn bad() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

impl Stdin {
    /// The stream for polls by hand.
    pub(crate) fn polled(&self) -> Paced<PolledStdin> {
        Paced::new(PolledStdin::new(self.0.clone()))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.polled())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        // Dropped, because the read that follows reports the same error.
        let _ = self.0.readable().await;
    }
}

#[async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size == 0 {
            return Ok(Bytes::new());
        }
        // Bounded, because the guest chooses the size and the buffer is memory of the host.
        let mut buffer = BytesMut::zeroed(size.min(CHUNK));
        match self.0.try_read(&mut buffer) {
            Ok(0) => Err(StreamError::Closed),
            Ok(read) => Ok(buffer.split_to(read).freeze()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Bytes::new()),
            Err(error) => Err(failed(error)),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        // Nothing is there at once.
        if size == 0 {
            return Ok(Bytes::new());
        }
        loop {
            self.0.readable().await.map_err(failed)?;
            let bytes = self.read(size)?;
            // No bytes after stale readiness: waits again.
            if !bytes.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

impl Stdout {
    pub(crate) fn new(output: Output) -> Self {
        Self { output, pending: Arc::default() }
    }

    /// The stream for polls by hand. It does not wait for what a stream of p2 has left.
    pub(crate) fn polled(&self) -> Paced<PolledStdout> {
        Paced::new(PolledStdout::new(self.output.clone()))
    }

    /// Writes the pending bytes that fit now. False if some are left.
    fn try_send(&self) -> bool {
        let mut pending = self.pending.lock();
        while !pending.bytes.is_empty() && pending.error.is_none() {
            match self.output.try_write(&pending.bytes) {
                Ok(written) => pending.bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => pending.error = Some(error),
            }
        }
        true
    }

    /// Writes the pending bytes, unless that fails.
    pub(crate) async fn send(&self) {
        while !self.try_send() {
            if let Err(error) = self.output.writable().await {
                self.pending.lock().error = Some(error);
            }
        }
    }
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        self.output.is_terminal()
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.polled())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Writer(self.clone()))
    }
}

/// Output stream of a p2 guest, which writes without blocking.
struct Writer(Stdout);

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        self.0.send().await;
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > self.check_write()? {
            return Err(StreamError::trap("wrote more than check-write allowed"));
        }
        let written = match self.0.output.try_write(&bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(failed(error)),
        };
        self.0.pending.lock().bytes = bytes.slice(written..);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // Pending bytes need no help: the guest waits for them with `ready`.
        self.check_write().map(drop)
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let mut pending = self.0.pending.lock();
        match pending.error.take() {
            Some(error) => Err(failed(error)),
            None if pending.bytes.is_empty() => Ok(CHUNK),
            None => Ok(0),
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Bytes of earlier calls go first.
        self.ready().await;
        let error = self.0.pending.lock().error.take();
        if let Some(error) = error {
            return Err(failed(error));
        }
        self.0.output.write_all(&bytes).await.map_err(failed)
    }

    /// The guest has dropped the stream, and waits for what it has written.
    async fn cancel(&mut self) {
        self.0.send().await;
    }
}

fn failed(error: io::Error) -> StreamError {
    // A closed reader is a state of the stream and no failure.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return StreamError::Closed;
    }
    StreamError::LastOperationFailed(error.into())
}
