//! A mutex without poisoning.
//!
//! Every critical section of this project leaves its data consistent at each point that can panic:
//! a change is one insertion, removal or assignment, or comes after all calls that may fail.

use std::sync::{self, MutexGuard, PoisonError};

/// `std::sync::Mutex`, also usable after a panic under its lock.
// Not `parking_lot`: four more crates would replace this file and leave the call sites the same.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The value of a slot, which `start` makes at the first need. After an error it is tried again.
// `OnceLock` has no stable way for a start that can fail.
pub fn get_or_start<T, E>(
    slot: &mut Option<T>,
    start: impl FnOnce() -> Result<T, E>,
) -> Result<&mut T, E> {
    match slot {
        Some(value) => Ok(value),
        None => Ok(slot.insert(start()?)),
    }
}
