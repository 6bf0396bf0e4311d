//! The interfaces of `wasi:nn`.

use wasmtime::component::Linker;
use wasmtime_wasi_nn::wit::{self, WasiNnView};

use crate::component::store::Component;

/// Adds the interfaces to the linker.
pub(super) fn link(linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    wit::add_to_linker(linker, |component: &mut Component| {
        let (table, nn) = component.nn();
        WasiNnView::new(table, nn)
    })
}
