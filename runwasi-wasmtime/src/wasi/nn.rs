//! `wasi:nn`, behind the cargo feature `wasi-nn`: models that guests bring along, run by the host's OpenVINO, which is looked for
//! when the first one is loaded.
//!
//! An inference runs on the thread that polls its guest, and neither yields nor counts as memory: other guests and a kill wait
//! for it. Hence it is for nodes whose guests are trusted, and off unless asked for.

use wasmtime_wasi_nn::{InMemoryRegistry, Registry, backend, wit::WasiNnCtx};

/// What one store needs of it: the backends, and no models of the host's own.
pub(crate) fn context() -> WasiNnCtx {
    WasiNnCtx::new(backend::list(), Registry::from(InMemoryRegistry::new()))
}
