//! [`WasmtimeEngine`]: the one place that builds `wasmtime::Config`, and the way from an artifact to an instance.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, Instance, InstanceSpec,
    engine::Precompiled,
    image::{Artifact, cache::CodeCache, seen::SeenFiles},
    settings::Written,
};
use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock, Semaphore, SemaphorePermit},
    task::spawn_blocking,
};
use wasmtime::{Config, Enabled, Inlining, Linker, OptLevel, PoolingAllocationConfig};

use crate::{
    compiler::Compiler,
    epoch::Ticker,
    instance::WasmtimeInstance,
    limits::STACK,
    settings::{Optimise, Settings},
    wasi,
};

/// What one instance may take of its slot, for its globals and the like.
const INSTANCE_BYTES: usize = 16 << 20;
/// Core instances in a component.
const CORE_INSTANCES: u32 = 16;

/// What a slot keeps of the pages that its guest has written, filled anew for the next one. All else goes back to the system at once.
/// A server has an instance for each request: giving every page back and faulting it in again costs more than a small one computes. A
/// node that has had more guests than now keeps this much for each, until its engine is made anew.
const KEPT_MEMORY: usize = 64 << 10;
const KEPT_TABLE: usize = 16 << 10;

/// The wasmtime engine: core modules with WASI preview 1, components with WASI p2 and p3.
pub struct WasmtimeEngine {
    /// Written only while a pool is made.
    state: Arc<RwLock<State>>,
    /// What containerd's runtime options change; `None` if they may not.
    base: Option<Settings>,
}

struct State {
    settings: Settings,
    /// `None` if it could not be made.
    pool: Option<Arc<Pool>>,
}

/// A wasmtime engine with its pool of slots, and what belongs to it. Kept by its instances.
pub(crate) struct Pool {
    compiler: Compiler,
    pub(crate) ticker: Arc<Ticker>,
    /// Instances made.
    made: AtomicUsize,
    /// Those of modules and commands that run. The pool counts what they are made of, and would tell the last one of a lack only
    /// after its start.
    slots: Semaphore,
}

/// Instances after which an unused pool is made anew: wasmtime keeps the stacks of slots that were used, and the mappings that
/// using them has split.
const WORN: usize = 256;

impl WasmtimeEngine {
    /// An engine with these settings for ever. Starts its ticker thread, which sleeps as long as no guest runs.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        let state = State { settings: settings.clone(), pool: Some(Arc::new(Pool::new(settings)?)) };
        Ok(Self { state: Arc::new(RwLock::new(state)), base: None })
    }

    /// The same for one pod: the runtime options of its first container may say something else than these settings.
    pub fn for_pod(settings: &Settings) -> Result<Self, EngineError> {
        Ok(Self { base: Some(settings.clone()), ..Self::new(settings)? })
    }

    async fn pool(&self) -> Result<Arc<Pool>, EngineError> {
        let pool = self.state.read().await.pool.clone();
        pool.ok_or_else(|| EngineError::Failed("the engine could not be made again, see the log".into()))
    }
}

impl State {
    /// Refuses what these settings are not, because of `why`.
    fn demand(&self, written: &Written, why: &str) -> Result<(), EngineError> {
        match self.settings.difference(written)? {
            None => Ok(()),
            Some((entry, ours)) => {
                let reason = format!("{} cannot be had, {why} has {ours}", entry.value);
                Err(written.wrong(entry, reason).into())
            }
        }
    }

    /// Makes the pool anew. Blocks.
    fn remake(&mut self, settings: Settings) -> Result<(), EngineError> {
        // The old one first: the address space may have no room for two.
        self.pool = None;
        self.settings = settings;
        self.pool = Some(Arc::new(Pool::new(&self.settings)?));
        Ok(())
    }
}

impl Pool {
    fn new(settings: &Settings) -> Result<Self, EngineError> {
        let engine = build(settings)?;
        let mut linker = Linker::new(&engine);
        wasi::context::link(&mut linker).map_err(failed)?;
        let ticker =
            Ticker::start(&engine, settings.quantum).map_err(|error| EngineError::Failed(error.to_string()))?;
        let (cache, seen) = open_cache(settings);
        let compiler = Compiler::new(linker, key(&engine), cache, seen);
        let slots = Semaphore::new(settings.slots as usize);
        Ok(Self { compiler, ticker: Arc::new(ticker), made: AtomicUsize::new(0), slots })
    }

    /// The place of a guest that runs, until it is dropped.
    pub(crate) fn slot(&self) -> Result<SemaphorePermit<'_>, EngineError> {
        // Nobody closes it.
        let taken = |_| EngineError::Exhausted { what: "instance slots", reason: "all are taken by guests".into() };
        self.slots.try_acquire().map_err(taken)
    }
}

#[async_trait]
impl Engine for WasmtimeEngine {
    async fn instance(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        let pool = self.pool().await?;
        pool.made.fetch_add(1, Ordering::Relaxed);
        let (program, ready) = pool.compiler.ready(&spec, pool.clone()).await?;
        Ok(Arc::new(WasmtimeInstance::new(ready, &program, spec, pool)?))
    }

