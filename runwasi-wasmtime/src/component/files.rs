//! The file calls of components that stand in front of the library's own, for the reasons in [`crate::preview1`]. Used by `link`.

use wasmtime::component::Linker;

use super::Component;

/// Replaces what the library has linked.
pub(crate) fn link(_linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    Ok(())
}
