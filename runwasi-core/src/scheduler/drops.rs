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
    /// Set once for good: a look between two waits must not find fewer of them than one before.
    waits: AtomicBool,
}

impl Drops {
    /// Notes a drop on the calling thread, until the answer is dropped.
    pub(super) fn begin(&self) -> RunningDrop<'_> {
        let waits = AtomicBool::new(false);
        let drop = Arc::new(ThreadDrop { thread: gettid(), begun: Instant::now(), waits });
        self.0.lock().push(drop.clone());
        RunningDrop { drops: self, drop }
    }

    /// Finds those that wait in the kernel.
    pub(super) fn look(&self) {
        for drop in &*self.0.lock() {
            if drop.begun.elapsed() >= PATIENCE && sys::waits(drop.thread) {
                // Relaxed: publishes no other memory.
                drop.waits.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Number of those that were found.
    pub(super) fn waiting(&self) -> usize {
        self.0.lock().iter().filter(|drop| drop.waits.load(Ordering::Relaxed)).count()
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
