//! One guest: instantiate, call, status. Made by `engine`, run by the driver of `runwasi-core`.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
};

use async_trait::async_trait;
use runwasi_core::{EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, resources::memory::BeyondLimit};
use tokio::sync::RwLock;
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, Val};
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::{
    artifact::Ready,
    engine::Pool,
    exit,
    limits::{Limits, OutOfMemory},
    wasi,
    world::Entry,
};

/// What a guest's store holds.
pub(crate) struct Guest {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) limits: Limits,
    /// Its container's: see [`Rootfs::names`](runwasi_core::bundle::rootfs::Rootfs::names).
    pub(crate) names: Arc<RwLock<()>>,
    /// One more than the highest file descriptor it may have.
    pub(crate) open_files: u32,
}

/// A guest that is ready to run.
pub(crate) struct WasmtimeInstance {
    /// Compiled and linked: everything but the memory.
    ready: Arc<Ready>,
    entry: Entry,
    spec: InstanceSpec,
    pool: Arc<Pool>,
}

impl WasmtimeInstance {
    pub(crate) fn new(ready: Arc<Ready>, entry: Entry, spec: InstanceSpec, pool: Arc<Pool>) -> Self {
        Self { ready, entry, spec, pool }
    }

    async fn run_guest(&self, context: GuestContext) -> Result<ExitStatus, EngineError> {
        let mut store = self.store()?;
        let instance = match self.instantiate(&mut store, &context).await {
            Ok(instance) => instance,
            // The module's own start function is guest code already.
            Err(error) if is_guests(&error) => return Ok(exit::status(Err(error), &self.spec).await),
            Err(error) => return Err(start_error(&error)),
        };
        store.data_mut().limits.started();
        context.ready();
        let called = self.call(&mut store, &instance).await;
        Ok(exit::status(called, &self.spec).await)
    }

    /// What waits or computes long in here is the module's start function: the guest runs already.
    async fn instantiate(
        &self,
        store: &mut Store<Guest>,
        context: &GuestContext,
    ) -> wasmtime::Result<wasmtime::Instance> {
        let mut instantiating = pin!(self.ready.pre.instantiate_async(store));
        poll_fn(|cx| {
            let polled = instantiating.as_mut().poll(cx);
            if polled.is_pending() {
                context.ready();
            }
            polled
        })
        .await
    }

    fn store(&self) -> Result<Store<Guest>, EngineError> {
        let engine = self.ready.module.engine();
        let limits = Limits::new(self.spec.memory.charge()).map_err(beyond)?;
        let (wasi, names, open_files) = (wasi::context(&self.spec)?, self.spec.rootfs.names(), self.spec.open_files);
        let mut store = Store::new(engine, Guest { wasi, limits, names, open_files });
        store.limiter(|guest| &mut guest.limits);
        // Yield at the first tick of every poll: nobody computes longer than one quantum.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }

    async fn call(&self, store: &mut Store<Guest>, instance: &wasmtime::Instance) -> wasmtime::Result<()> {
        let initialize = self.entry.initialize.then_some("_initialize");
        for name in initialize.into_iter().chain([self.entry.function.as_str()]) {
            let missing = || wasmtime::Error::msg(format!("export {name:?} is gone"));
            let function = instance.get_func(&mut *store, name).ok_or_else(missing)?;
            // Results have no place to go: the exit status is the guest's `proc_exit`.
            let mut results = vec![Val::I32(0); function.ty(&*store).results().len()];
            function.call_async(&mut *store, &[], &mut results).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Instance for WasmtimeInstance {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        let ticker = self.pool.ticker.clone();
        ticker.during(self.run_guest(context)).await
    }
}

/// Whether an error of the instantiation comes from code of the guest.
fn is_guests(error: &wasmtime::Error) -> bool {
    error.is::<Trap>() || error.is::<wasmtime_wasi::I32Exit>()
}

fn start_error(error: &wasmtime::Error) -> EngineError {
    if error.is::<PoolConcurrencyLimitError>() {
        return EngineError::Exhausted { what: "instance slots", reason: format!("{error:#}") };
    }
    match error.downcast_ref() {
        Some(OutOfMemory(error)) => beyond(*error),
        None => EngineError::Failed(format!("instantiate: {error:#}")),
    }
}

fn beyond(error: BeyondLimit) -> EngineError {
    EngineError::Exhausted { what: "memory", reason: format!("what the guest begins with: {error}") }
}
