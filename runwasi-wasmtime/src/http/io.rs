//! Socket of a connection. Reports reads and writes to [`Activity`], and keeps the end of a
//! client's data back for a while.
//!
//! A client may close its sending side and wait for the answer. On the wire this looks like a
//! client that has left. hyper ends a request at the end of the data, so a pending request gets
//! [`HALF_CLOSED`] until then, and again with each write that the client takes. A client that has
//! left refuses the first one, and the next one fails. What hyper has still to write does not show
//! in the request: the end is kept back until the client has taken it, too.
//!
//! What is read becomes memory of the host for the container: heads, and bodies that no guest has
//! asked for yet. Clients may send it faster than requests are answered, over many connections. So
//! a container beyond its memory limit reads nothing more: the connection fails.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use runwasi_core::{lock::Mutex, resources::memory::Memory};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{preface::Preface, timeouts::Activity};
use crate::turns::Steps;

/// Time for the answer to a client that has closed its sending side, and between its pieces.
const HALF_CLOSED: Duration = Duration::from_secs(2);

/// Bytes beyond the container's memory limit from which on nothing more is read.
// Guests end at the limit itself, which frees memory. Only what clients have sent goes on beyond.
const SLACK: u64 = 2 << 20;

/// The socket of a connection, of hyper and of the connection's own end.
// Locked for single polls: hyper has it by itself until it has ended.
pub(super) type Socket = Arc<Mutex<TcpStream>>;

pub(super) struct Wire {
    socket: Socket,
    /// Of reads: a client may send for ever.
    steps: Steps,
    activity: Arc<Activity>,
    /// Memory of the container.
    memory: Arc<Memory>,
    /// First bytes of the client.
    preface: Preface,
    /// The client's data has ended.
    has_ended: bool,
    /// Made when an answer is owed after that.
    end: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    pub(super) fn new(socket: Socket, activity: Arc<Activity>, memory: Arc<Memory>) -> Self {
        Self {
            socket,
            steps: Steps::default(),
            activity,
            memory,
            preface: Preface::default(),
            has_ended: false,
            end: None,
        }
    }

    /// An error if the container is too far beyond its memory limit.
    fn check_memory(&self) -> io::Result<()> {
        match self.memory.excess() {
            Some(beyond) if beyond.wanted > SLACK => {
                Err(io::Error::new(io::ErrorKind::OutOfMemory, beyond))
            }
            _ => Ok(()),
        }
    }

    /// Reports a write. One that has to wait means that the socket's buffer is full: the client
    /// does not read.
    fn wrote(&mut self, cx: &mut Context<'_>, taken: bool) {
        if self.activity.wrote(taken) {
            // A body of HTTP/1 may wait for the end of the stall to end its message (`body`), and
            // so does the end of the client's data.
            cx.waker().wake_by_ref();
        }
        if let Some(end) = self.end.as_mut().filter(|_| taken) {
            end.as_mut().reset(Instant::now() + HALF_CLOSED);
        }
    }

    /// Ready when the end of the client's data is told.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.activity.holds_ends() {
            // The end of the stall wakes the task, or its deadline drops the connection.
            return Poll::Pending;
        }
        if !self.activity.owes_an_answer(cx) {
            return Poll::Ready(());
        }
        let end = self.end.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED)));
        end.as_mut().poll(cx)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.has_ended {
            ready!(self.steps.poll_next(cx));
            self.check_memory()?;
            let filled = buffer.filled().len();
            ready!(Pin::new(&mut *self.socket.lock()).poll_read(cx, buffer))?;
            self.steps.count(buffer.filled().len() - filled);
            if buffer.filled().len() > filled || buffer.remaining() == 0 {
                self.activity.read();
                if self.preface.ends_in(&buffer.filled()[filled..]) {
                    self.activity.speaks_http2();
                }
                return Poll::Ready(Ok(()));
            }
            self.has_ended = true;
        }
        self.poll_end(cx).map(Ok)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.socket.lock()).poll_write(cx, bytes);
        self.wrote(cx, polled.is_ready());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Not reported: a TCP stream has no buffer of its own, so a flush never waits.
        Pin::new(&mut *self.socket.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        net::{Shutdown, TcpListener},
    };

    use tokio::{io::AsyncReadExt, task::yield_now, time::timeout};

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    /// The wire to a client that has closed its sending side within a request.
    async fn half_closed() -> (Wire, Arc<Activity>, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().unwrap().0;
        accepted.set_nonblocking(true).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let stream = TcpStream::from_std(accepted).unwrap();
        stream.readable().await.unwrap();
        let socket = Arc::new(Mutex::new(stream));
        let activity = Arc::new(Activity::new(IDLE, IDLE));
        activity.request_begins(false);
        let memory = Arc::new(Memory::new(None, false));
        (Wire::new(socket, activity.clone(), memory), activity, client)
    }

    async fn has_ended(wire: &mut Wire) -> bool {
        let mut byte = [0];
        tokio::select! {
            biased;
            read = wire.read(&mut byte) => read.unwrap() == 0,
            // The socket is ready, and this is not the first poll.
            () = async { for _ in 0..10 { yield_now().await } } => false,
        }
    }

    #[tokio::test]
    async fn the_end_of_a_request_wakes_what_waits_for_the_end_of_the_data() {
        let (mut wire, activity, _client) = half_closed().await;
        let began = Instant::now();
        let mut byte = [0];
        let ends = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            activity.request_ended();
            pending::<()>().await
        };
        tokio::select! {
            biased;
            read = timeout(SOON, wire.read(&mut byte)) => assert_eq!(read.unwrap().unwrap(), 0),
            () = ends => {}
        }
        assert!(began.elapsed() < HALF_CLOSED);
    }

    #[tokio::test]
    async fn a_container_beyond_its_limit_reads_nothing_more() {
        let (mut wire, activity, _client) = half_closed().await;
        activity.request_ended();
        let memory = Arc::new(Memory::new(Some(1 << 20), false));
        wire.memory = memory.clone();
        let mut charge = memory.charge();
        // Stands for allocations, which only the allocator of the programs counts.
        charge.release_host(6 << 20);
        assert!(memory.excess().is_some() && has_ended(&mut wire).await, "a little is given");
        wire.has_ended = false;
        charge.release_host(2 << 20);
        let refused = wire.read(&mut [0]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::OutOfMemory);
        drop(charge);
        assert!(has_ended(&mut wire).await);
    }

    #[tokio::test]
    async fn the_end_of_the_data_waits_until_the_client_has_taken_the_answer() {
        let (mut wire, activity, _client) = half_closed().await;
        activity.wrote(false);
        assert!(!has_ended(&mut wire).await);
        activity.request_ended();
        // The last bytes are hyper's.
        assert!(!has_ended(&mut wire).await);
        assert!(wire.has_ended);
        poll_fn(|cx| {
            wire.wrote(cx, true);
            Poll::Ready(())
        })
        .await;
        assert!(has_ended(&mut wire).await);
    }
}
