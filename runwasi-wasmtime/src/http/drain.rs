//! The polite end of a server, begun by a signal: told to who accepts and to every connection. Used by `mod` and `connection`.

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

/// Whether it has begun. A flag beside the notification: a connection looks at it in every poll, and the notification takes a lock.
#[derive(Default)]
pub(super) struct Drain {
    begun: AtomicBool,
    notify: Arc<Notify>,
}

/// Who wants to hear of it.
pub(super) struct Listener {
    drain: Arc<Drain>,
    notified: Pin<Box<OwnedNotified>>,
    /// Who is woken by it; a member of a group is polled with the same waker every time.
    waker: Option<Waker>,
}

impl Drain {
    /// Begins it; once it has begun, nothing more happens.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    fn has_begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    pub(super) fn listener(self: &Arc<Self>) -> Listener {
        // Made before the flag is looked at: a beginning in between notifies it.
        let notified = Box::pin(self.notify.clone().notified_owned());
        Listener { drain: self.clone(), notified, waker: None }
    }
}

impl Listener {
    /// Whether it has begun; if not, the task is woken when it does.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.drain.has_begun() {
            return Poll::Ready(());
        }
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.notified.as_mut().poll(cx)
    }

    pub(super) async fn begun(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_listens_before_and_after_hears_of_it() {
        let drain = Arc::<Drain>::default();
        let (mut first, mut second) = (drain.listener(), drain.listener());
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
