//! Runs a guest of any kind to its end and returns its exit status.

use std::{pin::pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use runwasi_core::{
    EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, Signal, SignalResponse,
    artifact::Program,
};
use tokio::time::timeout;
use wasmtime::{InstancePre, component};

use crate::{
    component::{
        command,
        store::{Component, Imports, unsent},
    },
    exit, gc_heap,
    http::{Further, Server},
    limits,
    module::{self, store},
    module_cache::Ready,
    outbound::NetworkAccess,
    pool::Pool,
    shares::Shares,
    start,
    world::{self, Command, ModuleEntry, Wasi, World},
};

/// How long the connections of a guest that has ended may take to send what it has written.
// The last write of a stream goes on in the background, where the kernel has no room for it. The
// kernel would send the rest for longer, but a peer that does not read must not hold the end.
const SENT: Duration = Duration::from_secs(5);

/// A guest that is ready to run.
pub(crate) struct WasmtimeInstance {
    /// Compiled and linked code. Only the instantiation is left.
    ready: Arc<Ready>,
    entry: Entry,
    spec: InstanceSpec,
    pool: Arc<Pool>,
    /// Shares of the pool for its stores.
    shares: Shares,
}

/// Entry point of the guest.
enum Entry {
    Module(ModuleEntry),
    Component(Command, Arc<NetworkAccess>),
    Server(Server),
}

impl WasmtimeInstance {
    /// Selects the entry point. Reports every error that is known before the guest runs.
    pub(crate) fn new(
        ready: Arc<Ready>,
        program: &Program,
        spec: InstanceSpec,
        pool: Arc<Pool>,
    ) -> Result<Self, EngineError> {
        limits::watch(&spec, &pool.ticker);
        let function = program.function.as_deref();
        let invalid = |reason: String| EngineError::Invalid { path: program.path.clone(), reason };
        let shares = shares(&ready, &spec, &pool)?;
        let entry = match ready.as_ref() {
            Ready::Module(pre) => {
                // A module has no network, but an invalid annotation is an error for it, too.
                NetworkAccess::check(&spec, program)?;
                Entry::Module(world::module_entry(pre.module(), function).map_err(invalid)?)
            }
            Ready::Component(pre) => {
                let access = NetworkAccess::of(&spec, program)?;
                match world::component_world(pre.component(), function).map_err(invalid)? {
                    World::Command(command) => Entry::Component(command, access),
                    World::Server(Wasi::P2) => {
                        Entry::Server(Server::p2(pre.clone(), program, &spec, access)?)
                    }
                    World::Server(Wasi::P3) => {
                        Entry::Server(Server::p3(pre.clone(), program, &spec, access)?)
                    }
                }
            }
        };
        Ok(Self { ready, entry, spec, pool, shares })
    }

    /// Linear memories of one of its stores.
    pub(crate) fn memories(&self) -> u32 {
        self.shares.memories()
    }

    async fn run_module(
        &self,
        pre: &InstancePre<store::Guest>,
        entry: &ModuleEntry,
        context: &GuestContext,
    ) -> Result<ExitStatus, EngineError> {
        module::run(pre, entry, &self.spec, context, &self.shares).await
    }

    async fn run_component(
        &self,
        pre: &component::InstancePre<Component>,
        command: &Command,
        access: &Arc<NetworkAccess>,
        context: &GuestContext,
    ) -> Result<ExitStatus, EngineError> {
        let imports = Imports::begin(&self.spec, access, context, &self.shares).await?;
        let mut store = Component::store(pre.engine(), &self.spec, imports)?;
        let instance = match start::ready_if_long(context, pre.instantiate_async(&mut store)).await
        {
            Ok(instance) => instance,
            Err(error) => {
                let error = store.data().explain(error);
                return start::failed_start(error, &self.spec, context).await;
            }
        };
        store.data_mut().started();
        // Dropped before the store, also by a kill.
        let running = store.data_mut().outbound.run();
        gc_heap::enlarge(&mut store, gc_heap::OF_PROCESS).map_err(start::failed)?;
        context.ready();
        let run = async {
            match command {
                Command::Run(Wasi::P2) => command::run_p2(&mut store, &instance).await,
                Command::Run(Wasi::P3) => command::run_p3(&mut store, &instance).await,
                Command::Function(function) => command::call(&mut store, &instance, function).await,
            }
        };
        let ended = limits::bounded(&self.spec.memory, pin!(run)).await;
        let ended = ended.map_err(|error| store.data().explain(error));
        // Nothing of it goes on, whether it has returned or not.
        drop(running);
        // An error: the guest has filled its table, and what it has not waited for is lost.
        let mut outputs = store.data_mut().outputs().unwrap_or_default();
        let unsent = unsent(&mut store).await;
        // Freed now: the output and the report may wait for a reader.
        drop(store);
        // Each goes as soon as it is ready. An error: the time is over.
        let ready = unsent.into_iter().map(|mut stream| async move { stream.ready().await });
        let _ = timeout(SENT, join_all(ready)).await;
        for output in &mut outputs {
            output.ready().await;
        }
        Ok(exit::status(ended, &self.spec).await)
    }
}

/// Shares for the stores of a program.
fn shares(ready: &Ready, spec: &InstanceSpec, pool: &Pool) -> Result<Shares, EngineError> {
    let required = match ready {
        Ready::Module(pre) => Some(pre.module().resources_required()),
        Ready::Component(pre) => pre.component().resources_required(),
    };
    Shares::of(required.as_ref(), spec, &pool.settings, pool.account.clone())
}

#[async_trait]
impl Instance for WasmtimeInstance {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        let ticker = &self.pool.ticker;
        // `during` boxes each kind of future on its own. A sleeping guest then takes the memory of
        // its own kind, not that of the largest one.
        match (self.ready.as_ref(), &self.entry) {
            (Ready::Module(pre), Entry::Module(entry)) => {
                ticker.during(self.run_module(pre, entry, &context)).await
            }
            (Ready::Component(pre), Entry::Component(command, access)) => {
                ticker.during(self.run_component(pre, command, access, &context)).await
            }
            (_, Entry::Server(server)) => {
                let further = Further::of(&self.pool, &self.ready, &self.spec);
                let rooms = (&self.shares, further);
                ticker.during(server.run(&self.spec, ticker.clone(), &context, rooms)).await
            }
            // `new` pairs the two, so this is never reached.
            _ => Err(EngineError::Failed("the guest is of another kind than its entry".into())),
        }
    }

    fn signal(&self, signal: Signal) -> SignalResponse {
        match &self.entry {
            // A server drains its requests. Other guests have no graceful stop.
            Entry::Server(server)
                if matches!(signal, Signal::TERM | Signal::INT | Signal::QUIT) =>
            {
                server.stop();
                SignalResponse::Handled
            }
            _ => SignalResponse::Unhandled,
        }
    }
}
