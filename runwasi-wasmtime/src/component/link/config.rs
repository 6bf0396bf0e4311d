//! The interface of `wasi:config`.

use wasmtime::component::Linker;
use wasmtime_wasi_config::WasiConfig;

use crate::component::store::Component;

/// Adds the interface to the linker.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    wasmtime_wasi_config::add_to_linker(linker, |component| WasiConfig::new(&component.config.0))
}
