//! The store of a component: its state and its construction.

use std::{
    fs::File,
    ptr,
    sync::{Arc, Weak},
};

use runwasi_core::{
    EngineError, GuestContext, InstanceSpec, engine::extensions::Extensions, paths::Roots,
    resources::memory::BeyondLimit, rootfs::Upper, stdio::Stdio,
};
use wasmtime::{CallHook, Engine, Store, StoreContextMut, component::ResourceTable};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    cli::{StdoutStream, WasiCliView},
    p2::{
        DynOutputStream,
        bindings::cli::{stderr::Host as _, stdout::Host as _},
    },
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::{
    descriptors::{Count, Descriptors},
    unsent::Unsent,
};
use crate::{
    limits::{self, Limited, Limits},
    outbound::{NetworkAccess, Outbound, room::SocketLife},
    shares::{Share, Shares},
    turns,
    wasi::{config::Values, context, keyvalue, stdio::Standard},
};

/// Handles of one store: as many as entries of the tables below. wasmtime's own 100,000 would end
/// guests with a garbage collector, which drop handles late.
const MOST_HANDLES: usize = 1_000_000;

/// Host state behind the guest's imports, shared by all stores of a process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Imports {
    outbound: Outbound,
    config: Arc<Values>,
    keyvalue: Arc<keyvalue::Store>,
    pub(crate) shares: Shares,
}

impl Imports {
    /// Creates the state of one process, before its code runs.
    pub(crate) async fn begin(
        spec: &InstanceSpec,
        access: &Arc<NetworkAccess>,
        context: &GuestContext,
        shares: &Shares,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            outbound: Outbound::begin(access, context, shares.descriptors.clone()).await?,
            config: Arc::new(Values::of(spec)),
            keyvalue: keyvalue::Store::of(spec),
            shares: shares.clone(),
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
    /// Directories that bound its paths.
    roots: Roots,
    /// Where its writes to a volatile root file system go.
    upper: Option<Arc<Upper>>,
    stdio: Stdio,
    /// Standard streams that were opened by their names in `/dev`.
    // Weak, as the files that `Descriptors` counts.
    streams: Vec<(Weak<File>, Standard)>,
    limits: Limits,
    /// Reservation of the store's part of the pool.
    share: Share,
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
        // First, so that a guest that does not fit fails before its files are opened.
        let share = imports.shares.take()?;
        let context = context::component_context(spec)?;
        let mut store = Self::with_context(engine, spec, context, imports, share)
            .map_err(EngineError::begins_beyond)?;
        // After the store, because only a view of the store gives access to the preopens.
        context::share_preopens(store.data_mut(), spec)?;
        store.data_mut().roots = Roots::of(&spec.rootfs);
        Ok(store)
    }

