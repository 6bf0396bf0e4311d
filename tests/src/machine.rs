//! The machine as something that the tests of one program share; taken by what runs a case.
//!
//! Cargo runs one test program after the other and a few tests of each at once. Most do not mind. A case that compares times has
//! the machine to itself, and since others than our tests may be busy on it, too, it may be tried more than once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};

use crate::runtime::Runtime;

/// Who uses it now. Not an `RwLock`: a case that plays a second part beside its first takes its share again, which must not wait
/// for somebody who waits to be alone.
static USERS: Mutex<Users> = Mutex::new(Users { sharing: 0, alone: false });
static CHANGED: Condvar = Condvar::new();

struct Users {
    sharing: usize,
    alone: bool,
}

/// A share of the machine, or all of it; given back when dropped.
pub(crate) struct Use {
    alone: bool,
}

impl Use {
    /// For a case that may run beside others.
    pub(crate) fn shared() -> Self {
        wait(|users| users.alone).sharing += 1;
        Self { alone: false }
    }

    /// For a case that measures.
    pub(crate) fn alone() -> Self {
        wait(|users| users.alone || users.sharing > 0).alone = true;
        Self { alone: true }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut users = lock();
        match self.alone {
            true => users.alone = false,
            false => users.sharing -= 1,
        }
        CHANGED.notify_all();
    }
}

fn lock() -> MutexGuard<'static, Users> {
    USERS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait(taken: impl Fn(&mut Users) -> bool) -> MutexGuard<'static, Users> {
    CHANGED.wait_while(lock(), |users| taken(users)).unwrap_or_else(PoisonError::into_inner)
}

/// For a figure that noise can only make worse: one try of `tries` that succeeds shows what can be done, and what cannot be done
/// fails in all of them.
pub fn best_of<T>(tries: usize, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut failed = Vec::new();
    for _ in 0..tries {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    bail!("in {tries} tries: {}", failed.join("; "))
}

/// Of runc a case shows that it is right, for which one success is enough: its shim and `ctr` lose a race now and then. All others
/// succeed at once.
pub(crate) fn tried(runtime: Runtime, check: impl Fn()) {
    let again = if runtime == Runtime::Runc { 2 } else { 0 };
    for _ in 0..again {
        if catch_unwind(AssertUnwindSafe(&check)).is_ok() {
            return;
        }
        eprintln!("{runtime:?}: tried again");
    }
    check();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_success_is_enough_and_all_failures_are_told() {
        let mut tries = 0;
        let third = best_of(3, || {
            tries += 1;
            if tries == 3 { Ok(tries) } else { bail!("no {tries}") }
        });
        assert_eq!(third.unwrap(), 3);
        let said = best_of(2, || -> Result<()> { bail!("never") }).unwrap_err().to_string();
        assert_eq!(said, "in 2 tries: never; never");
    }

    #[test]
    fn only_runc_is_tried_again() {
        let fails = |runtime, times| {
            let count = std::cell::Cell::new(0);
            let check = || {
                count.set(count.get() + 1);
                assert!(count.get() > times, "on purpose");
            };
            (catch_unwind(AssertUnwindSafe(|| tried(runtime, check))).is_err(), count.get())
        };
        assert_eq!(
            [fails(Runtime::Wasmtime, 1), fails(Runtime::Wasmtime, 0)],
            [(true, 1), (false, 1)]
        );
        assert_eq!([fails(Runtime::Runc, 2), fails(Runtime::Runc, 3)], [(false, 3), (true, 3)]);
    }

    #[test]
    fn who_is_alone_waits_for_all_others_and_they_for_it() {
        let (first, second) = (Use::shared(), Use::shared());
        let (sender, receiver) = std::sync::mpsc::channel();
        let measuring = std::thread::spawn(move || {
            let _all = Use::alone();
            sender.send(lock().sharing).unwrap();
        });
        drop(first);
        // Somebody waits to be alone, or is about to.
        drop(Use::shared());
        assert!(receiver.try_recv().is_err());
        drop(second);
        assert_eq!(receiver.recv().unwrap(), 0);
        measuring.join().unwrap();
        assert!(!lock().alone);
    }
}
