//! A guest's output as `wasmtime serve` prints it: each line with a prefix that names the instance.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that are taken at once.
const MOST: usize = 64 << 10;

#[derive(Clone)]
pub(crate) struct Lines {
    prefix: Arc<str>,
    /// Shared by all streams that the guest asks for.
    at_line_start: Arc<AtomicBool>,
}

impl Lines {
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix: prefix.into(), at_line_start: Arc::new(AtomicBool::new(true)) }
    }

    fn print(&self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start.swap(line.ends_with(b"\n"), Ordering::Relaxed) {
                out.write_all(self.prefix.as_bytes())?;
            }
            out.write_all(line)?;
        }
        Ok(())
    }
}

impl StdoutStream for Lines {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.print(&bytes).map_err(|error| StreamError::LastOperationFailed(error.into()))
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(MOST)
    }
}

#[async_trait::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.print(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