    /// Creates a store with an existing WASI context. Its drop releases its memory charge.
    pub(crate) fn with_context(
        engine: &Engine,
        spec: &InstanceSpec,
        wasi: WasiCtx,
        imports: Imports,
        share: Share,
    ) -> Result<Store<Self>, BeyondLimit> {
        // First, because only the charge can fail.
        let limits = Limits::new(spec.memory.charge(), imports.shares.memory_bytes)?;
        let limits = limits.count(share.memories());
        let held = imports.shares.descriptors.hold();
        let descriptors = Descriptors::new(spec, held, imports.outbound.room.clone());
        let component = Self {
            wasi,
            // With wasmtime's own bounds of 1,000,000 entries, for this and for the second table of
            // async components: guests with a garbage collector drop handles late. The entries are
            // charged like all host memory.
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            outbound: imports.outbound,
            config: imports.config,
            keyvalue: imports.keyvalue,
            #[cfg(feature = "wasi-nn")]
            nn: crate::wasi::nn::context(),
            descriptors,
            roots: Roots::of(&spec.rootfs),
            upper: spec.rootfs.upper().cloned(),
            stdio: spec.stdio.clone(),
            streams: Vec::new(),
            limits,
            share,
            extensions: spec.extensions.clone(),
        };
        let mut store = Store::new(engine, component);
        store.set_hostcall_fuel(limits::call_bytes(&spec.memory));
        store.set_max_component_handles(MOST_HANDLES);
        store.limiter(|component| &mut component.limits);
        limits::yield_at_ticks(&mut store);
        count_calls(&mut store);
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

    /// The cause of the guest's end.
    pub(crate) fn explain(&self, error: wasmtime::Error) -> wasmtime::Error {
        self.limits.explain(error)
    }

    /// Reserves and charges the stack that a call may need.
    fn begin_call(&mut self, at: usize) -> wasmtime::Result<()> {
        if self.share.begin_call(at).map_err(EngineError::from)?
            && let Err(beyond) = self.limits.add_stack()
        {
            // The call does not begin, and has no end of its own.
            self.share.take_call_back(at);
            return Err(beyond.into());
        }
        Ok(())
    }

    fn end_call(&mut self, at: usize) {
        if self.share.end_call(at) {
            self.limits.remove_stack();
        }
    }

    /// Goes on with a count of open files and sockets. Returns the number that the guest may still
    /// open at its end.
    pub(super) fn count_descriptors(&mut self, count: &mut Count) -> Option<usize> {
        self.descriptors.count(&mut self.table, count)
    }

    /// Directories that bound the paths of the guest.
    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Where writes to a volatile root file system go.
    pub(super) fn upper(&self) -> Option<Arc<Upper>> {
        self.upper.clone()
    }

    /// Notes that an opened file stands for a standard stream.
    pub(super) fn opened_stream(&mut self, file: &Arc<File>, number: u32) {
        self.streams.retain(|(file, _)| file.strong_count() > 0);
        self.streams.push((Arc::downgrade(file), Standard::of(&self.stdio, number)));
    }

    /// The standard stream that an opened file stands for.
    pub(super) fn stream(&self, file: &Arc<File>) -> Option<Standard> {
        let found = self.streams.iter().find(|(opened, _)| opened.as_ptr() == Arc::as_ptr(file));
        found.map(|(_, stream)| stream.clone())
    }

    /// Streams of the guest's output. Each is ready when all that the guest has written is.
    pub(crate) fn outputs(&mut self) -> wasmtime::Result<Vec<DynOutputStream>> {
        let named = self.streams.iter().filter_map(|(_, stream)| match stream {
            Standard::Output(stdout) => Some(stdout.p2_stream()),
            Standard::Input(_) => None,
        });
        let mut outputs: Vec<_> = named.collect();
        let (stdout, stderr) = {
            let mut cli = self.cli();
            (cli.get_stdout()?, cli.get_stderr()?)
        };
        for stream in [stdout, stderr] {
            outputs.push(self.table.delete(stream)?);
        }
        Ok(outputs)
    }

    /// Counts a socket in the table.
    pub(super) fn made_socket(&mut self) {
        self.descriptors.made();
    }

    /// Counts a dropped socket.
    pub(super) fn closed_socket(&mut self, resource: u32) {
        self.descriptors.closed(resource);
    }

    /// The life of a TCP socket of p3, to be held by a stream of it.
    pub(super) fn life_of_socket(&mut self, resource: u32) -> Arc<SocketLife> {
        self.descriptors.life(resource)
    }

    /// Notes the life of a TCP socket of p3.
    pub(super) fn socket_lives(&mut self, resource: u32, life: &Arc<SocketLife>) {
        self.descriptors.began(resource, life);
    }

    /// Counts an opened file.
    pub(super) fn opened(&mut self, file: &Arc<File>) {
        self.descriptors.opened(file);
    }

    /// Resource table and context of `wasi:nn`.
    #[cfg(feature = "wasi-nn")]
    pub(crate) fn nn(&mut self) -> (&mut ResourceTable, &mut wasmtime_wasi_nn::wit::WasiNnCtx) {
        (&mut self.table, &mut self.nn)
    }
}

/// Number of files and sockets that the guest may still open.
pub(super) async fn descriptors_left(store: &mut StoreContextMut<'_, Component>) -> usize {
    let mut count = Count::default();
    loop {
        match store.data_mut().count_descriptors(&mut count) {
            Some(left) => return left,
            None => turns::end().await,
        }
    }
}

/// Takes the output streams that the guest has not dropped and that still send. Each is ready when
/// what the guest has written is out.
pub(crate) async fn unsent(store: &mut Store<Component>) -> Vec<DynOutputStream> {
    let mut unsent = Unsent::default();
    while !unsent.take_part(&mut store.data_mut().table) {
        turns::end().await;
    }
    unsent.streams()
}

/// Counts the calls of the guest's code, which may each hold a stack.
// wasmtime's pool has stacks for all guests together, and a guest can make it take as many as it
// has components, in calls that never end.
fn count_calls(store: &mut Store<Component>) {
    store.call_hook(|mut store, hook| {
        let component = store.data_mut();
        // On the stack of the call.
        let here = 0_u8;
        let at = ptr::from_ref(&here).addr();
        match hook {
            CallHook::CallingWasm => component.begin_call(at),
            CallHook::ReturningFromWasm => {
                component.end_call(at);
                Ok(())
            }
            CallHook::CallingHost | CallHook::ReturningFromHost => Ok(()),
        }
    });
}

impl Limited for Component {
    fn limits(&mut self) -> &mut Limits {
        &mut self.limits
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
