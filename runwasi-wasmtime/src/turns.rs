//! Turns of long host calls.
//!
//! A guest yields its worker at the ticks of the epoch, a host call does not. So a call whose work
//! the guest can make as long as it likes does it in parts and ends its turn after each: the worker
//! polls other guests meanwhile, quota and pause hold, and a kill takes effect.
//!
//! A stream may go from one end in the host to another, from a file to a file for example. Such a
//! copy runs no instruction of the guest, and wasmtime goes on with it as long as both ends are
//! ready. So each end counts its [`Steps`]. Those of TCP streams of p3 are wasmtime-wasi's: what
//! goes to them from the host has a buffer of ours before it.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

/// Most bytes of one turn: half a millisecond in the page cache.
const TURN: usize = 1 << 20;
/// Bytes that a step counts at least, for its call.
const STEP: usize = 8 << 10;

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

/// Steps of one end of a stream, which end the turn of the guest after so much work.
// Not Tokio's budget for tasks: polls beside the workers have none.
#[derive(Debug)]
pub(crate) struct Steps {
    /// Bytes left of this turn.
    left: usize,
}

impl Default for Steps {
    fn default() -> Self {
        Self { left: TURN }
    }
}

impl Steps {
    /// Before a step: pending once after the work of a turn, with a wake-up at once.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.left > 0 {
            return Poll::Ready(());
        }
        *self = Self::default();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// After a step of so many bytes.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes.max(STEP));
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

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

    #[test]
    fn small_and_large_steps_end_the_turn_and_the_next_one_goes_on() {
        let woken = std::sync::Arc::new(Counter::default());
        let waker = woken.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut steps = Steps::default();
        for (bytes, number) in [(0, TURN / STEP), (1, TURN / STEP), (TURN / 4, 4), (2 * TURN, 1)] {
            for _ in 0..number {
                assert!(steps.poll_next(&mut context).is_ready());
                steps.count(bytes);
            }
            assert!(steps.poll_next(&mut context).is_pending());
        }
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::Relaxed), 4);
    }

    #[derive(Default)]
    struct Counter(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Counter {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
