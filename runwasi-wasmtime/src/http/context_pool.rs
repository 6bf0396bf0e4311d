//! Pool of WASI contexts for a server's instances.
//!
//! A context holds arguments, environment, streams and the preopened directories. These are the
//! same for every request of the container, and making a context is more work than a small guest
//! needs to answer. So the context of a guest that has returned is kept for the next instance. A
//! guest cannot change anything in its context but the random numbers, and these are made anew. All
//! contexts share the file descriptors of the first one's directories.

use std::sync::MutexGuard;

use runwasi_core::{InstanceSpec, lock::Mutex};
use wasmtime_wasi::{WasiCtx, filesystem::WasiFilesystemCtx, random::WasiRandomCtx};

use crate::wasi::context;

/// Largest number of free contexts. More are made when more requests come at once.
const KEPT: usize = 64;

pub(super) struct ContextPool {
    directories: WasiFilesystemCtx,
    /// Locked for one push or pop.
    free: Mutex<Vec<WasiCtx>>,
}

impl ContextPool {
    pub(super) fn new(directories: WasiFilesystemCtx) -> Self {
        Self { directories, free: Mutex::default() }
    }

    /// Takes a free context for a new instance, or makes one.
    pub(super) fn take(&self, spec: &InstanceSpec) -> WasiCtx {
        // Unlocked before a context is made: other requests need not wait for that.
        let free = { self.free().pop() };
        match free {
            Some(mut context) => {
                // Two guests must not draw from one sequence of random numbers.
                *context.random() = WasiRandomCtx::default();
                context
            }
            None => context::further_context(spec, &self.directories),
        }
    }

    /// Takes back the context of a guest that has returned.
    pub(super) fn put_back(&self, context: WasiCtx) {
        let mut free = self.free();
        if free.len() < KEPT {
            free.push(context);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<WasiCtx>> {
        self.free.lock()
    }
}
