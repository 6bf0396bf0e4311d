//! One guest, of whatever kind: run to its end, which becomes its status. Made by `engine`, run by the driver of `runwasi-core`.

use std::sync::Arc;

use async_trait::async_trait;
use runwasi_core::{EngineError, ExitStatus, GuestContext, Instance, InstanceSpec};
use wasmtime::{PoolConcurrencyLimitError, Trap, component::InstancePre};

use crate::{
    artifact::Ready,
    component::{Component, command},
    engine::Pool,
    exit,
    limits::{self, OutOfMemory},
    module,
    outbound::Outbound,
    world::{self, ModuleEntry, World},
};

/// A guest that is ready to run.
pub(crate) struct WasmtimeInstance {
    /// Compiled and linked: everything but the memory.
    ready: Arc<Ready>,
    entry: Entry,
    spec: InstanceSpec,
    pool: Arc<Pool>,
}

/// What is run of it.
enum Entry {
    Module(ModuleEntry),
    Component(World, Outbound),
}

impl WasmtimeInstance {
    /// What can be known to fail without running the guest fails here.
    pub(crate) fn new(
        ready: Arc<Ready>,
        function: Option<&str>,
        spec: InstanceSpec,
        pool: Arc<Pool>,
    ) -> Result<Self, EngineError> {
        let path = || spec.program.as_ref().map(|program| program.path.clone()).unwrap_or_default();
        let invalid = |reason: String| EngineError::Invalid { path: path(), reason };
        let entry = match ready.as_ref() {
            Ready::Module(pre) => Entry::Module(world::module_entry(pre.module(), function).map_err(invalid)?),
            Ready::Component(pre) => {
                let world = world::component_world(pre.component(), function).map_err(invalid)?;
                Entry::Component(world, Outbound::new(&spec)?)
            }
        };
        Ok(Self { ready, entry, spec, pool })
    }

    async fn run_guest(&self, context: GuestContext) -> Result<ExitStatus, EngineError> {
        match (self.ready.as_ref(), &self.entry) {
            (Ready::Module(pre), Entry::Module(entry)) => module::run(pre, entry, &self.spec, &context).await,
            (Ready::Component(pre), Entry::Component(world, outbound)) => {
                self.run_component(pre, world, outbound.clone(), &context).await
            }
            _ => Err(EngineError::Failed("the guest is of another kind than its entry".into())),
        }
    }

    async fn run_component(
        &self,
        pre: &InstancePre<Component>,
        world: &World,
        outbound: Outbound,
        context: &GuestContext,
    ) -> Result<ExitStatus, EngineError> {
        let mut store = Component::store(pre.engine(), &self.spec, outbound)?;
        let instance = match module::ready_if_long(context, pre.instantiate_async(&mut store)).await {
            Ok(instance) => instance,
            Err(error) => return failed_start(error, &self.spec).await,
        };
        store.data_mut().started();
        context.ready();
        let ended = match world {
            World::CommandP2 => command::run_p2(&mut store, &instance).await,
            World::CommandP3 => command::run_p3(&mut store, &instance).await,
            World::Function(function) => command::call(&mut store, &instance, function).await,
            World::HttpP2 | World::HttpP3 => {
                let what = format!("{}: a server", self.spec.args[0]);
                return Err(EngineError::Unsupported { what, why: "this version runs commands".into() });
            }
        };
        Ok(exit::status(ended, &self.spec).await)
    }
}

#[async_trait]
impl Instance for WasmtimeInstance {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        let ticker = self.pool.ticker.clone();
        ticker.during(self.run_guest(context)).await
    }
}

/// What a failed instantiation means: code of the guest may have run in it, which then has ended like any other.
pub(crate) async fn failed_start(error: wasmtime::Error, spec: &InstanceSpec) -> Result<ExitStatus, EngineError> {
    if error.is::<Trap>() || error.is::<wasmtime_wasi::I32Exit>() {
        return Ok(exit::status(Err(error), spec).await);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Err(EngineError::Exhausted { what: "instance slots", reason: format!("{error:#}") });
    }
    Err(match error.downcast_ref() {
        Some(OutOfMemory(error)) => limits::beyond(*error),
        None => EngineError::Failed(format!("instantiate: {error:#}")),
    })
}
