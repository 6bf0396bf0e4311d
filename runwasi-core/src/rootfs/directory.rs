//! A directory that a guest is given.

use std::{
    fs::File,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    /// Replaced once, by [`Rootfs::share`](super::Rootfs::share); locked for that and for looks.
    pub(super) file: Mutex<Arc<File>>,
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
        self.file.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
