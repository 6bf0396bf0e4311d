//! [`Pool`]: the one place that builds `wasmtime::Config`, with what belongs to one wasmtime engine.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
};

use runwasi_core::{
    EngineError,
    code_cache::{digests::DigestIndex, store::CodeCache},
};
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::{Config, Enabled, Inlining, Linker, OptLevel, PoolingAllocationConfig};

use crate::{
    compiler::Compiler,
    epoch::Ticker,
    limits::STACK,
    module::link,
    settings::{Optimise, Settings},
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

/// A wasmtime engine with its pool of slots, and what belongs to it. Kept by its instances.
pub(crate) struct Pool {
    pub(crate) compiler: Compiler,
    pub(crate) ticker: Arc<Ticker>,
    /// Instances made.
    pub(crate) made: AtomicUsize,
    /// Those of modules and commands that run. The pool counts what they are made of, and would tell the last one of a lack only
    /// after its start.
    slots: Semaphore,
}

impl Pool {
    pub(crate) fn new(settings: &Settings) -> Result<Self, EngineError> {
        let engine = build(settings)?;
        let mut linker = Linker::new(&engine);
        link::link(&mut linker).map_err(failed)?;
        let ticker = Ticker::start(&engine, settings.quantum())
            .map_err(|error| EngineError::Failed(error.to_string()))?;
        let (cache, seen) = open_cache(settings);
        let compiler = Compiler::new(linker, key(&engine), cache, seen);
        let slots = Semaphore::new(settings.slots as usize);
        Ok(Self { compiler, ticker: Arc::new(ticker), made: AtomicUsize::new(0), slots })
    }

    /// The place of a guest that runs, until it is dropped.
    pub(crate) fn slot(&self) -> Result<SemaphorePermit<'_>, EngineError> {
        // Nobody closes it.
        let taken = |_| EngineError::Exhausted {
            what: "instance slots",
            reason: "all are taken by guests".into(),
        };
        self.slots.try_acquire().map_err(taken)
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
        tracing::warn!(
            error = format!("{error:#}"),
            "no pool of instances, memory is allocated on demand"
        );
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
    config.wasm_gc(settings.gc).wasm_function_references(settings.gc);
    config.wasm_exceptions(settings.exceptions);
    config.wasm_threads(settings.threads);
    config.wasm_memory64(settings.memory64);
    config.wasm_simd(settings.simd).wasm_relaxed_simd(settings.simd);
    config.wasm_tail_call(settings.tail_calls);
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

fn open_cache(settings: &Settings) -> (Option<CodeCache>, Option<DigestIndex>) {
    let Some(directory) = settings.cache.as_deref() else { return (None, None) };
    let cache = CodeCache::open(directory, u64::from(settings.cache_size) << 20);
    let Some(cache) = or_warn(directory, cache, "compiled code is not kept") else {
        return (None, None);
    };
    let lost = "what files held is not kept, each process reads them";
    (Some(cache), or_warn(directory, DigestIndex::open(directory), lost))
}

/// What could be opened in the cache's directory, or a warning that names what is lost.
fn or_warn<T>(directory: &Path, opened: io::Result<T>, lost: &str) -> Option<T> {
    let warn =
        |error: &io::Error| tracing::warn!(directory = %directory.display(), %error, "{lost}");
    opened.inspect_err(warn).ok()
}
