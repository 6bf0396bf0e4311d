//! The machine as something that tests share; taken by what runs a case.
//!
//! A few cases of each test program run at once, and a few test programs. Most do not mind. A case
//! that compares times has the machine to itself, and since others than our tests may be busy on
//! it, too, it may be tried more than once.
//!
//! The shares are locks of files, because the programs are OS processes: the kernel releases those
//! of one that dies.
//!
//! ```text
//! shared: gate (alone), use (shared), gate released        alone: gate (shared), use (alone)
//! ```
//!
//! The path of such a case has a module `…_alone`: by that name `scripts/tests` runs them after all
//! others, since each wait to be alone leaves cores idle.
//!
//! A case that waits to be alone has a share of the gate, so that no other begins before it has had
//! its turn. Cases that wait to be alone come one after the other.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::runtime::{Runtime, target_dir};

thread_local! {
    /// Shares that this thread holds.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

/// A share of the machine, or all of it; given back when dropped.
pub(crate) struct Use {
    /// Locked until the drop.
    _files: Vec<File>,
    kind: &'static str,
    begun: Instant,
}

impl Use {
    /// For a case that may run beside others.
    #[track_caller]
    pub(crate) fn shared() -> Self {
        Self::taken("shared", shared(&directory()))
    }

    /// For a case that measures.
    #[track_caller]
    pub(crate) fn alone() -> Self {
        Self::taken("alone", alone(&directory()))
    }

    #[track_caller]
    fn taken(kind: &'static str, files: io::Result<Vec<File>>) -> Self {
        let files = files.unwrap_or_else(|error| panic!("no share of the machine: {error}"));
        if HELD.get() == 0 {
            check_name(kind == "alone", thread::current().name().unwrap_or_default());
        }
        HELD.set(HELD.get() + 1);
        Self { _files: files, kind, begun: Instant::now() }
    }

    /// A line `MILLISECONDS shared|alone PROGRAM CASE`, in one write because test programs run at
    /// the same time.
    fn record(&self) -> io::Result<()> {
        let program = std::env::current_exe()?;
        let program = program.file_name().unwrap_or_default().display().to_string();
        let program = program.rsplit_once('-').map_or(&*program, |(name, _hash)| name);
        let thread = thread::current();
        let case = thread.name().unwrap_or("?");
        let took = self.begun.elapsed().as_millis();
        let line = format!("{took} {} {program} {case}\n", self.kind);
        let mut times =
            File::options().append(true).create(true).open(directory().join("times"))?;
        times.write_all(line.as_bytes())
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        HELD.set(HELD.get() - 1);
        // Only a report is less complete without it.
        let _ = self.record();
    }
}

/// Panics for the path of a case that says otherwise.
#[track_caller]
fn check_name(is_alone: bool, case: &str) {
    // Threads without a path: of a harness that runs one case at a time, or started by a case.
    if let Some((modules, _case)) = case.rsplit_once("::") {
        assert_eq!(modules.ends_with("_alone"), is_alone, "`…_alone` is the module of such cases");
    }
}

fn directory() -> PathBuf {
    target_dir().join("machine")
}

fn shared(directory: &Path) -> io::Result<Vec<File>> {
    // A case that plays a second part beside its first takes its share again, and must not wait for
    // another that waits for the first.
    let gate = (HELD.get() == 0).then(|| open(directory, "gate")).transpose()?;
    if let Some(gate) = &gate {
        gate.lock()?;
    }
    let share = open(directory, "use")?;
    share.lock_shared()?;
    Ok(vec![share])
}

fn alone(directory: &Path) -> io::Result<Vec<File>> {
    let gate = open(directory, "gate")?;
    gate.lock_shared()?;
    let all = open(directory, "use")?;
    all.lock()?;
    Ok(vec![all, gate])
}

fn open(directory: &Path, name: &str) -> io::Result<File> {
    fs::create_dir_all(directory)?;
    File::options().write(true).create(true).truncate(false).open(directory.join(name))
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
    let again = if runtime.runs_by_runc() { 2 } else { 0 };
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
    use std::sync::atomic::{AtomicBool, Ordering};

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
    fn name_of_a_case_says_if_it_is_alone() {
        let agrees = |is_alone, case| catch_unwind(|| check_name(is_alone, case)).is_ok();
        for case in ["wasmtime_alone::quota_holds", "limits::wasmtime_alone::quota_holds"] {
            assert_eq!([agrees(true, case), agrees(false, case)], [true, false], "{case}");
        }
        let case = "wasmtime::runs_alone";
        assert_eq!([agrees(true, case), agrees(false, case)], [false, true]);
        assert!(agrees(true, "main") && agrees(false, "main"));
    }

    #[test]
    fn a_case_that_is_alone_waits_for_all_others_and_they_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let share = || shared(directory.path()).unwrap();
        let shares = [share(), share()];
        let (sender, receiver) = std::sync::mpsc::channel();
        let (begin, wait) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let place = directory.path();
            scope.spawn(move || {
                let _all = alone(place).unwrap();
                sender.send("alone").unwrap();
                wait.recv().unwrap();
            });
            // Until it waits: it has its share of the gate then.
            let gate = open(directory.path(), "gate").unwrap();
            while gate.try_lock().is_ok() {
                gate.unlock().unwrap();
                std::thread::yield_now();
            }
            assert!(receiver.try_recv().is_err(), "it does not wait");
            drop(shares);
            assert_eq!(receiver.recv(), Ok("alone"));
            let use_file = open(directory.path(), "use").unwrap();
            assert!(use_file.try_lock_shared().is_err(), "others do not wait for it");
            begin.send(()).unwrap();
        });
        drop(share());
    }

    #[test]
    fn cases_that_wait_to_be_alone_come_before_all_others() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        let first = alone(place).unwrap();
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // It waits for the first one, and has its share of the gate.
            let gate = open(place, "gate").unwrap();
            gate.lock_shared().unwrap();
            let shared = scope.spawn(|| {
                let _share = shared(place).unwrap();
                assert!(ended.load(Ordering::SeqCst), "it began before the second one");
            });
            drop(first);
            let second = open(place, "use").unwrap();
            second.lock().unwrap();
            ended.store(true, Ordering::SeqCst);
            drop((second, gate));
            shared.join().unwrap();
        });
    }

    #[test]
    fn a_second_share_of_a_case_does_not_wait_for_one_that_waits() {
        let directory = tempfile::tempdir().unwrap();
        let gate = open(directory.path(), "gate").unwrap();
        gate.lock_shared().unwrap();
        let first = Use::taken("shared", Ok(Vec::new()));
        drop(shared(directory.path()).unwrap());
        drop(first);
    }
}
