//! Preopened directory of a guest.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// Replaced at most once, by [`Rootfs::share`](super::Rootfs::share).
    pub(super) file: Mutex<Arc<File>>,
    // Set by the first `share`, which alone replaces the file.
    pub(super) shared: AtomicBool,
    pub(super) read_only: bool,
}

impl Directory {
    pub(super) fn new(path: PathBuf, file: OwnedFd, read_only: bool) -> Self {
        Self {
            path,
            file: Mutex::new(Arc::new(file.into())),
            shared: AtomicBool::new(false),
            read_only,
        }
    }

    pub(super) fn file(&self) -> Arc<File> {
        // Only clones and replacements of the pointer hold the lock, so a panic cannot leave it
        // torn.
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
