//! The two Tokio runtimes of a serving process. Made by `bootstrap` and the harness.
//!
//! | runtime | threads | what runs there |
//! |---|---|---|
//! | control | the calling thread | ttrpc, drivers, events, signals; never guest code, so it always answers |
//! | guest | 1 to 4 workers | the futures of the guests, nothing else |

use std::{io, num::NonZero, thread::available_parallelism, time::Duration};

use tokio::runtime::{Builder, Runtime};

/// Workers are what guests of one process can use at once; a pod that needs more cores than this is rare, and idle
/// threads cost every other pod memory.
const MAX_WORKERS: usize = 4;
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

/// The runtime of the guests.
pub fn guest() -> io::Result<Runtime> {
    let workers = available_parallelism().map_or(1, NonZero::get).min(MAX_WORKERS);
    Builder::new_multi_thread()
        .enable_all()
        .worker_threads(workers)
        .thread_name("guest")
        // Look for timers and I/O after every poll: a guest's poll takes a millisecond, and the default of 61 polls would
        // delay every timer by as much as 61 of them.
        .event_interval(1)
        .thread_keep_alive(KEEP_ALIVE)
        .max_blocking_threads(MAX_BLOCKING)
        .build()
}
