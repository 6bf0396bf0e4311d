//! Guests on the guest runtime: the group of futures of a process and the fair queue before them.

pub mod bandwidth;
mod drops;
pub mod file_calls;
pub mod group;
mod lane;
mod lane_handle;
mod long_throttling;
#[cfg(test)]
mod model;
pub mod queue;
mod state;
#[cfg(test)]
mod tests;
mod turn;
mod turn_clock;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::runtime::Handle;

use self::queue::{FairQueue, QueueFigures};
use crate::{blocking::eventually, lock::Mutex, task_limits};

/// Time between two trials of a thread.
const TRIALS: Duration = Duration::from_millis(250);

/// The guest runtime and the queue that orders its polls. Cheap to clone.
#[derive(Clone)]
pub struct Guests {
    runtime: Handle,
    queue: FairQueue,
    /// Time of the last trial of a thread.
    tried: Arc<Mutex<Option<Instant>>>,
}

impl Guests {
    /// Guests on a runtime of `workers` threads.
    pub fn new(runtime: Handle, workers: usize) -> Self {
        // A permit for each worker: a granted future finds a free worker at once.
        let queue = FairQueue::new(workers, runtime.clone());
        Self { runtime, queue, tried: Arc::default() }
    }

    /// Liveness probe: resolves when a worker has polled an empty task. `false` if the runtime has
    /// ended.
    pub async fn answer(&self) -> bool {
        // Past the queue: an answer must not depend on a permit.
        self.runtime.spawn(async {}).await.is_ok()
    }

    /// Figures of all containers.
    pub fn figures(&self) -> QueueFigures {
        self.queue.figures()
    }

    /// Has a thread made for a worker that has none, if there can be one now.
    // Tokio hides that it got no thread for a worker whose own one polls beside the workers, and
    // tries again only with new work for its pool. A new thread takes the oldest such work first.
    pub(crate) fn try_thread(&self) {
        if !self.may_try() {
            return;
        }
        // Tried here before: such work would pile up as long as Tokio gets no thread.
        if task_limits::try_threads(1).is_ok() {
            eventually(&self.runtime, || ());
        }
    }

    /// True once in each [`TRIALS`], for all containers together: a trial waits until its thread
    /// has ended.
    fn may_try(&self) -> bool {
        let now = Instant::now();
        let mut tried = self.tried.lock();
        let may = tried.is_none_or(|last| now.duration_since(last) >= TRIALS);
        if may {
            *tried = Some(now);
        }
        may
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn queue(&self) -> &FairQueue {
        &self.queue
    }
}
