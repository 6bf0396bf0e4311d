//! WASI contexts of a server's instances.
//!
//! A context holds arguments, environment, streams and the preopened directories: the same for every request of the container, and
//! more work to make than a small guest needs to answer. So one whose guest has returned is kept for the next; a guest cannot change
//! anything in it but its random numbers, and these are made anew. All share the file descriptors of the first one's directories.

use std::sync::{Mutex, MutexGuard, PoisonError};

use runwasi_core::InstanceSpec;
use wasmtime_wasi::{WasiCtx, filesystem::WasiFilesystemCtx, random::WasiRandomCtx};

use crate::wasi::context;

/// Kept; more are made when more requests come at once.
const KEPT: usize = 64;

pub(super) struct ContextPool {
    directories: WasiFilesystemCtx,
    /// Locked to take and to put back.
    free: Mutex<Vec<WasiCtx>>,
}

impl ContextPool {
    pub(super) fn new(directories: WasiFilesystemCtx) -> Self {
        Self { directories, free: Mutex::default() }
    }

    /// One for a new instance.
    pub(super) fn take(&self, spec: &InstanceSpec) -> WasiCtx {
        let free = { self.free().pop() };
        match free {
            Some(mut context) => {
                *context.random() = WasiRandomCtx::default();
                context
            }
            None => context::further_context(spec, &self.directories),
        }
    }

    /// Its guest has returned.
    pub(super) fn put_back(&self, context: WasiCtx) {
        let mut free = self.free();
        if free.len() < KEPT {
            free.push(context);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<WasiCtx>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
