//! The store of a core module.

use std::sync::Arc;

use runwasi_core::{EngineError, InstanceSpec};
use tokio::sync::RwLock;
use wasmtime::{InstancePre, Store};
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::{
    limits::{self, Limits},
    wasi::context,
};

/// What a module's store holds.
pub(crate) struct Guest {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) limits: Limits,
    /// Its container's: see [`Rootfs::names`](runwasi_core::rootfs::Rootfs::names).
    pub(crate) names: Arc<RwLock<()>>,
    /// One more than the highest file descriptor it may have.
    pub(crate) open_files: u32,
}

pub(super) fn store(
    pre: &InstancePre<Guest>,
    spec: &InstanceSpec,
) -> Result<Store<Guest>, EngineError> {
    let limits = Limits::new(spec.memory.charge()).map_err(limits::beyond)?;
    let (wasi, names, open_files) =
        (context::module_context(spec)?, spec.rootfs.names(), spec.open_files);
    let mut store = Store::new(pre.module().engine(), Guest { wasi, limits, names, open_files });
    store.limiter(|guest| &mut guest.limits);
    // Yield at the first tick of every poll: nobody computes longer than from one tick to the next.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    Ok(store)
}
