//! A core module: its store, its start, its entry.

pub(crate) mod preview1;

use std::{
    future::{Future, poll_fn},
    sync::Arc,
};

use runwasi_core::{EngineError, ExitStatus, GuestContext, InstanceSpec};
use tokio::sync::RwLock;
use wasmtime::{Instance, InstancePre, Store, Val};
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::{
    exit, instance,
    limits::{self, Limits},
    wasi,
    world::ModuleEntry,
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

/// Runs it to its end.
pub(crate) async fn run(
    pre: &InstancePre<Guest>,
    entry: &ModuleEntry,
    spec: &InstanceSpec,
    context: &GuestContext,
) -> Result<ExitStatus, EngineError> {
    let mut store = store(pre, spec)?;
    let instance = match ready_if_long(context, pre.instantiate_async(&mut store)).await {
        Ok(instance) => instance,
        Err(error) => return instance::failed_start(error, spec).await,
    };
    store.data_mut().limits.started();
    context.ready();
    let called = call(entry, &mut store, &instance).await;
    Ok(exit::status(called, spec).await)
}

fn store(pre: &InstancePre<Guest>, spec: &InstanceSpec) -> Result<Store<Guest>, EngineError> {
    let limits = Limits::new(spec.memory.charge()).map_err(limits::beyond)?;
    let (wasi, names, open_files) = (wasi::context::module_context(spec)?, spec.rootfs.names(), spec.open_files);
    let mut store = Store::new(pre.module().engine(), Guest { wasi, limits, names, open_files });
    store.limiter(|guest| &mut guest.limits);
    // Yield at the first tick of every poll: nobody computes longer than from one tick to the next.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    Ok(store)
}

/// What waits or computes long while a guest is instantiated is code of its own: it runs already.
///
/// Boxed, because it is large, and gone when the guest runs.
pub(crate) fn ready_if_long<'a, T>(
    context: &'a GuestContext,
    instantiating: impl Future<Output = T> + Send + 'a,
) -> impl Future<Output = T> + Send + 'a {
    let mut instantiating = Box::pin(instantiating);
    poll_fn(move |cx| {
        let polled = instantiating.as_mut().poll(cx);
        if polled.is_pending() {
            context.ready();
        }
        polled
    })
}

async fn call(entry: &ModuleEntry, store: &mut Store<Guest>, instance: &Instance) -> wasmtime::Result<()> {
    let initialize = entry.initialize.then_some("_initialize");
    for name in initialize.into_iter().chain([entry.function.as_str()]) {
        let missing = || wasmtime::Error::msg(format!("export {name:?} is gone"));
        let function = instance.get_func(&mut *store, name).ok_or_else(missing)?;
        // Results have no place to go: the exit status is the guest's `proc_exit`.
        let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
        function.call_async(&mut *store, &[], &mut results).await?;
    }
    Ok(())
}
