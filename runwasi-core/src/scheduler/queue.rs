//! The fair queue in front of the guest runtime: selects the future that is polled next.
//!
//! Tokio alone is not fair to futures that compute: of three spinners on two workers one gets twice
//! the turns of the others. Therefore a guest's wake-ups go to this queue instead of Tokio, and
//! only a future that is *granted* a permit is woken in Tokio. There are as many permits as
//! workers, so a granted future finds a worker at once.
//!
//! Turns are shared among *lanes* (a lane is a container), not among futures: a server with a
//! thousand connections gets as many turns as one spinner. A lane's virtual time is the CPU time it
//! has used, divided by its weight. The waiting lane with the least virtual time is next. A lane
//! that has slept starts at the present: it is next but has saved up nothing.
//!
//! A lane that is paused or has used up its [`bandwidth`](super::bandwidth) is not eligible. The
//! futures of a stopped process are parked, and the rest of its lane goes on.
//!
//! The decisions are those of the pure `State`. Here are the lock and the timers around it; the
//! handles are a container's `Lane` of `lane_handle` and a future's
//! `Seat` of `turn`.

use std::{
    sync::{Arc, MutexGuard},
    task::Waker,
    time::Instant,
};

use tokio::runtime::Handle;

use super::{
    bandwidth::Throttling,
    file_calls::most_held,
    lane::LaneId,
    state::{Check, State},
};
use crate::{lock::Mutex, observe, panics};

/// The queue of one guest runtime. Cheap to clone.
#[derive(Clone)]
pub struct FairQueue {
    /// Locked for single steps, never across a poll or an await.
    pub(super) state: Arc<Mutex<State<Waker>>>,
    /// The runtime for the timers of throttled lanes and of watched turns.
    pub(super) timers: Handle,
}

/// Figures of all containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// Throttling of all containers there have been.
    pub throttling: Throttling,
    /// Containers that wait for a worker.
    pub waiting: u64,
    /// Threads that wait in the kernel for file calls of guests.
    pub file_threads: u64,
    /// Most such threads.
    pub most_file_threads: u64,
}

impl FairQueue {
    /// A queue for a runtime of `permits` workers; its timers run on `timers`.
    pub fn new(permits: usize, timers: Handle) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(permits))), timers }
    }

    /// Figures of all lanes.
    pub(super) fn figures(&self) -> QueueFigures {
        // Without the lock: the first call reads the limits of this process.
        let most = most_held();
        let state = self.state.lock();
        QueueFigures {
            throttling: state.total_throttling(),
            waiting: state.waiting_lanes() as u64,
            file_threads: state.total_held() as u64,
            most_file_threads: most as u64,
        }
    }

    /// Checks a throttled lane when its debt is paid.
    pub(super) fn check_later(&self, check: Check) {
        let queue = self.clone();
        // Fatal: without this check the lane would never be polled again.
        self.timers.spawn(panics::fatal_future(async move {
            tokio::time::sleep_until(check.at.into()).await;
            queue.check(check.lane);
        }));
    }

    fn check(&self, lane: LaneId) {
        let mut state = self.state.lock();
        let again = state.check_throttling(lane, Instant::now());
        let long = state.take_long_throttling(lane);
        match again {
            Some(again) => {
                drop(state);
                self.check_later(again);
            }
            None => self.grant(state),
        }
        // Without the lock.
        if let Some((subject, throttled)) = long {
            observe::throttled(&subject, &throttled);
        }
    }

    /// Hands out free permits.
    pub(super) fn grant<'a>(&'a self, mut state: MutexGuard<'a, State<Waker>>) {
        while let Some(granted) = state.grant() {
            // Unlocked for the wake-up: a waker runs Tokio's code, which may drop a task and with
            // it a `Seat` that locks the queue.
            drop(state);
            // Without a waker the seat was granted before its first poll, which Tokio owes it
            // anyway.
            if let Some(waker) = granted.notify {
                waker.wake();
            }
            state = self.state.lock();
        }
    }
}
