//! A future's seat in its lane, and the turns it gets there.

use std::{
    sync::Arc,
    task::{Wake, Waker},
    time::{Duration, Instant},
};

use rustix::{process::Pid, thread::gettid};
use tokio::task::AbortHandle;

use super::{
    file_calls::most_held,
    lane::SeatId,
    queue::FairQueue,
    state::{Held, TurnAnswer},
};
use crate::{panics, sys};

/// The seat of one future in its lane; dropping it returns a permit it was granted.
pub(super) struct Seat(Arc<SeatHandle>);

struct SeatHandle {
    queue: FairQueue,
    id: SeatId,
}

impl Seat {
    /// A seat in the queue with this number.
    pub(super) fn new(queue: FairQueue, id: SeatId) -> Self {
        Self(Arc::new(SeatHandle { queue, id }))
    }

    /// The waker to poll the future with.
    pub(super) fn waker(&self) -> Waker {
        self.0.clone().into()
    }

    /// Queues the future for its first turn before Tokio has polled it. If a permit is free, the
    /// first poll already runs it.
    pub(super) fn enter(&self) {
        self.0.wake_by_ref();
    }

    /// Takes the granted turn. Otherwise the future waits, and a later grant wakes `task`.
    pub(super) fn take_turn(&self, task: &Waker) -> Option<RunningTurn<'_>> {
        let Self(handle) = self;
        let mut state = handle.queue.state.lock();
        // Stored under the lock that a grant takes: no grant can miss the waker.
        match state.take_turn(handle.id, |known| known.will_wake(task), || task.clone()) {
            TurnAnswer::Run(number) => {
                return Some(RunningTurn { handle, number, used: Duration::ZERO });
            }
            // Polled without a wake-up of this queue: Tokio has a reason of its own.
            TurnAnswer::Queued => handle.queue.grant(state),
            TurnAnswer::Wait => {}
        }
        None
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self(handle) = self;
        let mut state = handle.queue.state.lock();
        let waker = state.remove_seat(handle.id);
        handle.queue.grant(state);
        // Last, without the lock: the waker may be the last reference to a Tokio task.
        drop(waker);
    }
}

impl SeatHandle {
    /// Takes the permit of a turn that waits in the kernel. Returns how many do.
    fn hold(&self, number: u32) -> Option<Held> {
        // Without the lock: the first call reads the limits of this process.
        let most = most_held();
        let mut state = self.queue.state.lock();
        let held = state.hold_turn(self.id, number, most)?;
        self.queue.grant(state);
        Some(held)
    }
}

impl Wake for SeatHandle {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.queue.state.lock();
        if state.wake(self.id) {
            self.queue.grant(state);
        }
    }
}

/// A turn in progress; ends when it is dropped, also when the poll panics.
pub(super) struct RunningTurn<'a> {
    handle: &'a Arc<SeatHandle>,
    number: u32,
    /// CPU time of the turn, to be set before the end.
    pub(super) used: Duration,
}

impl RunningTurn<'_> {
    /// True if the future has been woken in this turn and goes on with it.
    pub(super) fn goes_on(&self) -> bool {
        self.handle.queue.state.lock().go_on(self.handle.id)
    }

    /// This turn on the calling thread, for looks from others.
    pub(super) fn on_this_thread(&self) -> ThreadTurn {
        ThreadTurn { handle: self.handle.clone(), number: self.number, thread: gettid() }
    }
}

/// A turn on a thread that is no worker meanwhile and may wait in the kernel.
pub(super) struct ThreadTurn {
    handle: Arc<SeatHandle>,
    number: u32,
    thread: Pid,
}

impl ThreadTurn {
    /// Looks at the turn after each `patience`, until its thread waits in the kernel or the answer
    /// is dropped. `told` is called with the numbers of turns that wait then.
    pub(super) fn watch(
        self: &Arc<Self>,
        patience: Duration,
        told: impl FnOnce(Held) + Send + 'static,
    ) -> TurnWatch {
        let turn = self.clone();
        // Fatal: a turn that kept its permit for good would take it from all guests.
        let held = panics::fatal_future(async move {
            tokio::time::sleep(patience).await;
            // A thread that computes, or that others keep from the CPU, needs its permit.
            while !sys::waits(turn.thread) {
                tokio::time::sleep(patience).await;
            }
            if let Some(held) = turn.hold() {
                told(held);
            }
        });
        TurnWatch(self.handle.queue.timers.spawn(held).abort_handle())
    }

    /// Takes the permit of the turn if its thread waits in the kernel now. Returns how many turns
    /// do; nothing if it was taken before.
    pub(super) fn look(&self) -> Option<Held> {
        sys::waits(self.thread).then(|| self.hold()).flatten()
    }

    /// Takes the permit of the turn. Returns how many turns wait in the kernel then.
    pub(super) fn hold(&self) -> Option<Held> {
        self.handle.hold(self.number)
    }
}

/// The end of a watch over a turn, by its drop.
pub(super) struct TurnWatch(AbortHandle);

impl Drop for TurnWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for RunningTurn<'_> {
    fn drop(&mut self) {
        let Self { handle, used, .. } = self;
        let mut state = handle.queue.state.lock();
        let check = state.end_turn(handle.id, *used, Instant::now);
        handle.queue.grant(state);
        // Timers call into Tokio: not under the lock.
        if let Some(check) = check {
            handle.queue.check_later(check);
        }
    }
}
