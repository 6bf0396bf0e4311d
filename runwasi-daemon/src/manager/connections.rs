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
pub(super) struct Visitors {
    places: PollSemaphore,
    present: VecDeque<Weak<Presence>>,
}

struct Presence {
    came: Instant,
    /// It has said something that has not been answered yet.
    served: AtomicBool,
    sent_away: CancellationToken,
}

impl Presence {
    fn may_stay(&self) -> bool {
        self.served.load(Ordering::Relaxed) && self.came.elapsed() < LONGEST
    }
}

/// One connection; reads as ended when it was sent away.
pub(super) struct Visitor {
    stream: UnixStream,
    presence: Arc<Presence>,
    sent_away: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Visitors {
    /// For so many at once.
    pub(super) fn new(most: usize) -> Self {
        Self { places: PollSemaphore::new(Arc::new(Semaphore::new(most))), present: VecDeque::new() }
    }

    /// Waits for a place, and asks somebody who does not need his to leave.
    pub(super) fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<OwnedSemaphorePermit> {
        if self.places.available_permits() == 0 {
            self.send_one_away();
        }
        // The semaphore is never closed.
        match ready!(self.places.poll_acquire(cx)) {
            Some(place) => Poll::Ready(place),
            None => Poll::Pending,
        }
    }

    /// Lets one in.
    pub(super) fn welcome(&mut self, stream: UnixStream, place: OwnedSemaphorePermit) -> Visitor {
        self.present.retain(|visitor| visitor.strong_count() > 0);
        let sent_away = CancellationToken::new();
        let presence = Arc::new(Presence { came: Instant::now(), served: AtomicBool::new(false), sent_away });
        self.present.push_back(Arc::downgrade(&presence));
        let sent_away = Box::pin(presence.sent_away.clone().cancelled_owned());
        Visitor { stream, presence, sent_away, _place: place }
    }

    fn send_one_away(&mut self) {
        let present = self.present.iter().filter_map(Weak::upgrade);
        let Some(visitor) = present.into_iter().find(|visitor| !visitor.may_stay()) else { return };
        tracing::debug!("too many connections to the manager socket, closing one");
        visitor.sent_away.cancel();
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sent_away.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.presence.served.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.presence.served.store(false, Ordering::Relaxed);
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
        let mut visitors = Visitors::new(2);
        let (mut one, ours) = UnixStream::pair().unwrap();
        let place = poll_fn(|cx| visitors.poll_place(cx)).await;
        let mut served = visitors.welcome(ours, place);
        one.write_all(b"x").await.unwrap();
        assert_eq!(served.read_u8().await.unwrap(), b'x');
        for _ in 0..20 {
            let (_silent, ours) = UnixStream::pair().unwrap();
            let place = timeout(SOON, poll_fn(|cx| visitors.poll_place(cx))).await.unwrap();
            let mut idle = visitors.welcome(ours, place);
            // Whoever comes next asks for the place of this one.
            assert!(poll_fn(|cx| Poll::Ready(visitors.poll_place(cx).is_pending())).await);
            assert_eq!(timeout(SOON, idle.read(&mut [0])).await.unwrap().unwrap(), 0);
        }
        one.write_all(b"y").await.unwrap();
        assert_eq!(timeout(SOON, served.read_u8()).await.unwrap().unwrap(), b'y');
    }

    #[tokio::test]
    async fn nobody_who_is_being_served_is_sent_away() {
        let mut visitors = Visitors::new(1);
        let (mut one, ours) = UnixStream::pair().unwrap();
        let place = poll_fn(|cx| visitors.poll_place(cx)).await;
        let mut served = visitors.welcome(ours, place);
        one.write_all(b"x").await.unwrap();
        served.read_u8().await.unwrap();
        assert!(timeout(Duration::from_millis(50), poll_fn(|cx| visitors.poll_place(cx))).await.is_err());
        served.write_all(b"answer").await.unwrap();
        let next = async { timeout(SOON, poll_fn(|cx| visitors.poll_place(cx))).await.unwrap() };
        let leaving = async {
            // Asked to leave by the newcomer's wait, it reads its end.
            let _ = timeout(Duration::from_millis(50), served.read(&mut [0])).await;
            drop(served);
        };
        drop(tokio::join!(next, leaving));
    }
}
