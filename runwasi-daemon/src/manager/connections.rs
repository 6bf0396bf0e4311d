//! Limit of the connections to a manager socket.
//!
//! Only root can connect, but a faulty program must not use up the file descriptors that sandboxes
//! need. At the limit a new connection takes the place of the earliest one without a call under
//! way. If all have one, new connections wait in the backlog of the socket.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant},
};
use tokio_util::sync::{CancellationToken, PollSemaphore, WaitForCancellationFutureOwned};

/// Age after which a connection no longer counts as served.
// Calls take milliseconds: a client without a reply for so long has sent half a message. Only the
// successor of a `Reload` may take longer to start.
const LONGEST: Duration = Duration::from_secs(30);

/// Bounds the number of connections and evicts idle ones.
pub(super) struct ConnectionLimit {
    /// One permit per connection.
    permits: PollSemaphore,
    /// In the order of their accept. Weak: a connection belongs to its server task.
    connections: VecDeque<Weak<ConnectionState>>,
}

/// The part of a connection that the limit shares.
struct ConnectionState {
    accepted: Instant,
    /// True from the first bytes of a request to the first bytes of its reply.
    // `Relaxed` is enough: the flag guards no other data.
    served: AtomicBool,
    /// Cancelled by the eviction.
    evicted: CancellationToken,
}

impl ConnectionState {
    fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) && self.accepted.elapsed() < LONGEST
    }
}

/// One connection. After its eviction it reads as closed by the client.
pub(super) struct Connection {
    stream: UnixStream,
    state: Arc<ConnectionState>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Released by the drop of the connection.
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    /// A limit of `most` connections at the same time.
    pub(super) fn new(most: usize) -> Self {
        Self {
            permits: PollSemaphore::new(Arc::new(Semaphore::new(most))),
            connections: VecDeque::new(),
        }
    }

    /// Waits for a permit. Evicts an idle connection if there is no permit left.
    pub(super) fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if self.permits.available_permits() == 0 {
            self.evict_idle();
        }
        // The semaphore is never closed, so the second arm is not reached.
        match ready!(self.permits.poll_acquire(cx)) {
            Some(permit) => Poll::Ready(permit),
            None => Poll::Pending,
        }
    }

    /// Registers a connection with its permit.
    pub(super) fn admit(&mut self, stream: UnixStream, permit: OwnedSemaphorePermit) -> Connection {
        // Closed connections are forgotten here, which bounds the list by the limit.
        self.connections.retain(|connection| connection.strong_count() > 0);
        let evicted = CancellationToken::new();
        let state = Arc::new(ConnectionState {
            accepted: Instant::now(),
            served: AtomicBool::new(false),
            evicted,
        });
        self.connections.push_back(Arc::downgrade(&state));
        let evicted = Box::pin(state.evicted.clone().cancelled_owned());
        Connection { stream, state, evicted, _permit: permit }
    }

    /// Evicts the earliest connection that is not being served.
    fn evict_idle(&mut self) {
        let connections = self.connections.iter().filter_map(Weak::upgrade);
        let Some(connection) = connections.into_iter().find(|connection| !connection.is_served())
        else {
            return;
        };
        tracing::debug!("too many connections to the manager socket, closing one");
        connection.evicted.cancel();
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // First and in every read: this registers the task to be woken by the eviction. Nothing is
        // read then, which ttrpc takes for the end of the stream.
        if self.evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.state.served.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.state.served.store(false, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn idle_connections_are_evicted_and_served_ones_stay() {
        let mut limit = ConnectionLimit::new(2);
        let (mut one, ours) = UnixStream::pair().unwrap();
        let permit = poll_fn(|cx| limit.poll_permit(cx)).await;
        let mut served = limit.admit(ours, permit);
        one.write_all(b"x").await.unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'x');
        for _ in 0..20 {
            let (_silent, ours) = UnixStream::pair().unwrap();
            let permit = timeout(SOON, poll_fn(|cx| limit.poll_permit(cx))).await.unwrap();
            let mut idle = limit.admit(ours, permit);
            // The next client asks for the place of this one.
            assert!(poll_fn(|cx| Poll::Ready(limit.poll_permit(cx).is_pending())).await);
            assert_eq!(timeout(SOON, idle.read(&mut [0])).await.unwrap().unwrap(), 0);
        }
        one.write_all(b"y").await.unwrap();
        assert_eq!(timeout(SOON, served.read_u8()).await.unwrap().unwrap(), b'y');
    }

    #[tokio::test]
    async fn a_connection_is_evicted_only_after_its_reply() {
        let mut limit = ConnectionLimit::new(1);
        let (mut one, ours) = UnixStream::pair().unwrap();
        let permit = poll_fn(|cx| limit.poll_permit(cx)).await;
        let mut served = limit.admit(ours, permit);
        one.write_all(b"x").await.unwrap();
        served.read_u8().await.unwrap();
        assert!(
            timeout(Duration::from_millis(50), poll_fn(|cx| limit.poll_permit(cx))).await.is_err()
        );
        served.write_all(b"answer").await.unwrap();
        let next = async { timeout(SOON, poll_fn(|cx| limit.poll_permit(cx))).await.unwrap() };
        let leaving = async {
            // Evicted by the wait of `next`, it reads its end. Both outcomes lead to the drop.
            let _ = timeout(Duration::from_millis(50), served.read(&mut [0])).await;
            drop(served);
        };
        drop(tokio::join!(next, leaving));
    }
}
