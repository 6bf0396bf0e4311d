//! `wasi:nn`, behind the cargo feature `wasi-nn`: runs models of guests with the host's OpenVINO.
//! The library is searched for when the first model is loaded.
//!
//! An inference runs on the thread that polls its guest. It neither yields nor is its memory
//! counted: other guests and a kill wait for it. Therefore it is only for nodes with trusted
//! guests, and off by default.

use wasmtime_wasi_nn::{InMemoryRegistry, Registry, backend, wit::WasiNnCtx};

/// Creates the state of one store: all backends, and no models of the host.
pub(crate) fn context() -> WasiNnCtx {
    WasiNnCtx::new(backend::list(), Registry::from(InMemoryRegistry::new()))
}
