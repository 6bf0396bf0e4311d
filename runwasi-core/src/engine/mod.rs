//! What an integrator implements to bring an engine: [`Engine`] makes [`Instance`]s.

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

/// Compiles artifacts and makes instances; one per OS process, shared by all its containers.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Prepares one guest program: finds its artifact, compiles it, checks that it can be linked.
    ///
    /// Called once for every process, by containerd's `Create` or `Exec`, on the control runtime: it must not block the thread
    /// (long work belongs on `tokio::task::spawn_blocking`) and runs no guest code. Everything that can be known to
    /// fail should fail here, since the error becomes the answer that `ctr` prints. Dropping the future abandons the
    /// preparation and must free what it took.
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError>;

    /// Takes settings from containerd's runtime options.
    ///
    /// Called by every `Create` that has some, before [`Engine::prepare`], on the control runtime. What the engine cannot do, or
    /// can do no more, it refuses; the error becomes the answer that `ctr` prints. Without an implementation there are no settings.
    async fn configure(&self, settings: &RawSettings) -> Result<(), EngineError> {
        let first = settings.entries.first();
        first.map_or(Ok(()), |entry| Err(entry.unknown("none").into()))
    }

    /// Compiles an artifact for later starts, unless that was done before.
    ///
    /// Called by the daemon's command `precompile`, for several artifacts at once; it must not block the thread.
    async fn precompile(&self, _artifact: Artifact) -> Result<Precompiled, EngineError> {
        let (what, why) =
            ("precompile".to_owned(), "this engine keeps no compiled code".to_owned());
        Err(EngineError::Unsupported { what, why })
    }

    /// Gives back what is kept only to start the next guest faster.
    ///
    /// Called by the node daemon, on the blocking pool, some seconds after guests have ended and none has since.
    fn release_unused(&self) {}
}

/// What [`Engine::precompile`] found or did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precompiled {
    /// It was compiled before.
    Kept,
    /// It has been compiled, and is kept.
    Compiled,
}
