//! The engine: a guest is one resumable call of wasmi.
//!
//! Fuel is the clock. A call that is out of fuel ends the turn of the guest and goes on with a new
//! slice, so pause, kill, quota and shares work. Functions of WASI leave the interpreter, are awaited
//! outside of it, and the call goes on with their result: no thread is ever blocked.

use std::sync::Arc;

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, ExitStatus, GuestContext, Instance, InstanceSpec, Prepared,
    artifact::Artifact, blocking::blocking, resources::growth::Growth, resources::memory::Charge,
};
use tokio::task::yield_now;
use wasmi::{Config, Error, Func, Memory, Module, ResourceLimiter, ResumableCall, Store, Val};

use crate::wasi::{self, HostCall};

/// Fuel of one turn: less than a millisecond of simple instructions.
const SLICE: u64 = 200_000;

/// Depth of a guest's calls. wasmi's default is 1000.
const DEPTH: usize = 10_000;

/// Bytes of the interpreter's stacks for a guest: wasmi's default of 1 MB for values, and the calls.
const STACK: u64 = 1_000_000 + 50 * DEPTH as u64;

/// The engine. It keeps nothing: wasmi frees the code of a module only with its own engine, so each
/// guest has one.
#[derive(Default)]
pub struct Wasmi;

#[async_trait]
impl Engine for Wasmi {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        let artifact = spec.read(&spec.find().await?).await?;
        let charge = spec.memory.charge();
        // On a thread for work that takes its time: this one answers containerd.
        let ready = blocking(move || instantiate(&artifact, charge), EngineError::from).await?;
        Ok(Arc::new(Guest { spec, ready: Prepared::new(ready) }))
    }
}

/// A guest. `run` takes what is ready.
struct Guest {
    spec: InstanceSpec,
    ready: Prepared<Ready>,
}

/// An instance of which no code has run yet, its entry and its memory.
type Ready = (Store<Limiter>, Func, Memory);

fn instantiate(artifact: &Artifact, charge: Charge) -> Result<Ready, EngineError> {
    let invalid = |reason| EngineError::Invalid { path: artifact.path.clone(), reason };
    let wrong = |error: Error| invalid(error.to_string());
    let mut config = Config::default();
    // No start function, which would be guest code. Code that is made at its first call takes fuel
    // from the guest, and a call that is out of it there cannot go on.
    config.compilation_mode(wasmi::CompilationMode::Eager);
    config.consume_fuel(true).allow_start_fn(false).set_max_recursion_depth(DEPTH);
    let engine = wasmi::Engine::new(&config);
    let module = Module::new(&engine, &artifact.bytes[..]).map_err(wrong)?;
    let growth = Growth::new(charge, STACK).map_err(EngineError::begins_beyond)?;
    let mut store = Store::new(&engine, Limiter(growth));
    store.limiter(|limiter| limiter);
    let linked = wasi::linker(&module).map_err(wrong)?;
    let instance = linked.instantiate_and_start(&mut store, &module).map_err(|error| {
        store.data().0.refused().map_or_else(|| wrong(error), EngineError::begins_beyond)
    })?;
    let name = artifact.function.as_deref().unwrap_or("_start");
    let entry = *instance.get_typed_func::<(), ()>(&store, name).map_err(wrong)?.func();
    let memory = instance.get_memory(&store, "memory");
    let memory = memory.ok_or_else(|| invalid("exports no memory".to_owned()))?;
    store.data_mut().0.started();
    Ok((store, entry, memory))
}

#[async_trait]
impl Instance for Guest {
    async fn run(self: Arc<Self>, context: GuestContext) -> Result<ExitStatus, EngineError> {
        let mut ready = self.ready.take()?;
        context.ready();
        let ended = drive(&mut ready, &self.spec).await;
        let refused = ready.0.data().0.refused();
        // Freed now: the report of an error may wait for a reader of stderr.
        drop(ready);
        Ok(self.spec.end(ended, refused).await)
    }
}

/// Runs a guest to its end.
async fn drive(ready: &mut Ready, spec: &InstanceSpec) -> Result<ExitStatus, Error> {
    let (store, entry, memory) = ready;
    let mut call = entry.call_resumable(&mut *store, &[], &mut [])?;
    loop {
        call = match call {
            ResumableCall::Finished => return Ok(ExitStatus::SUCCESS),
            ResumableCall::OutOfFuel(paused) => {
                yield_now().await;
                // One instruction, like a large `memory.copy`, may cost more than a slice.
                store.set_fuel(SLICE.max(paused.required_fuel()))?;
                paused.resume(&mut *store, &mut [])?
            }
            ResumableCall::HostTrap(paused) => {
                let call = paused.host_error().downcast_ref::<HostCall>();
                let Some(call) = call else { return Err(paused.into_host_error()) };
                if let ("proc_exit", &[code]) = (&*call.name, &call.args[..]) {
                    return Ok(ExitStatus::code(code as i32));
                }
                let answer = wasi::answer(spec, memory.data_mut(&mut *store), call).await;
                paused.resume(&mut *store, &[Val::I32(answer.err().unwrap_or(0))], &mut [])?
            }
        }
    }
}

/// Charges what a guest grows to the memory of its container.
pub(crate) struct Limiter(Growth);

type Grown<T = bool> = Result<T, wasmi_core::LimiterError>;

impl ResourceLimiter for Limiter {
    fn memory_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Grown {
        let grown = self.0.grow(wanted - now, 0);
        grown.map_err(|_| wasmi_core::LimiterError::ResourceLimiterDeniedAllocation)
    }

    fn table_growing(&mut self, now: usize, wanted: usize, _: Option<usize>) -> Grown {
        self.memory_growing(0, (wanted - now) * size_of::<u64>(), None)
    }

    // Also before an instruction that grows is tried again with more fuel.
    fn memory_grow_failed(&mut self, _: &wasmi::errors::MemoryError) -> Grown<()> {
        self.0.failed();
        Ok(())
    }

    fn table_grow_failed(&mut self, _: &wasmi::errors::TableError) -> Grown<()> {
        self.0.failed();
        Ok(())
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        100
    }

    fn memories(&self) -> usize {
        1
    }
}
