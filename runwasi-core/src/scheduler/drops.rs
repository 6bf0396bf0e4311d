//! Drops of a process's futures that are in progress.
//!
//! A drop frees what the guest had, and each of these calls may wait in the kernel: the close of a
//! file, the return of a large memory. The exit does not wait for a drop that has done so for long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{process::Pid, thread::gettid};

use crate::{lock::Mutex, sys};

/// Age of a drop whose thread is looked at.
// Far longer than the end of a guest with much memory, which is to be over when the exit is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// The drops of one process.
#[derive(Default)]
pub(super) struct Drops(Mutex<Vec<Arc<ThreadDrop>>>);

struct ThreadDrop {
    thread: Pid,
    begun: Instant,
    /// Number of the wait that the last look has found the thread in.
    last: Mutex<Option<u64>>,
    /// Set once for good: a look between two waits must not find fewer of them than one before.
    waits: AtomicBool,
}

impl Drops {
    /// Notes a drop on the calling thread, until the answer is dropped.
    pub(super) fn begin(&self) -> RunningDrop<'_> {
        let waits = AtomicBool::new(false);
        let last = Mutex::default();
        let drop = Arc::new(ThreadDrop { thread: gettid(), begun: Instant::now(), last, waits });
        self.0.lock().push(drop.clone());
        RunningDrop { drops: self, drop }
    }

    /// Finds those that wait in the kernel.
    pub(super) fn look(&self) {
        for drop in &*self.0.lock() {
            if drop.begun.elapsed() >= PATIENCE {
                drop.look();
            }
        }
    }

    /// Number of those that were found.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().iter().filter(|drop| drop.waits.load(Ordering::Relaxed)).count()
    }
}

impl ThreadDrop {
    /// Takes it for one that waits if it is in the same wait as at the last look: one that frees
    /// much memory may be found in many short ones.
    fn look(&self) {
        let now = sys::current_wait(self.thread);
        let before = std::mem::replace(&mut *self.last.lock(), now);
        if now.is_some() && now == before {
            // Relaxed: publishes no other memory.
            self.waits.store(true, Ordering::Relaxed);
        }
    }
}

/// A drop in progress.
pub(super) struct RunningDrop<'a> {
    drops: &'a Drops,
    drop: Arc<ThreadDrop>,
}

impl Drop for RunningDrop<'_> {
    fn drop(&mut self) {
        self.drops.0.lock().retain(|drop| !Arc::ptr_eq(drop, &self.drop));
    }
}
