//! Components: what their stores hold and how one is made. Used by `instance` and `http`.
//!
//! | module | one thing |
//! |---|---|
//! | [`link`] | what components may import |
//! | [`files`] | the file calls that stand in front of the library's own |
//! | [`command`] | a component that is run once: p2 or p3 command, or a named function |

pub(crate) mod command;
mod files;
pub(crate) mod link;

use std::sync::Arc;

use runwasi_core::{EngineError, InstanceSpec, resources::memory::BeyondLimit};
use tokio::sync::RwLock;
use wasmtime::{Engine, Store, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    limits::{self, Limits},
    outbound::Outbound,
    wasi,
};

/// What a component's store holds.
pub(crate) struct Component {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    /// The guest's way to the network.
    pub(crate) outbound: Outbound,
    limits: Limits,
    /// Its container's: see [`Rootfs::names`](runwasi_core::bundle::rootfs::Rootfs::names).
    names: Arc<RwLock<()>>,
}

impl Component {
    /// A store for one instance of a component. What it has taken goes with it.
    pub(crate) fn store(engine: &Engine, spec: &InstanceSpec, outbound: Outbound) -> Result<Store<Self>, EngineError> {
        let context = wasi::component_context(spec)?;
        let mut store = Self::with_context(engine, spec, context, outbound).map_err(limits::beyond)?;
        wasi::share_preopens(store.data_mut(), spec)?;
        Ok(store)
    }

    /// A store with that context. What it has taken goes with it.
    pub(crate) fn with_context(
        engine: &Engine,
        spec: &InstanceSpec,
        wasi: WasiCtx,
        outbound: Outbound,
    ) -> Result<Store<Self>, BeyondLimit> {
        let limits = Limits::new(spec.memory.charge())?;
        let (table, http, names) = (ResourceTable::new(), WasiHttpCtx::new(), spec.rootfs.names());
        let mut store = Store::new(engine, Self { wasi, table, http, outbound, limits, names });
        store.limiter(|component| &mut component.limits);
        // Yield at the first tick of every poll: nobody computes longer than one quantum.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }

    /// The context of a guest that has returned, to be used again.
    pub(crate) fn into_context(self) -> WasiCtx {
        self.wasi
    }

    /// The guest has all it begins with: from now on it can be refused more.
    pub(crate) fn started(&mut self) {
        self.limits.started();
    }
}

impl WasiView for Component {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Component {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outbound }
    }
}
