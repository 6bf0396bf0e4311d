//! Interface for integrators: an [`Engine`] creates an [`Instance`] for each process.

pub mod error;
pub mod exit;
pub mod extensions;
pub mod fault;
pub mod instance;
pub mod notes;
pub mod prepared;
mod report;
pub mod signal;
pub mod spec;

use std::sync::Arc;

use async_trait::async_trait;

use self::{error::EngineError, instance::Instance, spec::InstanceSpec};
pub use crate::scheduler::file_calls::FileThreads;
use crate::{artifact::Artifact, settings::RawSettings};

/// Compiles artifacts and creates instances. All containers of an OS process share one engine.
///
/// | method | caller | moment | drop of the future |
/// |---|---|---|---|
/// | [`configure`](Self::configure) | container, control runtime | `Create` with settings | no effect |
/// | [`annotations`](Self::annotations) | container, control runtime | `Create` | not async |
/// | [`prepare`](Self::prepare) | container, control runtime | `Create` and `Exec` | cancels |
/// | [`replaces_sync`](Self::replaces_sync) | container, control runtime | `Create`, before `prepare` | not async |
/// | [`file_threads`](Self::file_threads) | container, control runtime | `Create`, after `prepare` | no effect |
/// | [`precompile`](Self::precompile) | command `precompile` | before any guest | cancels the wait |
/// | [`release_unused`](Self::release_unused) | daemon, blocking pool | guests have ended | not async |
/// | [`pools`](Self::pools), [`kept_code`](Self::kept_code) | daemon or shim, blocking pool | scrape of the metrics | not async |
///
/// The engine itself is dropped at the end of the OS process, after its last instance, or never:
/// a shim that is killed drops nothing.
///
/// A panic of a method fails the one request that it was called for, or the one scrape, and is in
/// the log: other containers go on.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Prepares one guest program: finds its artifact, compiles it, checks that it can be linked.
    ///
    /// Called by the container once for every process, by containerd's `Create` or `Exec`, on the
    /// control runtime, for several processes concurrently. It must not block the thread (long work
    /// belongs on [`blocking`](crate::blocking::blocking)) and must not run guest code. Every error
    /// that can be detected early should be returned here, since `ctr` prints it.
    ///
    /// The future is dropped before its end if containerd gives up the request. The drop cancels
    /// the preparation and must free its resources; work that others wait for may go on. A prepared
    /// instance that is never started is dropped without a call of [`Instance::run`].
    async fn prepare(&self, spec: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError>;

    /// Names of the annotations `io.runwasi.*` that the engine reads. A name that ends with a dot
    /// stands for all that begin with it.
    ///
    /// Called by the container for every `Create`. A container with another annotation
    /// `io.runwasi.*` is refused. The default implementation reads none.
    fn annotations(&self) -> &[&'static str] {
        &[]
    }

    /// Applies settings from containerd's runtime options.
    ///
    /// Called by the container on the control runtime, by every `Create` with settings, before
    /// [`Engine::prepare`]. The engine refuses settings that it does not support, or that can no
    /// longer be changed; `ctr` prints the error. A dropped future must leave the engine as it was,
    /// or with the new settings, never between. The default implementation has no settings and
    /// refuses all.
    async fn configure(&self, settings: &RawSettings) -> Result<(), EngineError> {
        let first = settings.entries.first();
        first.map_or(Ok(()), |entry| Err(entry.unknown("").into()))
    }

    /// True if the engine syncs the files of a guest by [`Upper::sync`](crate::rootfs::Upper::sync)
    /// wherever [`Rootfs::upper`](crate::rootfs::Rootfs::upper) says so.
    ///
    /// Called by the container for every `Create`. Only then its root file system can be one that
    /// ignores `fsync(2)`, with an end that does not wait for the disk. The default implementation
    /// does not, and is given no such file system.
    fn replaces_sync(&self) -> bool {
        false
    }

    /// Bound of the threads that the file calls of one container may hold while the kernel does not
    /// end them: on a file system whose server does not answer, for example.
    ///
    /// Called by the container on the control runtime, once for its init, after
    /// [`Engine::prepare`]. The default implementation allows 16.
    async fn file_threads(&self) -> FileThreads {
        FileThreads::default()
    }

    /// Compiles an artifact for later starts, unless that was done before.
    ///
    /// Called by the daemon's command `precompile`, for several artifacts concurrently, in an OS
    /// process without guests. It must not block the thread. Dropping the future ends the wait; the
    /// compilation may go on. The default implementation refuses.
    async fn precompile(&self, _artifact: Artifact) -> Result<Precompiled, EngineError> {
        let what = "precompile".to_owned();
        let why = "this engine keeps no compiled code".to_owned();
        Err(EngineError::Unsupported { what, why })
    }

    /// Frees resources that are kept only to start the next guest faster.
    ///
    /// Called by the node daemon, on the blocking pool, some seconds after guests have ended, and
    /// from time to time while guests keep ending. Never called by a shim of one pod. It may block,
    /// and runs to its end. The default implementation keeps nothing.
    fn release_unused(&self) {}

    /// Bounded resources that all guests share, for the metrics.
    ///
    /// Called by the node daemon, and by a shim that serves metrics, on the blocking pool, at each
    /// scrape. The names must be the same each time. The default implementation has none.
    fn pools(&self) -> Vec<Pool> {
        Vec::new()
    }

    /// Compiled code on disk, for the metrics.
    ///
    /// Called by the node daemon, and by a shim that serves metrics, on the blocking pool, at each
    /// scrape. It may block. The default implementation keeps none.
    fn kept_code(&self) -> Option<KeptCode> {
        None
    }
}

/// A bounded resource of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: &'static str,
    /// Part that guests have.
    pub used: u64,
    /// All of it.
    pub limit: u64,
}

/// Compiled code on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeptCode {
    /// Number of files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The size that they may have, in bytes.
    pub limit: u64,
}

/// Result of [`Engine::precompile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precompiled {
    /// The compiled code was kept from an earlier compilation.
    Kept,
    /// The artifact has been compiled, and its code is kept.
    Compiled,
}
