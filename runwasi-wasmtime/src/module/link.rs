//! Imports of core modules.

use wasmtime::Linker;
use wasmtime_wasi::{p0, p1};

use super::{preview1, store::Guest};

/// Adds WASI preview 1, and its predecessor under its old name `wasi_unstable`.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    p1::add_to_linker_async(linker, |guest| &mut guest.wasi)?;
    p0::add_to_linker_async(linker, |guest| &mut guest.wasi)?;
    // Last, because it replaces functions that the library has linked.
    preview1::link(linker)
}
