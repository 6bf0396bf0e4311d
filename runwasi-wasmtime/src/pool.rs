//! [`Pool`]: a wasmtime engine with its instance slots, compiler and ticker.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
};

use runwasi_core::{
    EngineError, InstanceSpec,
    blocking::blocking,
    code_cache::{digests::DigestIndex, store::CodeCache},
    resources::maps,
};
use tokio::sync::OnceCell;
use wasmtime::{Enabled, Linker, PoolingAllocationConfig, ResourcesRequired};

use crate::{
    compiler::Compiler,
    config::config,
    epoch::Ticker,
    hooks::Hooks,
    module::link,
    settings::Settings,
    shares::{Account, Shares},
    timer,
};

/// Largest instance state (globals and other bookkeeping) in a slot, in bytes.
const INSTANCE_BYTES: usize = 16 << 20;
/// Bytes of written memory that a slot keeps resident and resets for its next guest. All other
/// pages return to the system at once.
// A server has an instance for each request. Returning all pages and faulting them in again costs
// more than a small request computes. A node that had more guests earlier keeps this much for each
// of their slots, until its engine is built again.
const KEPT_MEMORY: usize = 64 << 10;
/// The same for tables.
const KEPT_TABLE: usize = 16 << 10;

/// A wasmtime engine with its instance slots. Its instances keep it alive.
pub(crate) struct Pool {
    pub(crate) compiler: Compiler,
    pub(crate) ticker: Arc<Ticker>,
    /// Number of instances prepared so far.
    pub(crate) made: AtomicUsize,
    pub(crate) settings: Settings,
    /// Reservations of all stores.
    // wasmtime's pool counts as well, but reports what is exhausted only when a guest that has
    // started needs it.
    pub(crate) account: Arc<Account>,
    hooks: Arc<Hooks>,
    requests: Requests,
}

/// Slots for requests beyond those of the pool.
struct Requests {
    /// Absent if there are none.
    room: Option<(Settings, Arc<Account>)>,
    pool: OnceCell<Arc<Pool>>,
}

impl Pool {
    /// `keeps_spare`: see [`Compiler::new`].
    pub(crate) fn new(
        settings: &Settings,
        hooks: &Arc<Hooks>,
        keeps_spare: bool,
    ) -> Result<Self, EngineError> {
        let engine = build(settings, settings.stacks())?;
        let unavailable = |error: io::Error| EngineError::Failed(error.to_string());
        let ticker = Ticker::start(&engine, settings.quantum()).map_err(unavailable)?;
        timer::start().map_err(unavailable)?;
        let account = Arc::new(Account::of_node(settings));
        Self::of((&engine, Arc::new(ticker)), settings, hooks, keeps_spare, account)
    }

    fn of(
        (engine, ticker): (&wasmtime::Engine, Arc<Ticker>),
        settings: &Settings,
        hooks: &Arc<Hooks>,
        keeps_spare: bool,
        account: Arc<Account>,
    ) -> Result<Self, EngineError> {
        let mut linker = Linker::new(engine);
        link::link(&mut linker).map_err(failed)?;
        hooks.link_modules(&mut linker).map_err(failed)?;
        let (cache, seen) = open_cache(settings);
        let kept = (cache, seen);
        let settings_of_compiler = (settings, keeps_spare);
        let compiler =
            Compiler::new(linker, hooks.clone(), key(engine), kept, settings_of_compiler);
        // Counted from the start, so that a server knows its number of requests before the second
        // pool is made.
        let of_requests = settings.of_requests();
        warn_of_fewer(settings, of_requests.as_ref());
        let room = of_requests.map(|settings| {
            let account = Arc::new(Account::of_node(&settings));
            (settings, account)
        });
        Ok(Self {
            compiler,
            ticker,
            made: AtomicUsize::new(0),
            settings: settings.clone(),
            account,
            hooks: hooks.clone(),
            requests: Requests { room, pool: OnceCell::new() },
        })
    }

    /// Shares of the slots for requests. Absent if there are none, or too few for the program.
    pub(crate) fn shares_of_requests(
        &self,
        required: Option<&ResourcesRequired>,
        spec: &InstanceSpec,
    ) -> Option<Shares> {
        let (settings, account) = self.requests.room.as_ref()?;
        Shares::of_requests(required, spec, settings, account.clone()).ok()
    }

