//! Limit of the connections to a manager socket.
//!
//! Only root can connect, but a faulty program must not use up the file descriptors that sandboxes
//! need. At the limit a new connection takes the place of the one that has been idle longest. If
//! all have a call under way, new connections wait in the backlog of the socket.
//!
//! ```text
//!           first bytes of a request
//!   Idle ──────────────────────────────▶ Served
//!    ▲     first bytes of its reply        │ after `LONGEST` it counts as idle
//!    └─────────────────────────────────────┘
//! ```

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker, ready},
};

use runwasi_core::lock::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Duration, Instant, Sleep, sleep_until},
};
use tokio_util::sync::{CancellationToken, PollSemaphore, WaitForCancellationFutureOwned};

use super::RELOAD_PATIENCE;

/// Age of a request without a reply after which its connection counts as idle.
// A client without a reply for so long has sent half a message: calls take milliseconds, except for
// a `Reload`, whose client waits longest. The rest is for its way through a busy system.
const LONGEST: Duration = RELOAD_PATIENCE.saturating_add(Duration::from_secs(5));

/// Bounds the number of connections and evicts idle ones.
pub(super) struct ConnectionLimit {
    /// One permit per connection.
    permits: PollSemaphore,
    /// Weak: a connection belongs to its server task.
    connections: Vec<Weak<ConnectionState>>,
    /// [`LONGEST`], shorter in tests.
    longest: Duration,
    waiter: Arc<Waiter>,
    /// Wakes the waiter when the request that has been served longest is [`LONGEST`] old.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The task that waits for a permit while all connections are being served.
// Locked to put in and to take out.
#[derive(Default)]
struct Waiter(Mutex<Option<Waker>>);

/// The part of a connection that the limit shares.
struct ConnectionState {
    // Locked for single looks and changes.
    phase: Mutex<Phase>,
    /// Cancelled by the eviction.
    evicted: CancellationToken,
    waiter: Arc<Waiter>,
}

/// Activity of a connection, and its beginning.
#[derive(Clone, Copy)]
enum Phase {
    Idle(Instant),
    Served(Instant),
}

impl Waiter {
    fn register(&self, waker: &Waker) {
        *self.0.lock() = Some(waker.clone());
    }

