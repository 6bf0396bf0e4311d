//! Interface for integrators: an [`Engine`] creates an [`Instance`] for each process.

pub mod error;
pub mod exit;
pub mod extensions;
pub mod instance;
pub mod signal;
pub mod spec;

use std::sync::Arc;

use async_trait::async_trait;

use self::{error::EngineError, instance::Instance, spec::InstanceSpec};
use crate::{artifact::Artifact, settings::RawSettings};

/// Compiles artifacts and creates instances. All containers of an OS process share one engine.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Prepares one guest program: finds its artifact, compiles it, checks that it can be linked.
    ///
    /// Called once for every process, by containerd's `Create` or `Exec`, on the control runtime.
    /// It must not block the thread (long work belongs on `tokio::task::spawn_blocking`) and must
    /// not run guest code. Every error that can be detected early should be returned here, since
    /// `ctr` prints it. Dropping the future cancels the preparation and must free its resources.
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError>;

    /// Applies settings from containerd's runtime options.
    ///
    /// Called by every `Create` with settings, before [`Engine::prepare`], on the control runtime.
    /// The engine refuses settings that it does not support, or that can no longer be changed;
    /// `ctr` prints the error. The default implementation has no settings and refuses all.
    async fn configure(&self, settings: &RawSettings) -> Result<(), EngineError> {
        let first = settings.entries.first();
        first.map_or(Ok(()), |entry| Err(entry.unknown("none").into()))
    }

    /// Compiles an artifact for later starts, unless that was done before.
    ///
    /// Called by the daemon's command `precompile`, for several artifacts concurrently. It must not
    /// block the thread.
    async fn precompile(&self, _artifact: Artifact) -> Result<Precompiled, EngineError> {
        let what = "precompile".to_owned();
        let why = "this engine keeps no compiled code".to_owned();
        Err(EngineError::Unsupported { what, why })
    }

    /// Frees resources that are kept only to start the next guest faster.
    ///
    /// Called by the node daemon, on the blocking pool, some seconds after guests have ended, and
    /// from time to time while guests keep ending.
    fn release_unused(&self) {}
}

/// Result of [`Engine::precompile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precompiled {
    /// The compiled code was kept from an earlier compilation.
    Kept,
    /// The artifact has been compiled, and its code is kept.
    Compiled,
}
