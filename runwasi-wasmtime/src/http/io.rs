//! Socket of a connection. Reports reads and writes to [`Activity`], and keeps the end of a client's
//! data back for a while.
//!
//! A client may close its sending side and wait for the answer. On the wire this looks like a client
//! that has left. hyper ends a request at the end of the data, so a pending request gets
//! [`HALF_CLOSED`] until then.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use runwasi_core::lock::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

use super::timeouts::Activity;

/// Time for the answer to a client that has closed its sending side.
const HALF_CLOSED: Duration = Duration::from_secs(2);

/// The socket of a connection, of hyper and of the connection's own end.
// Locked for single polls: hyper has it by itself until it has ended.
pub(super) type Socket = Arc<Mutex<TcpStream>>;

pub(super) struct Wire {
    socket: Socket,
    activity: Arc<Activity>,
    /// Made at the end of the client's data.
    end: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(socket: Socket, activity: Arc<Activity>) -> Self {
        Self { socket, activity, end: None }
    }

    /// Reports a write. One that has to wait means that the socket's buffer is full: the client
    /// does not read.
    fn wrote(&self, cx: &mut Context<'_>, taken: bool) {
        if self.activity.wrote(taken) {
            // A body of HTTP/1 may wait for the end of the stall to end its message (`body`).
            cx.waker().wake_by_ref();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.is_none() {
            let filled = buffer.filled().len();
            let read = ready!(Pin::new(&mut *self.socket.lock()).poll_read(cx, buffer));
            // Errors count as well: the connection ends then anyway.
            self.activity.read();
            read?;
            if buffer.filled().len() > filled || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        if !self.activity.owes_an_answer() {
            return Poll::Ready(Ok(()));
        }
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED)));
        end.as_mut().poll(cx).map(Ok)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.socket.lock()).poll_write(cx, bytes);
        self.wrote(cx, polled.is_ready());
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not reported: a TCP stream has no buffer of its own, so a flush never waits.
        Pin::new(&mut *self.socket.lock()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket.lock()).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.lock().is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.socket.lock()).poll_write_vectored(cx, slices);
        self.wrote(cx, polled.is_ready());
        polled
    }
}