    async fn configure(&self, written: &Written) -> Result<(), EngineError> {
        let state = self.state.clone().write_owned().await;
        let Some(base) = &self.base else {
            return state.demand(written, "this node's daemon, whose own configuration decides,");
        };
        let wanted = base.with(written)?;
        match &state.pool {
            Some(_) if state.settings == wanted => Ok(()),
            Some(pool) if pool.made.load(Ordering::Relaxed) > 0 => {
                state.demand(written, "the pod's engine, which an earlier container has begun to use,")
            }
            _ => {
                let mut state: OwnedRwLockWriteGuard<State> = state;
                // With the guard: should nobody wait for it any more, the pool is made all the same.
                let remake = move || state.remake(wanted);
                spawn_blocking(remake).await.map_err(|error| EngineError::Failed(error.to_string()))?
            }
        }
    }

    async fn precompile(&self, artifact: Artifact) -> Result<Precompiled, EngineError> {
        let pool = self.pool().await?;
        pool.compiler.precompile(artifact, pool.clone()).await
    }

    fn tidy(&self) {
        let mut state = self.state.blocking_write();
        if let Some(current) = &state.pool {
            current.compiler.forget_unused();
            if Arc::strong_count(current) > 1 || current.made.load(Ordering::Relaxed) < WORN {
                return;
            }
        }
        let settings = state.settings.clone();
        if let Err(error) = state.remake(settings) {
            tracing::error!(%error, "the engine cannot be made again, no guest can start");
        }
    }
}

fn failed(error: wasmtime::Error) -> EngineError {
    EngineError::Failed(format!("{error:#}"))
}

/// Pooled slots, made once and reused; where the address space is too small for them, memory on demand.
fn build(settings: &Settings) -> Result<wasmtime::Engine, EngineError> {
    let mut config = config(settings);
    config.allocation_strategy(pool(settings));
    wasmtime::Engine::new(&config).or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "no pool of instances, memory is allocated on demand");
        wasmtime::Engine::new(&self::config(settings)).map_err(failed)
    })
}

/// Everything but the pool. Also for benchmarks, which compare what guests compute with and without a part of it.
pub fn config(settings: &Settings) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    // What WASI p3 is made of.
    config.wasm_component_model_async(true);
    config.max_wasm_stack(STACK);
    // Unwinding through guests is wasmtime's own; system tables would only make the code files larger.
    config.native_unwind_info(false);
    let features = settings.features;
    config.wasm_gc(features.gc).wasm_function_references(features.gc);
    config.wasm_exceptions(features.exceptions);
    config.wasm_threads(features.threads);
    config.wasm_memory64(features.memory64);
    config.wasm_simd(features.simd).wasm_relaxed_simd(features.simd);
    config.wasm_tail_call(features.tail_calls);
    let (level, inlining) = match settings.optimise {
        Optimise::None => (OptLevel::None, Inlining::No),
        Optimise::Speed => (OptLevel::Speed, Inlining::No),
        // Wins a program of many small calls what looking at the epoch costs it, or more (`compute` of the benchmarks).
        Optimise::SpeedAtAnySize => (OptLevel::Speed, Inlining::Yes),
        Optimise::SpeedAndSize => (OptLevel::SpeedAndSize, Inlining::No),
    };
    config.cranelift_opt_level(level).compiler_inlining(inlining);
    config
}

fn pool(settings: &Settings) -> PoolingAllocationConfig {
    let slots = settings.slots;
    let mut pool = PoolingAllocationConfig::new();
    // A component is made of several, and one takes nothing from the pool but its number.
    pool.total_core_instances(slots.saturating_mul(CORE_INSTANCES));
    pool.total_component_instances(slots);
    pool.total_memories(settings.room_for_memories());
    pool.max_memories_per_module(settings.module_memories);
    pool.total_tables(settings.room_for_tables());
    pool.max_tables_per_module(settings.module_tables);
    pool.table_elements(settings.table_elements as usize);
    pool.max_core_instance_size(INSTANCE_BYTES);
    pool.total_stacks(slots);
    // Each lies in a memory of the pool.
    pool.total_gc_heaps(slots);
    pool.max_unused_warm_slots(0);
    pool.linear_memory_keep_resident(KEPT_MEMORY);
    pool.table_keep_resident(KEPT_TABLE);
    pool.pagemap_scan(Enabled::Auto);
    pool
}

/// Names everything that decides whether compiled code fits: wasmtime's version, target and settings.
fn key(engine: &wasmtime::Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn open_cache(settings: &Settings) -> (Option<CodeCache>, Option<SeenFiles>) {
    let Some(directory) = settings.cache.as_deref() else { return (None, None) };
    let cache = CodeCache::open(directory, settings.cache_bytes);
    let Some(cache) = or_warn(directory, cache, "compiled code is not kept") else { return (None, None) };
    let lost = "what files held is not kept, each process reads them";
    (Some(cache), or_warn(directory, SeenFiles::open(directory), lost))
}

/// What could be opened in the cache's directory, or a warning that names what is lost.
fn or_warn<T>(directory: &Path, opened: io::Result<T>, lost: &str) -> Option<T> {
    let warn = |error: &io::Error| tracing::warn!(directory = %directory.display(), %error, "{lost}");
    opened.inspect_err(warn).ok()
}