    fn wake(&self) {
        // A statement of its own: the lock is free when the waiter wakes up.
        let waker = self.0.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl ConnectionState {
    /// Time since which the connection counts as idle. In the future while it is being served.
    fn idle_since(&self, longest: Duration) -> Instant {
        match *self.phase.lock() {
            Phase::Idle(since) => since,
            Phase::Served(since) => since + longest,
        }
    }

    /// Takes note of bytes from the client.
    fn received(&self) {
        let mut phase = self.phase.lock();
        // Only the first bytes of a request count: the others must not move its deadline.
        if let Phase::Idle(_) = *phase {
            *phase = Phase::Served(Instant::now());
        }
    }

    /// Takes note of bytes for the client.
    fn replied(&self) {
        // Unlocked before the waiter is woken, and changed before: see `make_room`.
        *self.phase.lock() = Phase::Idle(Instant::now());
        self.waiter.wake();
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
            connections: Vec::new(),
            longest: LONGEST,
            waiter: Arc::default(),
            timer: None,
        }
    }

    /// Waits for a permit. Evicts an idle connection if there is no permit left.
    pub(super) fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if self.permits.available_permits() == 0 {
            self.make_room(cx);
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
        let state = Arc::new(ConnectionState {
            phase: Mutex::new(Phase::Idle(Instant::now())),
            evicted: CancellationToken::new(),
            waiter: self.waiter.clone(),
        });
        self.connections.push(Arc::downgrade(&state));
        let evicted = Box::pin(state.evicted.clone().cancelled_owned());
        Connection { stream, state, evicted, _permit: permit }
    }

    /// Evicts the connection that has been idle longest. If all are being served, this task is
    /// woken when one of them counts as idle.
    fn make_room(&mut self, cx: &mut Context<'_>) {
        // Before the look: a connection that becomes idle later finds the waker, and one that has
        // become idle earlier is seen as such.
        self.waiter.register(cx.waker());
        while let Some((since, connection)) = self.longest_idle() {
            if since <= Instant::now() {
                tracing::debug!("too many connections to the manager socket, closing one");
                // Until it has left, it stays the one that has been idle longest: a further call
                // does not evict another one.
                return connection.evicted.cancel();
            }
            let timer = self.timer.insert(Box::pin(sleep_until(since)));
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }

    fn longest_idle(&self) -> Option<(Instant, Arc<ConnectionState>)> {
        let connections = self.connections.iter().filter_map(Weak::upgrade);
        connections
            .map(|connection| (connection.idle_since(self.longest), connection))
            .min_by_key(|(since, _)| *since)
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
            self.state.received();
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
            self.state.replied();
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
        task::{JoinSet, yield_now},
        time::timeout,
    };

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A connection with a call under way. Its client stays until the test ends.
    async fn served(limit: &mut ConnectionLimit) -> Connection {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let permit = poll_fn(|cx| limit.poll_permit(cx)).await;
        let mut connection = limit.admit(ours, permit);
        client.write_all(b"x").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'x');
        // Forgotten, not closed: the connection would read the end of the stream.
        std::mem::forget(client);
        connection
    }

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

    #[tokio::test]
    async fn a_waiting_client_gets_the_place_of_a_connection_that_becomes_idle() {
        let mut limit = ConnectionLimit::new(1);
        let mut served = served(&mut limit).await;
        // A task of its own, which only its own waker wakes.
        let mut waiting = JoinSet::new();
        waiting
            .spawn(async move { timeout(SOON, poll_fn(|cx| limit.poll_permit(cx))).await.is_ok() });
        yield_now().await;
        served.write_all(b"answer").await.unwrap();
        assert_eq!(timeout(SOON, served.read(&mut [0])).await.unwrap().unwrap(), 0);
        drop(served);
        assert!(waiting.join_next().await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn a_waiting_client_gets_the_place_of_a_request_without_end() {
        let mut limit = ConnectionLimit::new(1);
        limit.longest = Duration::from_millis(50);
        let mut served = served(&mut limit).await;
        let next = timeout(SOON, poll_fn(|cx| limit.poll_permit(cx)));
        let leaving = async {
            assert_eq!(timeout(SOON, served.read(&mut [0])).await.unwrap().unwrap(), 0);
            drop(served);
        };
        let (next, ()) = tokio::join!(next, leaving);
        assert!(next.is_ok());
    }

    #[tokio::test]
    async fn the_age_of_a_request_counts_from_its_first_bytes() {
        let mut limit = ConnectionLimit::new(1);
        let permit = poll_fn(|cx| limit.poll_permit(cx)).await;
        let (_client, ours) = UnixStream::pair().unwrap();
        let connection = limit.admit(ours, permit);
        let accepted = Instant::now() - 2 * LONGEST;
        *connection.state.phase.lock() = Phase::Idle(accepted);
        connection.state.received();
        let idle_since = connection.state.idle_since(LONGEST);
        connection.state.received();
        assert!(idle_since > Instant::now() + RELOAD_PATIENCE);
        assert_eq!(connection.state.idle_since(LONGEST), idle_since, "moved by later bytes");
    }

    #[tokio::test]
    async fn the_connection_that_has_been_idle_longest_is_evicted() {
        let mut limit = ConnectionLimit::new(2);
        let mut first = served(&mut limit).await;
        let second = served(&mut limit).await;
        second.state.replied();
        first.write_all(b"answer").await.unwrap();
        assert!(poll_fn(|cx| Poll::Ready(limit.poll_permit(cx).is_pending())).await);
        assert!(second.state.evicted.is_cancelled());
        assert!(!first.state.evicted.is_cancelled());
    }
}
