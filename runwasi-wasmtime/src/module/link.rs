//! Imports of core modules.

use wasmtime::Linker;
use wasmtime_wasi::{p0, p1};

use super::{descriptors, parts, paths, poll, preview1, readdir, store::Guest, sync};

/// Adds WASI preview 1, and its predecessor under its old name `wasi_unstable`.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    p1::add_to_linker_async(linker, |guest| &mut guest.wasi)?;
    p0::add_to_linker_async(linker, |guest| &mut guest.wasi)?;
    // Last, because these replace functions that the library has linked. Allowed only here, so that
    // an accidental second definition stays an error.
    linker.allow_shadowing(true);
    preview1::link(linker)?;
    descriptors::link(linker)?;
    poll::link(linker)?;
    parts::link(linker)?;
    paths::link(linker)?;
    readdir::link(linker)?;
    sync::link(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}
