//! Connections to a manager socket. Only root can make one, but a program gone wrong shall not take the file descriptors
//! that sandboxes need: their number is bounded, and who says nothing gives way to newcomers first.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Who is connected, the longest first.
pub(super) struct Visitors {
    /// Connections at once.
    most: usize,
    present: VecDeque<Weak<Presence>>,
}

#[derive(Default)]
struct Presence {
    spoke: AtomicBool,
    sent_away: CancellationToken,
}

/// One connection; reads as ended when it was sent away.
pub(super) struct Visitor {
    stream: UnixStream,
    presence: Arc<Presence>,
    sent_away: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Visitors {
    /// For so many at once.
    pub(super) fn new(most: usize) -> Self {
        Self { most, present: VecDeque::new() }
    }

    /// Lets one in; sends another away if there are too many.
    pub(super) fn welcome(&mut self, stream: UnixStream) -> Visitor {
        self.present.retain(|visitor| visitor.strong_count() > 0);
        if self.present.len() >= self.most {
            self.send_one_away();
        }
        let presence = Arc::new(Presence::default());
        self.present.push_back(Arc::downgrade(&presence));
        let sent_away = Box::pin(presence.sent_away.clone().cancelled_owned());
        Visitor { stream, presence, sent_away }
    }

    fn send_one_away(&mut self) {
        let is_silent =
            |visitor: &Weak<Presence>| visitor.upgrade().is_some_and(|visitor| !visitor.spoke.load(Ordering::Relaxed));
        let place = self.present.iter().position(is_silent).unwrap_or(0);
        if let Some(visitor) = self.present.remove(place).and_then(|visitor| visitor.upgrade()) {
            tracing::warn!("too many connections to the manager socket, closing an old one");
            visitor.sent_away.cancel();
        }
    }
}

impl AsyncRead for Visitor {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.sent_away.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if polled.is_ready() {
            self.presence.spoke.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Visitor {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
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
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;

    #[tokio::test]
    async fn the_silent_give_way_and_who_has_spoken_stays() {
        const MAX: usize = 8;
        let mut visitors = Visitors::new(MAX);
        let mut inside = Vec::new();
        let mut outside = Vec::new();
        for n in 0..MAX + 50 {
            let (theirs, ours) = UnixStream::pair().unwrap();
            let mut visitor = visitors.welcome(ours);
            outside.push(theirs);
            if n == 0 {
                outside[0].write_all(b"x").await.unwrap();
                assert_eq!(visitor.read_u8().await.unwrap(), b'x');
            }
            inside.push(visitor);
        }
        let mut buffer = [0];
        for visitor in &mut inside[1..=50] {
            assert_eq!(timeout(Duration::from_secs(5), visitor.read(&mut buffer)).await.unwrap().unwrap(), 0);
        }
        outside[0].write_all(b"y").await.unwrap();
        assert_eq!(timeout(Duration::from_secs(5), inside[0].read_u8()).await.unwrap().unwrap(), b'y');
    }
}
