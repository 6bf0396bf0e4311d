//! [`WasmtimeEngine`]: the way from an artifact to an instance.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use runwasi_core::{
    Engine, EngineError, Instance, InstanceSpec, artifact::Artifact, engine::Precompiled,
    settings::RawSettings,
};
use tokio::{
    sync::{OwnedRwLockWriteGuard, RwLock},
    task::spawn_blocking,
};

pub use crate::pool::config;
use crate::{instance::WasmtimeInstance, pool::Pool, settings::Settings};

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

/// Instances after which an unused pool is made anew: wasmtime keeps the stacks of slots that were used, and the mappings that
/// using them has split.
const WORN: usize = 256;

impl WasmtimeEngine {
    /// An engine with these settings for ever. Starts its ticker thread, which sleeps as long as no guest runs.
    pub fn new(settings: &Settings) -> Result<Self, EngineError> {
        let state =
            State { settings: settings.clone(), pool: Some(Arc::new(Pool::new(settings)?)) };
        Ok(Self { state: Arc::new(RwLock::new(state)), base: None })
    }

    /// The same for one pod: the runtime options of its first container may say something else than these settings.
    pub fn for_pod(settings: &Settings) -> Result<Self, EngineError> {
        Ok(Self { base: Some(settings.clone()), ..Self::new(settings)? })
    }

    async fn pool(&self) -> Result<Arc<Pool>, EngineError> {
        let pool = self.state.read().await.pool.clone();
        pool.ok_or_else(|| {
            EngineError::Failed("the engine could not be made again, see the log".into())
        })
    }
}

impl State {
    /// Refuses what these settings are not, because of `why`.
    fn demand(&self, written: &RawSettings, why: &str) -> Result<(), EngineError> {
        match self.settings.difference(written)? {
            None => Ok(()),
            Some((entry, ours)) => {
                let reason = format!("{} cannot be had, {why} has {ours}", entry.value);
                Err(entry.error(reason).into())
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

#[async_trait]
impl Engine for WasmtimeEngine {
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
        let pool = self.pool().await?;
        pool.made.fetch_add(1, Ordering::Relaxed);
        let (program, ready) = pool.compiler.ready(&spec, pool.clone()).await?;
        Ok(Arc::new(WasmtimeInstance::new(ready, &program, spec, pool)?))
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
            _ => {
                let mut state: OwnedRwLockWriteGuard<State> = state;
                // With the guard: should nobody wait for it any more, the pool is made all the same.
                let remake = move || state.remake(wanted);
                spawn_blocking(remake)
                    .await
                    .map_err(|error| EngineError::Failed(error.to_string()))?
            }
        }
    }

    async fn precompile(&self, artifact: Artifact) -> Result<Precompiled, EngineError> {
        let pool = self.pool().await?;
        pool.compiler.precompile(artifact, pool.clone()).await
    }

    fn release_unused(&self) {
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
