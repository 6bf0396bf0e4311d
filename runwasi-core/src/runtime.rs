//! The two Tokio runtimes of a serving process. Made by `bootstrap` and the harness.
//!
//! | runtime | threads | what runs there |
//! |---|---|---|
//! | control | the calling thread | ttrpc, drivers, events, signals; never guest code, so it always answers |
//! | guest | a worker a core; in a pod 4 at most | the futures of the guests, nothing else |

use std::{
    collections::BTreeSet,
    io,
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread::available_parallelism,
    time::Duration,
};

use rustix::thread::gettid;

use tokio::runtime::{Builder, Runtime};

use crate::{credentials, panics, requirements, scheduler::Guests};

/// A pod that can use more cores at once than this is rare, and idle threads cost every other pod memory.
const MAX_POD_WORKERS: usize = 4;
/// Threads for file access and compiling. They leave soon after, so that a sleeping pod keeps few.
const MAX_BLOCKING: usize = 256;
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

/// Workers for the guests of a whole node: one a core.
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

/// The ids of a runtime's living threads. All clones speak of the same runtime.
#[derive(Clone, Debug, Default)]
pub struct Threads(Arc<Mutex<BTreeSet<i32>>>);

impl GuestRuntime {
    /// Starts that many workers. An error names what they would lack ([`requirements`]).
    pub fn start(workers: usize) -> io::Result<Self> {
        requirements::check().map_err(io::Error::other)?;
        let threads = Threads::default();
        let (started, stopped) = (threads.clone(), threads.clone());
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .worker_threads(workers)
            .thread_name("guest")
            // Look for timers, I/O and newcomers after every poll: a guest's poll takes a millisecond or more, and the default
            // of 61 polls would delay every timer by as much as 61 of them.
            .event_interval(1)
            .global_queue_interval(1)
            .thread_keep_alive(KEEP_ALIVE)
            .max_blocking_threads(MAX_BLOCKING)
            .on_thread_start(move || {
                started.add(gettid().as_raw_nonzero().get());
                // Tokio would go on without this worker.
                panics::fatal(credentials::prepare_thread);
            })
            .on_thread_stop(move || stopped.remove(gettid().as_raw_nonzero().get()))
            .build()?;
        let guests = Guests::new(runtime.handle().clone(), workers);
        Ok(Self { runtime, guests, threads })
    }

    /// The threads that poll guests and make their file accesses.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// For groups of futures.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// Ends it without waiting: a guest may be in a long poll, and nothing of it is needed any more.
    pub fn end(self) {
        self.runtime.shutdown_background();
    }
}

impl Threads {
    pub(crate) fn add(&self, thread: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(thread);
    }

    fn remove(&self, thread: i32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&thread);
    }

    /// Does something with every living thread; none ends meanwhile, so no id is another's.
    pub(crate) fn each(&self, act: impl FnMut(i32) -> io::Result<()>) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().try_for_each(act)
    }
}
