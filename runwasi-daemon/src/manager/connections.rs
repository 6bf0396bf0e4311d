//! Connections to a manager socket. Only root can make one, but a program gone wrong shall not take the file descriptors
//! that sandboxes need: their number is bounded. Who is not being served gives way to newcomers, the longest idle first; if all are
//! being served, newcomers wait in the socket's backlog.

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

/// Nothing that is asked here takes so long: who has begun to speak, and not been answered since, has sent half a message.
const LONGEST: Duration = Duration::from_secs(30);

/// Who is connected, in the order of their coming.
pub(super) struct ConnectionLimit {
    permits: PollSemaphore,
    connections: VecDeque<Weak<ConnectionState>>,
}

struct ConnectionState {
    accepted: Instant,
    /// It has said something that has not been answered yet.
    served: AtomicBool,
    evicted: CancellationToken,
}

impl ConnectionState {
    fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed) && self.accepted.elapsed() < LONGEST
    }
}

/// One connection; reads as ended when it was sent away.
pub(super) struct Connection {
    stream: UnixStream,
    state: Arc<ConnectionState>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    _permit: OwnedSemaphorePermit,
}

impl ConnectionLimit {
    /// For so many at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            permits: PollSemaphore::new(Arc::new(Semaphore::new(most))),
            connections: VecDeque::new(),
        }
    }

    /// Waits for a place, and asks somebody who does not need his to leave.
    pub(super) fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if self.permits.available_permits() == 0 {
            self.evict_idle();
        }
        // The semaphore is never closed.
        match ready!(self.permits.poll_acquire(cx)) {
            Some(permit) => Poll::Ready(permit),
            None => Poll::Pending,
        }
    }

    /// Lets one in.
    pub(super) fn admit(&mut self, stream: UnixStream, permit: OwnedSemaphorePermit) -> Connection {
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
    async fn the_idle_give_way_and_who_is_being_served_stays() {
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
            // Whoever comes next asks for the place of this one.
            assert!(poll_fn(|cx| Poll::Ready(limit.poll_permit(cx).is_pending())).await);
            assert_eq!(timeout(SOON, idle.read(&mut [0])).await.unwrap().unwrap(), 0);
        }
        one.write_all(b"y").await.unwrap();
        assert_eq!(timeout(SOON, served.read_u8()).await.unwrap().unwrap(), b'y');
    }

    #[tokio::test]
    async fn nobody_who_is_being_served_is_sent_away() {
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
            // Asked to leave by the newcomer's wait, it reads its end.
            let _ = timeout(Duration::from_millis(50), served.read(&mut [0])).await;
            drop(served);
        };
        drop(tokio::join!(next, leaving));
    }
}
