//! Turns of long host calls.
//!
//! A guest yields its worker at the ticks of the epoch, a host call does not. So a call whose work
//! the guest can make as long as it likes does it in parts and ends its turn after each: the worker
//! polls other guests meanwhile, quota and pause hold, and a kill takes effect.

use std::{future::poll_fn, task::Poll};

/// Ends the turn of the guest. It goes on when its next turn comes.
pub(crate) async fn end() {
    let mut ended = false;
    poll_fn(|context| {
        if std::mem::replace(&mut ended, true) {
            return Poll::Ready(());
        }
        // Woken at once: the work is ready to go on.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Context};

    use super::*;

    #[test]
    fn a_turn_ends_once_and_wakes_its_guest() {
        let woken = std::sync::Arc::new(Counter::default());
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut turn = pin!(end());
        assert!(turn.as_mut().poll(&mut context).is_pending());
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 1);
        assert!(turn.as_mut().poll(&mut context).is_ready());
    }

    #[derive(Default)]
    struct Counter(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Counter {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
