//! What a guest asks to grow, charged to its container's memory. Used by `instance` as the store's limiter.
//!
//! Counted are linear memories, tables (a pointer an element) and the guest's stack.

use runwasi_core::{
    EngineError,
    resources::memory::{BeyondLimit, Charge},
};
use wasmtime::ResourceLimiter;

/// What an element of a table takes.
const ELEMENT: usize = size_of::<usize>();

/// What a guest's own calls may take of its stack; the rest of it is the host's.
pub(crate) const STACK: usize = 512 << 10;

/// A process's charge, as wasmtime asks for it.
pub(crate) struct Limits {
    charge: Charge,
    /// Taken for the growth that is being tried; given back if it fails for another reason.
    pending: u64,
    /// Whether the guest runs: it cannot be refused what it has from the start.
    running: bool,
}

/// A growth that ends the guest.
#[derive(Debug, thiserror::Error)]
#[error("out of memory: {0}")]
pub(crate) struct OutOfMemory(#[source] pub(crate) BeyondLimit);

/// Why a guest cannot start: it begins with more than its container may have.
pub(crate) fn beyond(error: BeyondLimit) -> EngineError {
    EngineError::Exhausted {
        what: "memory",
        reason: format!("what the guest begins with: {error}"),
    }
}

impl Limits {
    /// Charges the stack.
    pub(crate) fn new(mut charge: Charge) -> Result<Self, BeyondLimit> {
        charge.reserve(STACK as u64)?;
        Ok(Self { charge, pending: 0, running: false })
    }

    /// The guest has all it begins with.
    pub(crate) fn started(&mut self) {
        self.running = true;
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let bytes = bytes as u64;
        self.pending = 0;
        match self.charge.reserve(bytes) {
            Ok(()) => {
                self.pending = bytes;
                Ok(true)
            }
            Err(_) if self.running && self.charge.memory().refuses() => Ok(false),
            Err(beyond) => Err(OutOfMemory(beyond).into()),
        }
    }

    fn failed(&mut self) {
        self.charge.release(std::mem::take(&mut self.pending));
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(error = format!("{error:#}"), "a memory did not grow");
        self.failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(ELEMENT))
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        tracing::debug!(error = format!("{error:#}"), "a table did not grow");
        self.failed();
        Ok(())
    }
}
