//! File calls of a container that wait in the kernel: the threads that they may hold, and the lines
//! of the log about them.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{id::Id, lock::Mutex, task_limits};

/// Most threads that wait in the kernel for the calls of guests. Fewer than the runtime can have: a
/// worker whose thread waits needs another one.
const MOST_HELD: usize = 8000;

/// Most turns of all lanes that may wait in the kernel: no more than half of the threads that this
/// process can have.
pub(super) fn most_held() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let threads = task_limits::of_process().unwrap_or(u64::MAX) / 2;
        usize::try_from(threads).unwrap_or(usize::MAX).clamp(1, MOST_HELD)
    })
}

/// Bound of the threads that the file calls of one container may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileThreads {
    /// The bound.
    pub limit: u32,
    /// Key of the engine's setting that raises it; empty if there is none.
    pub setting: &'static str,
}

impl Default for FileThreads {
    fn default() -> Self {
        Self { limit: 16, setting: "" }
    }
}

impl fmt::Display for FileThreads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.setting {
            "" => write!(formatter, "{}", self.limit),
            setting => write!(formatter, "{}, which {setting} raises", self.limit),
        }
    }
}

/// The file calls of one container.
#[derive(Debug)]
pub(crate) struct FileCalls {
    container: Id,
    threads: FileThreads,
    /// Directories of the guest, and files of its output, whose calls may wait for more than a
    /// local disk. Locked for one copy or change.
    places: Mutex<Vec<PathBuf>>,
    /// True if there is a place. Apart, because each poll asks.
    may_wait: AtomicBool,
    /// Set when the bound has been reached, and when a thread was missing: each is told once.
    told_limit: AtomicBool,
    told_lack: AtomicBool,
}

impl FileCalls {
    pub(crate) fn new(container: Id, threads: FileThreads, places: Vec<PathBuf>) -> Self {
        let told_limit = AtomicBool::new(false);
        let told_lack = AtomicBool::new(false);
        let may_wait = AtomicBool::new(!places.is_empty());
        let places = Mutex::new(places);
        Self { container, threads, places, may_wait, told_limit, told_lack }
    }

    /// Adds the places of a further process. True if none was known before. One is enough: further
    /// ones would change nothing, and execs have any number.
    pub(super) fn add(&self, places: Vec<PathBuf>) -> bool {
        let mut known = self.places.lock();
        if places.is_empty() || !known.is_empty() {
            return false;
        }
        *known = places;
        // Relaxed: publishes no other memory. The process has not been polled yet.
        self.may_wait.store(true, Ordering::Relaxed);
        true
    }

    pub(super) fn threads(&self) -> FileThreads {
        self.threads
    }

    /// True if calls may wait for more than a local disk, for a server that does not answer for
    /// example.
    pub(super) fn may_wait(&self) -> bool {
        self.may_wait.load(Ordering::Relaxed)
    }

    /// Notes that so many of its threads wait in the kernel, and so many of all containers.
    pub(super) fn held(&self, threads: usize, all: usize) {
        if all >= most_held() {
            self.reached_all(all);
        }
        // Relaxed: publishes no other memory.
        if threads >= self.threads.limit as usize && !self.told_limit.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                container = %self.container,
                limit = %self.threads,
                places = %self.places(),
                "all threads that the container's file calls may hold wait in the kernel: \
                 its further turns wait until one returns"
            );
        }
    }

    fn reached_all(&self, all: usize) {
        if !self.told_lack.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                container = %self.container,
                limit = all,
                places = %self.places(),
                reason = task_limits::RAISED_BY,
                "half of all threads that this process can have wait in the kernel for file calls \
                 of containers: those with such files wait until one returns"
            );
        }
    }

    /// Notes that there was no thread that could do the worker's work meanwhile.
    pub(super) fn lacked_thread(&self) {
        if !self.told_lack.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                container = %self.container,
                places = %self.places(),
                reason = task_limits::RAISED_BY,
                "no thread can be made beside the workers: the container waits, since its file \
                 calls may wait in the kernel"
            );
        }
    }

    /// Reports threads that the kernel does not let go at the end of a process; `total` is the
    /// number of all that were given up.
    pub(crate) fn given_up(&self, threads: usize, total: usize) {
        tracing::warn!(
            container = %self.container,
            threads,
            total,
            limit = %self.threads,
            places = %self.places(),
            "ended with threads in file calls that the kernel does not end: given up"
        );
    }

    fn places(&self) -> String {
        let places = self.places.lock();
        if places.is_empty() {
            return "a local file system".to_owned();
        }
        let places = places.iter().map(|place| place.display().to_string());
        places.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_names_its_setting() {
        assert_eq!(FileThreads::default().to_string(), "16");
        let set = FileThreads { limit: 2, setting: "engine.container-file-threads" };
        assert_eq!(set.to_string(), "2, which engine.container-file-threads raises");
    }

    #[test]
    fn places_are_named() {
        let container = Id::parse("id", "c1").unwrap();
        let calls = |places: &[&str]| {
            let places = places.iter().map(PathBuf::from).collect();
            FileCalls::new(container.clone(), FileThreads::default(), places)
        };
        assert_eq!(calls(&["/", "/v"]).places(), "/, /v");
        assert!(calls(&["/v"]).may_wait() && !calls(&[]).may_wait());
        assert_eq!(calls(&[]).places(), "a local file system");
    }

    #[test]
    fn first_slow_output_of_an_exec_is_added_and_further_ones_are_not() {
        let container = Id::parse("id", "c1").unwrap();
        let calls = FileCalls::new(container, FileThreads::default(), Vec::new());
        assert!(!calls.add(Vec::new()) && !calls.may_wait());
        assert!(calls.add(vec!["file:///v/one".into()]) && calls.may_wait());
        assert!(!calls.add(vec!["file:///v/two".into()]));
        assert_eq!(calls.places(), "file:///v/one");
    }
}
