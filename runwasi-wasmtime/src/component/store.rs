//! The store of a component: what it holds, and how one is made.

use std::sync::Arc;

use runwasi_core::{EngineError, GuestContext, InstanceSpec, resources::memory::BeyondLimit};
use tokio::sync::RwLock;
use wasmtime::{Engine, Store, component::ResourceTable};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, filesystem::Descriptor};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::descriptors::Descriptors;
use crate::{
    limits::{self, Limits},
    outbound::{NetworkAccess, Outbound},
    wasi::{config::Values, context, keyvalue},
};

/// What all stores of a process have in common, in the places of what its guest imports. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Imports {
    outbound: Outbound,
    config: Arc<Values>,
    keyvalue: Arc<keyvalue::Store>,
}

impl Imports {
    /// For one process, before its code runs.
    pub(crate) async fn begin(
        spec: &InstanceSpec,
        access: &Arc<NetworkAccess>,
        context: &GuestContext,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            outbound: Outbound::begin(access, context).await?,
            config: Arc::new(Values::of(spec)),
            keyvalue: keyvalue::Store::of(spec),
        })
    }
}

/// What a component's store holds.
pub(crate) struct Component {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    /// The guest's way to the network.
    pub(crate) outbound: Outbound,
    /// What it finds in `wasi:config`.
    pub(crate) config: Arc<Values>,
    /// What it and its container's others keep in `wasi:keyvalue`.
    pub(crate) keyvalue: Arc<keyvalue::Store>,
    #[cfg(feature = "wasi-nn")]
    nn: wasmtime_wasi_nn::wit::WasiNnCtx,
    descriptors: Descriptors,
    limits: Limits,
    /// Its container's: see [`Rootfs::names`](runwasi_core::rootfs::Rootfs::names).
    pub(super) names: Arc<RwLock<()>>,
}

impl Component {
    /// A store for one instance of a component. What it has taken goes with it.
    pub(crate) fn store(
        engine: &Engine,
        spec: &InstanceSpec,
        imports: Imports,
    ) -> Result<Store<Self>, EngineError> {
        let context = context::component_context(spec)?;
        let mut store =
            Self::with_context(engine, spec, context, imports).map_err(limits::beyond)?;
        context::share_preopens(store.data_mut(), spec)?;
        Ok(store)
    }

    /// A store with that context. What it has taken goes with it.
    pub(crate) fn with_context(
        engine: &Engine,
        spec: &InstanceSpec,
        wasi: WasiCtx,
        imports: Imports,
    ) -> Result<Store<Self>, BeyondLimit> {
        let limits = Limits::new(spec.memory.charge())?;
        let descriptors = Descriptors::new(spec);
        let mut table = ResourceTable::new();
        let capacity = descriptors.table_capacity();
        table.set_max_capacity(capacity);
        let component = Self {
            wasi,
            table,
            http: WasiHttpCtx::new(),
            outbound: imports.outbound,
            config: imports.config,
            keyvalue: imports.keyvalue,
            #[cfg(feature = "wasi-nn")]
            nn: crate::wasi::nn::context(),
            descriptors,
            limits,
            names: spec.rootfs.names(),
        };
        let mut store = Store::new(engine, component);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(capacity);
        }
        store.limiter(|component| &mut component.limits);
        // Yield at the first tick of every poll: nobody computes longer than from one tick to the next.
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

    /// How many more files and sockets it may open.
    pub(super) fn descriptors_left(&mut self) -> usize {
        self.descriptors.left(&mut self.table)
    }

    /// Takes note of a file that was opened.
    pub(super) fn opened(&mut self, descriptor: &Descriptor) {
        self.descriptors.opened(descriptor);
    }

    /// What `wasi:nn` works on.
    #[cfg(feature = "wasi-nn")]
    pub(crate) fn nn(&mut self) -> (&mut ResourceTable, &mut wasmtime_wasi_nn::wit::WasiNnCtx) {
        (&mut self.table, &mut self.nn)
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
