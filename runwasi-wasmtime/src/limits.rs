//! Store limiter: charges the growth of a guest to the memory of its container.
//!
//! It counts linear memories, tables (one pointer for each element) and the guest's stack.

use runwasi_core::{
    EngineError,
    resources::memory::{BeyondLimit, Charge},
};
use wasmtime::ResourceLimiter;

/// Size of a table element, in bytes.
const ELEMENT: usize = size_of::<usize>();

/// Part of a guest's stack for its own calls, in bytes. The rest is for host functions.
pub(crate) const STACK: usize = 512 << 10;

/// Memory charge of one store, behind wasmtime's limiter interface.
pub(crate) struct Limits {
    charge: Charge,
    /// Bytes reserved for the current growth, released if it fails for another reason.
    pending: u64,
    /// True once the guest has started.
    running: bool,
}

/// Growth beyond the limit that ends the guest.
#[derive(Debug, thiserror::Error)]
#[error("out of memory: {0}")]
pub(crate) struct OutOfMemory(#[source] pub(crate) BeyondLimit);

/// Error of a start: the guest's initial memory exceeds the limit of its container.
pub(crate) fn beyond(error: BeyondLimit) -> EngineError {
    EngineError::Exhausted {
        what: "memory",
        reason: format!("what the guest begins with: {error}"),
    }
}

impl Limits {
    /// Creates the limiter and charges the stack.
    pub(crate) fn new(mut charge: Charge) -> Result<Self, BeyondLimit> {
        charge.reserve(STACK as u64)?;
        Ok(Self { charge, pending: 0, running: false })
    }

    /// Marks the end of the instantiation.
    pub(crate) fn started(&mut self) {
        // From now on a growth can be refused. Without its initial memory a guest cannot start.
        self.running = true;
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let bytes = bytes as u64;
        // A growth that has not failed by now has succeeded: its bytes stay charged.
        self.pending = 0;
        match self.charge.reserve(bytes) {
            Ok(()) => {
                self.pending = bytes;
                Ok(true)
            }
            // `memory.grow` or `table.grow` returns -1 to the guest.
            Err(_) if self.running && self.charge.memory().refuses() => Ok(false),
            // An error of the limiter ends the guest; `exit::status` turns it into a kill.
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
