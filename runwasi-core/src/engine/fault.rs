//! Fault of a guest, and its record for the driver of the process.

use std::sync::OnceLock;

/// Fault that ends a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The guest trapped. The text is the kind of the trap: `out of bounds memory access`.
    Trap(String),
    /// A growth beyond the memory limit of the container.
    OutOfMemory,
}

/// The fault of one process, once it has one.
#[derive(Debug, Default)]
pub struct FaultRecord(OnceLock<Fault>);

impl FaultRecord {
    /// Records a fault. The first one counts.
    pub(crate) fn set(&self, fault: Fault) {
        self.0.get_or_init(|| fault);
    }

    /// The fault.
    pub(crate) fn get(&self) -> Option<&Fault> {
        self.0.get()
    }
}
