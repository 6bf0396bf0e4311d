//! [`WasmtimeEngine`]: the one place that builds `wasmtime::Config`, and the way from an artifact to an instance.

use std::{
    env,
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use runwasi_core::{Engine, EngineError, Instance, InstanceSpec, image::cache::CodeCache};
use tokio::sync::RwLock;
use wasmtime::{Config, Linker, PoolingAllocationConfig};

use crate::{artifact::Compiler, epoch::Ticker, instance::WasmtimeInstance, limits::STACK, wasi};

/// Environment variable: where compiled code is kept; `off` keeps none.
pub const CACHE_VARIABLE: &str = "RUNWASI_CACHE";

const CACHE_DIRECTORY: &str = "/var/cache/runwasi";
const CACHE_BYTES: u64 = 1 << 30;
/// What a guest computes between two yields: the longest another guest, or a kill, waits for it.
const QUANTUM: Duration = Duration::from_millis(1);
/// Instances of one pod. 100 slots cost 0.6 ms and 0.6 MB at the start.
const SHIM_SLOTS: u32 = 100;

/// What one module may have, generously: more is a clear error when it is started. Reference types give toolchains
/// reasons for a second table, and large programs reach 20,000 functions in one, wasmtime's default.
const MEMORIES: u32 = 4;
/// Each takes 4 GiB of the 128 TiB that a process can address.
const MAX_MEMORIES: u32 = 20_000;
const TABLES: u32 = 8;
const TABLE_ELEMENTS: usize = 200_000;
const INSTANCE_BYTES: usize = 16 << 20;

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Guests that can run at once.
    pub slots: u32,
    /// Where compiled code is kept; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// The scheduling quantum.
    pub quantum: Duration,
}

impl Settings {
    /// For a daemon that serves a node.
    pub fn for_node(slots: u32, cache: Option<PathBuf>) -> Self {
        Self { slots, cache, quantum: QUANTUM }
    }

    /// For a shim that serves one pod.
    pub fn for_shim() -> Self {
        let cache = match env::var_os(CACHE_VARIABLE) {
            None => Some(PathBuf::from(CACHE_DIRECTORY)),
            Some(value) if value.is_empty() || value == "off" => None,
            Some(directory) => Some(PathBuf::from(directory)),
        };
        Self { slots: SHIM_SLOTS, cache, quantum: QUANTUM }
    }
}

/// The wasmtime engine: core modules with WASI preview 1, components with WASI p2 and p3.
pub struct WasmtimeEngine {
    settings: Settings,
    /// Written only by `tidy`, for as long as a pool takes to be made; `None` if that failed.
    pool: RwLock<Option<Arc<Pool>>>,
}

/// A wasmtime engine with its pool of slots, and what belongs to it. Kept by its instances.
pub(crate) struct Pool {
    compiler: Compiler,
    pub(crate) ticker: Arc<Ticker>,
    /// Instances made.
    made: AtomicUsize,
}

/// Instances after which an unused pool is made anew: wasmtime keeps the stacks of slots that were used, and the mappings that
/// using them has split.
const WORN: usize = 256;

impl WasmtimeEngine {
    /// Builds an engine. Starts its ticker thread, which sleeps as long as no guest runs.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        let pool = RwLock::new(Some(Arc::new(Pool::new(settings)?)));
        Ok(Self { settings: settings.clone(), pool })
    }
}

impl Pool {
    fn new(settings: &Settings) -> Result<Self, EngineError> {
        let engine = build(settings)?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).map_err(failed)?;
        let ticker =
            Ticker::start(&engine, settings.quantum).map_err(|error| EngineError::Failed(error.to_string()))?;
        let compiler = Compiler::new(linker, key(&engine), open_cache(settings));
        Ok(Self { compiler, ticker: Arc::new(ticker), made: AtomicUsize::new(0) })
    }
}

#[async_trait]
impl Engine for WasmtimeEngine {
    async fn instance(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        let pool = self.pool.read().await.clone();
        let pool = pool.ok_or_else(|| EngineError::Failed("the engine could not be made again, see the log".into()))?;
        pool.made.fetch_add(1, Ordering::Relaxed);
        let (program, ready) = pool.compiler.ready(&spec, pool.clone()).await?;
        Ok(Arc::new(WasmtimeInstance::new(ready, program.function.as_deref(), spec, pool)?))
    }

    fn tidy(&self) {
        let mut pool = self.pool.blocking_write();
        if let Some(current) = pool.as_ref() {
            current.compiler.forget_unused();
            if Arc::strong_count(current) > 1 || current.made.load(Ordering::Relaxed) < WORN {
                return;
            }
        }
        // The old one first: the address space has no room for two.
        *pool = None;
        match Pool::new(&self.settings) {
            Ok(new) => *pool = Some(Arc::new(new)),
            Err(error) => tracing::error!(%error, "the engine cannot be made again, no guest can start"),
        }
    }
}

fn failed(error: wasmtime::Error) -> EngineError {
    EngineError::Failed(format!("{error:#}"))
}

/// Pooled slots, made once and reused; where the address space is too small for them, memory on demand.
fn build(settings: &Settings) -> Result<wasmtime::Engine, EngineError> {
    let mut config = config();
    config.allocation_strategy(pool(settings.slots));
    wasmtime::Engine::new(&config).or_else(|error| {
        tracing::warn!(error = format!("{error:#}"), "no pool of instances, memory is allocated on demand");
        wasmtime::Engine::new(&self::config()).map_err(failed)
    })
}

fn config() -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true);
    config.memory_init_cow(true);
    // What WASI p3 is made of.
    config.wasm_component_model_async(true);
    config.max_wasm_stack(STACK);
    // Unwinding through guests is wasmtime's own; system tables would only make the code files larger.
    config.native_unwind_info(false);
    config
}

fn pool(slots: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_core_instances(slots);
    pool.total_component_instances(slots);
    // One guest may have several; that all have is not provided for, nor more than the address space holds.
    pool.total_memories((slots + slots / 2).min(MAX_MEMORIES));
    pool.max_memories_per_module(MEMORIES);
    pool.total_tables(slots * 2);
    pool.max_tables_per_module(TABLES);
    pool.table_elements(TABLE_ELEMENTS);
    pool.max_core_instance_size(INSTANCE_BYTES);
    pool.total_stacks(slots);
    // A stopped guest's pages go back to the system at once.
    pool.max_unused_warm_slots(0);
    pool
}

/// Names everything that decides whether compiled code fits: wasmtime's version, target and settings.
fn key(engine: &wasmtime::Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn open_cache(settings: &Settings) -> Option<CodeCache> {
    let directory = settings.cache.as_deref()?;
    match CodeCache::open(directory, CACHE_BYTES) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(directory = %directory.display(), %error, "compiled code is not kept");
            None
        }
    }
}
