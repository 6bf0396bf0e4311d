//! Graceful drain of a server, begun by a signal. The accept loop and every connection listen for
//! it.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use tokio::sync::{Notify, futures::OwnedNotified};

/// State of a server's drain.
#[derive(Default)]
pub(super) struct Drain {
    // A flag beside the notification: a connection looks at it in every poll, and the notification
    // takes a lock.
    begun: AtomicBool,
    notify: Arc<Notify>,
}

/// Receiver of the drain's notification.
pub(super) struct Listener {
    drain: Arc<Drain>,
    notified: Pin<Box<OwnedNotified>>,
    /// Waker that is registered with the notification.
    waker: Option<Waker>,
}

impl Drain {
    /// Begins the drain. Further calls change nothing.
    pub(super) fn begin(&self) {
        // The flag comes first: a listener that is woken must find it set.
        self.begun.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    pub(super) fn listener(self: &Arc<Self>) -> Listener {
        // Made before the listener looks at the flag. The notification reaches every future that
        // exists, polled or not, so a drain that begins in between is not missed.
        let notified = Box::pin(self.notify.clone().notified_owned());
        Listener { drain: self.clone(), notified, waker: None }
    }
}

impl Listener {
    pub(super) fn drain(&self) -> &Arc<Drain> {
        &self.drain
    }

    /// Ready if the drain has begun. If not, the task is woken when it begins.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.has_begun() {
            return Poll::Ready(());
        }
        // A member of a group is polled with the same waker every time: one registration, and with
        // it one lock, is enough.
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.notified.as_mut().poll(cx)
    }

    /// Waits until the drain has begun.
    pub(super) async fn begun(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn listeners_made_before_and_after_the_beginning_are_notified() {
        let drain = Arc::<Drain>::default();
        let mut first = drain.listener();
        let mut second = drain.listener();
        let pending = std::future::poll_fn(|cx| Poll::Ready(first.poll(cx).is_pending())).await;
        assert!(pending);
        let begin = async {
            tokio::task::yield_now().await;
            drain.begin();
            drain.begin();
        };
        tokio::join!(first.begun(), begin);
        second.begun().await;
        drain.listener().begun().await;
    }
}