    /// The pool with the slots for requests, made by the first call.
    pub(crate) async fn of_requests(&self) -> Result<Arc<Self>, EngineError> {
        let make = || async {
            let Some((settings, account)) = self.requests.room.clone() else {
                return Err(EngineError::Failed("there are no slots for requests alone".into()));
            };
            // One clock for both: a connection is polled with guests of both pools.
            let ticker = self.ticker.clone();
            let hooks = self.hooks.clone();
            let work = move || {
                let engine = build(&settings, settings.stacks_of_requests())?;
                ticker.also(&engine);
                Self::of((&engine, ticker), &settings, &hooks, false, account).map(Arc::new)
            };
            tracing::info!("makes the slots for requests beyond those of all guests");
            blocking(work, |lost| EngineError::Failed(lost.to_string())).await
        };
        self.requests.pool.get_or_try_init(make).await.cloned()
    }
}

/// Warns if there is room for fewer slots for requests than the settings want.
fn warn_of_fewer(settings: &Settings, of_requests: Option<&Settings>) {
    let slots = of_requests.map_or(0, |of_requests| of_requests.slots);
    if slots < settings.wanted_for_requests() {
        tracing::warn!(
            wanted = settings.request_slots,
            most = settings.slots + slots,
            max_map_count = maps::limit(),
            "vm.max_map_count does not suffice for engine.request-slots: there are fewer"
        );
    }
}

fn failed(error: wasmtime::Error) -> EngineError {
    EngineError::Failed(format!("{error:#}"))
}

/// Builds an engine with pooled slots, or with memory on demand if the address space is too small.
fn build(settings: &Settings, stacks: u32) -> Result<wasmtime::Engine, EngineError> {
    let mut config = config(settings);
    config.allocation_strategy(pool(settings, stacks));
    wasmtime::Engine::new(&config).or_else(|error| {
        tracing::warn!(
            error = format!("{error:#}"),
            "no pool of instances, memory is allocated on demand"
        );
        wasmtime::Engine::new(&crate::config::config(settings)).map_err(failed)
    })
}

fn pool(settings: &Settings, stacks: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Instances are only counted by the pool. Each store has a stack, and at most one component.
    pool.total_core_instances(u32::MAX);
    pool.max_core_instances_per_component(settings.component_instances);
    pool.total_component_instances(stacks);
    pool.total_memories(settings.room_for_memories());
    pool.max_memory_size(usize::try_from(settings.memory_bytes()).unwrap_or(usize::MAX));
    pool.max_memories_per_module(settings.module_memories);
    pool.total_tables(settings.room_for_tables());
    pool.max_tables_per_module(settings.module_tables);
    pool.table_elements(settings.table_elements as usize);
    pool.max_core_instance_size(INSTANCE_BYTES);
    pool.total_stacks(stacks);
    // Each GC heap lies in a memory of the pool.
    pool.total_gc_heaps(stacks);
    // 0 reuses warm slots first, so the number of used slots stays that of concurrent guests.
    pool.max_unused_warm_slots(0);
    pool.linear_memory_keep_resident(KEPT_MEMORY);
    pool.table_keep_resident(KEPT_TABLE);
    // Where the kernel has `PAGEMAP_SCAN` (6.7), only written pages are reset.
    pool.pagemap_scan(Enabled::Auto);
    pool
}

/// Hash of everything that decides if compiled code fits: wasmtime's version, target and settings.
fn key(engine: &wasmtime::Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn open_cache(settings: &Settings) -> (Option<CodeCache>, Option<DigestIndex>) {
    let Some(directory) = settings.cache.as_deref() else { return (None, None) };
    // Without a usable cache the engine still works: it compiles each program again.
    let cache = CodeCache::open(directory, u64::from(settings.cache_size) << 20);
    let Some(cache) = or_warn(directory, cache, "compiled code is not kept") else {
        return (None, None);
    };
    let lost = "what files held is not kept, each process reads them";
    (Some(cache), or_warn(directory, DigestIndex::open(directory), lost))
}

/// The opened part of the cache, or a warning that names the loss.
fn or_warn<T>(directory: &Path, opened: io::Result<T>, lost: &str) -> Option<T> {
    let warn =
        |error: &io::Error| tracing::warn!(directory = %directory.display(), %error, "{lost}");
    opened.inspect_err(warn).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::GcCollector;

    #[test]
    fn code_of_another_collector_has_another_key() {
        let key = |gc_collector| {
            let settings = Settings { gc_collector, ..Settings::default() };
            key(&wasmtime::Engine::new(&config(&settings)).unwrap())
        };
        assert_eq!(key(GcCollector::Copying), key(GcCollector::Copying));
        assert_ne!(key(GcCollector::Copying), key(GcCollector::Drc));
    }
}
