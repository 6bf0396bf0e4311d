//! [`WasmtimeEngine`]: prepares instances from artifacts.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, Instance, InstanceSpec,
    artifact::Artifact,
    blocking::blocking,
    engine::{
        self, FileThreads, KeptCode, Precompiled,
        notes::{ArtifactNote, Notes},
    },
    resources::descriptors::{self, TooFew},
    settings::RawSettings,
};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

pub use crate::config::config;
use crate::{
    annotations, hooks::Hooks, http, instance::WasmtimeInstance, pool::Pool, settings::Settings,
};

/// The wasmtime engine: core modules with WASI preview 1, components with WASI p2 and p3.
pub struct WasmtimeEngine {
    /// Locked for writing only while a pool is built.
    state: Arc<RwLock<State>>,
    /// Settings that containerd's runtime options override. Absent if they may override nothing.
    base: Option<Settings>,
    hooks: Arc<Hooks>,
}

struct State {
    settings: Settings,
    hooks: Arc<Hooks>,
    /// True for the engine of a node, false for that of a pod.
    is_node: bool,
    /// Absent after a failed attempt to build it again.
    pool: Option<Arc<Pool>>,
}

/// Number of instances after which an unused pool is built again.
// wasmtime keeps the stacks of used slots, and the mappings that their use has split.
const WORN: usize = 256;

impl WasmtimeEngine {
    /// Creates an engine with fixed settings. Starts its ticker thread, which sleeps as long as no
    /// guest runs.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        Self::with_hooks(settings.clone(), None, Arc::default())
    }

    /// Creates an engine for one pod. The runtime options of its first container may override the
    /// settings.
    pub fn for_pod(settings: &Settings) -> Result<Self, EngineError> {
        Self::with_hooks(settings.clone(), Some(settings.clone()), Arc::default())
    }

    pub(crate) fn with_hooks(
        settings: Settings,
        base: Option<Settings>,
        hooks: Arc<Hooks>,
    ) -> Result<Self, EngineError> {
        // A node has new modules again and again, a pod at its start.
        let is_node = base.is_none();
        let pool = Some(Arc::new(Pool::new(&settings, &hooks, is_node)?));
        let state = State { settings, hooks: hooks.clone(), is_node, pool };
        Ok(Self { state: Arc::new(RwLock::new(state)), base, hooks })
    }

    async fn pool(&self) -> Result<Arc<Pool>, EngineError> {
        // Cloned, so that a long compilation does not hold the lock.
        let pool = self.state.read().await.pool.clone();
        pool.ok_or_else(|| {
            EngineError::Failed("the engine could not be made again, see the log".into())
        })
    }
}

impl State {
    /// Refuses requested settings that differ from the current ones. `why` explains the refusal.
    fn demand(&self, written: &RawSettings, why: &str) -> Result<(), EngineError> {
        match self.settings.difference(written)? {
            None => Ok(()),
            Some((entry, ours)) => {
                let reason = format!("{} cannot be had, {why} has {ours}", entry.value);
                Err(entry.error(reason).into())
            }
        }
    }

    /// Builds the pool again. Blocks.
    fn remake(&mut self, settings: Settings) -> Result<(), EngineError> {
        // Drops the old pool first: the address space may have no room for two.
        self.pool = None;
        self.settings = settings;
        self.pool = Some(Arc::new(Pool::new(&self.settings, &self.hooks, self.is_node)?));
        Ok(())
    }
}

/// Error of a start that the file descriptors of this process do not suffice for.
fn too_few(error: &TooFew) -> EngineError {
    EngineError::Exhausted { what: "file descriptors", reason: error.to_string() }
}

/// Counts the memory maps of this process before a start with this number of memories, if they may
/// be scarce.
async fn count_maps(pool: &Pool, memories: u32) -> Result<(), EngineError> {
    if !pool.account.start(memories) {
        return Ok(());
    }
    let account = pool.account.clone();
    let count = move || {
        account.look_at_maps();
        Ok(())
    };
    blocking(count, |error| EngineError::Failed(error.to_string())).await
}

#[async_trait]
impl Engine for WasmtimeEngine {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        descriptors::check_start().map_err(|error| too_few(&error))?;
        // First, since a refused process must not make the pool count as used.
        self.hooks.prepare(&spec)?;
        http::check_annotations(&spec)?;
        let pool = self.pool().await?;
        // Counted before any use of the pool: from now on `configure` treats it as used. `Relaxed`
        // is enough, since the counter guards no other data.
        pool.made.fetch_add(1, Ordering::Relaxed);
        let (program, ready) = pool.compiler.ready(&spec, pool.clone()).await?;
        let digest = pool.compiler.digest(&ready);
        let note = ArtifactNote { path: program.path.clone(), digest };
        spec.extensions.get_or_make(Notes::default).set_artifact(note);
        let instance = WasmtimeInstance::new(ready, &program, spec, pool.clone())?;
        // Now that its memories are known: a count then corrects an estimate that would refuse it.
        count_maps(&pool, instance.memories()).await?;
        Ok(Arc::new(instance))
    }

    fn annotations(&self) -> &[&'static str] {
        &annotations::NAMES
    }

    async fn configure(&self, written: &RawSettings) -> Result<(), EngineError> {
        let state = self.state.clone().write_owned().await;
        let Some(base) = &self.base else {
            return state.demand(written, "this node's daemon, whose own configuration decides,");
        };
        let wanted = written.read(base)?;
        match &state.pool {
            Some(_) if state.settings == wanted => Ok(()),
            Some(pool) if pool.made.load(Ordering::Relaxed) > 0 => state
                .demand(written, "the pod's engine, which an earlier container has begun to use,"),
            // No container has used the pool yet, or the last attempt to build one failed.
            _ => {
                let mut state: OwnedRwLockWriteGuard<State> = state;
                // The closure owns the guard: if the caller goes away, the pool is built all the
                // same, and no other task sees the state in between.
                let remake = move || state.remake(wanted);
                blocking(remake, |error| EngineError::Failed(error.to_string())).await
            }
        }
    }

    fn replaces_sync(&self) -> bool {
        true
    }

    async fn file_threads(&self) -> FileThreads {
        let limit = self.state.read().await.settings.container_file_threads;
        FileThreads { limit, setting: "engine.container-file-threads" }
    }

    async fn precompile(&self, artifact: Artifact) -> Result<Precompiled, EngineError> {
        let pool = self.pool().await?;
        pool.compiler.precompile(artifact, pool.clone()).await
    }

    fn pools(&self) -> Vec<engine::Pool> {
        // The caller runs on the blocking pool, so blocking here is allowed.
        let state = self.state.blocking_read();
        state.pool.as_ref().map(|pool| pool.account.pools()).unwrap_or_default()
    }

    fn kept_code(&self) -> Option<KeptCode> {
        let compiler = self.state.blocking_read().pool.as_ref()?.compiler.clone();
        compiler.kept_code()
    }

    fn release_unused(&self) {
        // The caller runs on the blocking pool, so blocking here is allowed.
        let mut state = self.state.blocking_write();
        if let Some(current) = &state.pool {
            current.compiler.forget_unused();
            // Further owners are instances and compilations. The write lock excludes new ones.
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
