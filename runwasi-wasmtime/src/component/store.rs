//! The store of a component: its state and its construction.

use std::sync::Arc;

use runwasi_core::{
    EngineError, GuestContext, InstanceSpec, engine::extensions::Extensions,
    resources::memory::BeyondLimit,
};
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

/// Host state behind the guest's imports, shared by all stores of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Imports {
    outbound: Outbound,
    config: Arc<Values>,
    keyvalue: Arc<keyvalue::Store>,
}

impl Imports {
    /// Creates the state of one process, before its code runs.
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

/// State of a component's store: the `T` of host functions for components. Public as
/// `ComponentState`.
///
/// A command has one store for its process, a server one for each instance, which may answer
/// several requests. What has to outlive a store belongs into the [`Extensions`].
pub struct Component {
    wasi: WasiCtx,
    table: ResourceTable,
    http: WasiHttpCtx,
    /// Network access of the guest.
    pub(crate) outbound: Outbound,
    /// Values of `wasi:config`.
    pub(crate) config: Arc<Values>,
    /// Data of `wasi:keyvalue`, shared by all guests of the container.
    pub(crate) keyvalue: Arc<keyvalue::Store>,
    #[cfg(feature = "wasi-nn")]
    nn: wasmtime_wasi_nn::wit::WasiNnCtx,
    descriptors: Descriptors,
    limits: Limits,
    /// Lock of the container's file names:
    /// [`Rootfs::names`](runwasi_core::rootfs::Rootfs::names).
    pub(super) names: Arc<RwLock<()>>,
    /// True if the polling thread makes the guest's file calls: it has the guest's credentials.
    pub(super) inline_files: bool,
    extensions: Arc<Extensions>,
}

impl Component {
    /// Values of the container, shared by the stores of all its processes.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Creates a store for one instance of a component. Its drop releases its memory charge.
    pub(crate) fn store(
        engine: &Engine,
        spec: &InstanceSpec,
        imports: Imports,
    ) -> Result<Store<Self>, EngineError> {
        let context = context::component_context(spec)?;
        let mut store =
            Self::with_context(engine, spec, context, imports).map_err(limits::beyond)?;
        // After the store, because only a view of the store gives access to the preopens.
        context::share_preopens(store.data_mut(), spec)?;
        Ok(store)
    }

    /// Creates a store with an existing WASI context. Its drop releases its memory charge.
    pub(crate) fn with_context(
        engine: &Engine,
        spec: &InstanceSpec,
        wasi: WasiCtx,
        imports: Imports,
    ) -> Result<Store<Self>, BeyondLimit> {
        // First, because only the charge can fail.
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
            inline_files: spec.credentials.is_some(),
            extensions: spec.extensions.clone(),
        };
        let mut store = Store::new(engine, component);
        // wasmtime keeps its own state of async components in a second table.
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(capacity);
        }
        store.limiter(|component| &mut component.limits);
        // The guest yields at the first tick, so no guest computes longer than from one tick to the
        // next.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }

    /// Extracts the context of a guest that has returned, for reuse.
    pub(crate) fn into_context(self) -> WasiCtx {
        self.wasi
    }

    /// Marks the guest as started: from now on growth of its memory can be refused.
    pub(crate) fn started(&mut self) {
        self.limits.started();
    }

    /// Number of files and sockets that the guest may still open.
    pub(super) fn descriptors_left(&mut self) -> usize {
        self.descriptors.left(&mut self.table)
    }

    /// Counts an opened file.
    pub(super) fn opened(&mut self, descriptor: &Descriptor) {
        self.descriptors.opened(descriptor);
    }

    /// Resource table and context of `wasi:nn`.
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
