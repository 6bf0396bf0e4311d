//! The two Tokio runtimes of a serving process.
//!
//! | runtime | threads | work |
//! |---|---|---|
//! | control | the caller's | ttrpc, drivers, events, signals; no guest code: always answers |
//! | guest | one worker per core; in a pod 4 at most | the futures of the guests, nothing else |

use std::{
    collections::BTreeSet, io, num::NonZero, sync::Arc, thread::available_parallelism,
    time::Duration,
};

use rustix::thread::gettid;

use tokio::runtime::{Builder, Runtime};

use crate::{credentials, lock::Mutex, panics, requirements, scheduler::Guests, sys, task_limits};

/// Most workers of a pod. A pod that can use more cores at once is rare, and the idle threads of
/// every other pod would cost memory.
const MAX_POD_WORKERS: usize = 4;
/// Most blocking threads of the control runtime, for file access and compiling.
const MAX_BLOCKING: usize = 256;
/// Most threads of the guest runtime beside its workers. Each container may hold some of them for
/// as long as the kernel does ([`scheduler::group`](crate::scheduler::group)), and all have to fit:
/// a worker cannot be replaced beyond this number.
const MAX_BESIDE: usize = 8192;
/// Idle time after which a blocking thread ends: short, so that a sleeping pod keeps few threads.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The runtime of the control side; `block_on` it from `main`.
pub fn control() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .thread_name("blocking")
        .thread_keep_alive(KEEP_ALIVE)
        .max_blocking_threads(MAX_BLOCKING)
        .build()
}

/// Workers for the guests of a whole node: one per core.
pub fn node_workers() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

/// Workers for the guests of one pod.
pub fn pod_workers() -> usize {
    node_workers().min(MAX_POD_WORKERS)
}

/// The runtime of the guests. Dropping it inside another runtime panics: see [`GuestRuntime::end`].
pub struct GuestRuntime {
    runtime: Runtime,
    guests: Guests,
    threads: Threads,
}

/// The ids of a runtime's living threads. Clones share the same set.
#[derive(Clone, Default)]
pub struct Threads(Arc<Mutex<Living>>);

#[derive(Default)]
struct Living {
    ids: BTreeSet<i32>,
    on_start: Option<Box<OnStart>>,
}

/// Work on a thread that starts, given its id.
pub(crate) type OnStart = dyn Fn(i32) + Send;

impl GuestRuntime {
    /// Starts that many workers. An error names an unmet requirement ([`requirements`]), or the
    /// limits of threads.
    pub fn start(workers: usize) -> io::Result<Self> {
        // Before any thread starts: a worker that lacks a capability panics.
        requirements::check().map_err(io::Error::other)?;
        task_limits::try_threads(workers).map_err(task_limits::named)?;
        sys::return_freed_ends();
        let threads = Threads::default();
        let started = threads.clone();
        let stopped = threads.clone();
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .worker_threads(workers)
            .thread_name("guest")
            // Look for timers, I/O and new tasks after every poll: a poll of a guest takes a
            // millisecond or more, and the default of 61 polls would delay every timer by as much
            // as 61 of them.
            .event_interval(1)
            .global_queue_interval(1)
            .thread_keep_alive(KEEP_ALIVE)
            .max_blocking_threads(MAX_BESIDE)
            .on_thread_start(move || {
                started.add(gettid().as_raw_nonzero().get());
                // Without `fatal`, a panic would end this worker and Tokio would go on without it.
                panics::fatal(credentials::prepare_thread);
            })
            .on_thread_stop(move || stopped.remove(gettid().as_raw_nonzero().get()))
            .build()?;
        let guests = Guests::new(runtime.handle().clone(), workers);
        Ok(Self { runtime, guests, threads })
    }

    /// The threads that poll guests.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// The scheduler of the guests, for groups of futures.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Ends the runtime without waiting for its threads.
    pub fn end(self) {
        // A guest may be in a long poll, and its result is no longer needed.
        self.runtime.shutdown_background();
    }
}

impl Threads {
    /// Adds the calling thread, which starts.
    pub(crate) fn add(&self, thread: i32) {
        let mut living = self.0.lock();
        living.ids.insert(thread);
        // Under the lock: a later call of `each` must not be followed by this one.
        if let Some(act) = &living.on_start {
            act(thread);
        }
    }

    fn remove(&self, thread: i32) {
        self.0.lock().ids.remove(&thread);
    }

    /// Calls `act` with the id of every living thread, until the first error. From then on, calls
    /// `on_start` on every thread that starts, with its id.
    ///
    /// A new runtime has its threads only when the kernel has given each of them a CPU for the
    /// first time, so on a busy host this may find none.
    pub(crate) fn each(
        &self,
        act: impl FnMut(i32) -> io::Result<()>,
        on_start: Option<Box<OnStart>>,
    ) -> io::Result<()> {
        // Under the lock: a thread that ends waits in `remove`, so its id cannot yet have become
        // that of another thread.
        let mut living = self.0.lock();
        living.on_start = on_start;
        living.ids.iter().copied().try_for_each(act)
    }
}
