//! Guests on the guest runtime: the group of futures of a process and the fair queue before them.

pub mod bandwidth;
pub mod group;
pub mod queue;

use tokio::runtime::Handle;

use self::queue::FairQueue;

/// Where guests run: a runtime and the queue that says whose turn it is. Cheap to clone.
#[derive(Clone)]
pub struct Guests {
    runtime: Handle,
    queue: FairQueue,
}

impl Guests {
    /// Guests on a runtime with that many workers.
    pub fn new(runtime: Handle, workers: usize) -> Self {
        let queue = FairQueue::new(workers, runtime.clone());
        Self { runtime, queue }
    }

    /// Resolves when a worker has polled a task beside the guests: the sign of life of the runtime.
    /// `false` if it has ended.
    pub async fn answer(&self) -> bool {
        self.runtime.spawn(async {}).await.is_ok()
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(crate) fn queue(&self) -> &FairQueue {
        &self.queue
    }
}
