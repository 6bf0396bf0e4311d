//! From the bytes of an artifact to linked code, by three sources in turn: the module cache of this
//! OS process, the code cache of the node, the compiler.
//!
//! ```text
//! ready ─▶ in module cache? ─▶ digest known and code cached? ─▶ read the artifact
//!       ─▶ in module cache? ─▶ join the compilation (`compile_job`)
//! ```
//!
//! Cached code is loaded without waiting for any compilation. Other code is compiled once: within
//! this OS process by a single flight that all requests for it join, among the processes of the
//! node by the compile lock of the code cache.

use std::{io, sync::Arc, time::Duration};

use runwasi_core::{
    EngineError, InstanceSpec,
    artifact::{Artifact, Program},
    code_cache::{digests::DigestIndex, single_flight::SingleFlight, store::CodeCache},
    engine::Precompiled,
};
use tokio::task::spawn_blocking;
use wasmtime::Linker;

pub(crate) use crate::module_cache::Ready;
use crate::{
    codegen::Codegen,
    compile_job::{self, How, Made, Outcome},
    loader::Loader,
    module::store::Guest,
};

/// Compiler of one engine and lookup of code compiled before. Clones share all state.
#[derive(Clone)]
pub(crate) struct Compiler {
    loader: Loader,
    codegen: Codegen,
    seen: Option<DigestIndex>,
    single_flight: SingleFlight<Outcome>,
}

impl Compiler {
    pub(crate) fn new(
        linker: Linker<Guest>,
        key: String,
        cache: Option<CodeCache>,
        seen: Option<DigestIndex>,
    ) -> io::Result<Self> {
        Ok(Self {
            codegen: Codegen::new(linker.engine().clone())?,
            loader: Loader::new(linker, key, cache),
            seen,
            single_flight: SingleFlight::default(),
        })
    }

    /// Finds the program of a process and returns it with its linked code. `keep` is dropped at the
    /// end of the work, also if all callers have gone away by then.
    pub(crate) async fn ready(
        &self,
        spec: &InstanceSpec,
        keep: impl Send + 'static,
    ) -> Result<(Program, Arc<Ready>), EngineError> {
        let program = spec.find().await?;
        if let Some(ready) = self.known(&program) {
            return Ok((program, ready));
        }
        if let Some(ready) = self.unread(&program).await? {
            return Ok((program, ready));
        }
        // Only now, since reading and hashing a large file costs more than all lookups above.
        let artifact = spec.read(&program).await?;
        self.remember(&artifact);
        if let Some(ready) = self.loader.module_cache().get(&artifact.digest) {
            return Ok((program, ready));
        }
        Ok((program, self.made(artifact, keep).await?.ready))
    }

    /// Looks the program up in the module cache without reading it.
    fn known(&self, program: &Program) -> Option<Arc<Ready>> {
        match (program.digest(), program.identity()) {
            (Some(digest), _) => self.loader.module_cache().get(&digest),
            (None, identity) => self.loader.module_cache().of_file(&identity?),
        }
    }

    /// Loads cached code of a program without reading the program.
    async fn unread(&self, program: &Program) -> Result<Option<Arc<Ready>>, EngineError> {
        // The name of a layer is its digest. The digest of a file is in the index beside the code.
        let digest = program.digest();
        let identity = program.identity();
        if digest.is_none() && (identity.is_none() || self.seen.is_none()) {
            return Ok(None);
        }
        let seen = self.seen.clone();
        let loader = self.loader.clone();
        // On the blocking pool: it reads the index, and checks and maps the code file.
        let work = move || {
            let digest = digest.or_else(|| seen?.get(&identity?))?;
            if let Some(identity) = identity {
                // The next guest of this process finds the code by `known`, without the disk.
                loader.module_cache().remember(identity, digest);
            }
            loader.load(&digest)
        };
        let kept =
            spawn_blocking(work).await.map_err(|error| EngineError::Failed(error.to_string()))?;
        let invalid = |error| EngineError::Invalid {
            path: program.path.clone(),
            reason: format!("{error:#}"),
        };
        kept.transpose().map_err(invalid)
    }

    /// Records the digest of the artifact's file, for the next guest and the next process.
    fn remember(&self, artifact: &Artifact) {
        let Some(identity) = artifact.identity else { return };
        let digest = artifact.digest;
        let path = artifact.path.clone();
        self.loader.module_cache().remember(identity, digest);
        let Some(seen) = self.seen.clone() else { return };
        // Detached: this start does not need the entry. A failure is logged and costs the next
        // process one read of the file.
        drop(spawn_blocking(move || {
            if let Err(error) = seen.put(&identity, &digest) {
                let path = path.display();
                tracing::warn!(%path, %error, "the next process reads the file again");
            }
        }));
    }

    /// Ensures that the code cache contains the compiled code of an artifact.
    pub(crate) async fn precompile(
        &self,
        artifact: Artifact,
        keep: impl Send + 'static,
    ) -> Result<Precompiled, EngineError> {
        if !self.loader.has_code_cache() {
            return Err(EngineError::Failed("no compiled code is kept: there is no cache".into()));
        }
        match self.made(artifact, keep).await?.how {
            How::Kept => Ok(Precompiled::Kept),
            How::Compiled => Ok(Precompiled::Compiled),
            How::NotKept => {
                Err(EngineError::Failed("the compiled code could not be kept, see the log".into()))
            }
        }
    }

    /// Unloads all code that no guest runs.
    pub(crate) fn forget_unused(&self) {
        self.loader.module_cache().forget_unused();
    }

    async fn made(
        &self,
        artifact: Artifact,
        keep: impl Send + 'static,
    ) -> Result<Made, EngineError> {
        let path = artifact.path.clone();
        let waiter = self.single_flight.join(artifact.digest, |leader| {
            let loader = self.loader.clone();
            let codegen = self.codegen.clone();
            compile_job::start(loader, codegen, artifact, leader, keep);
        });
        let still = |since: Duration| {
            let path = path.display();
            tracing::info!(%path, seconds = since.as_secs(), "still being compiled");
        };
        let outcome = waiter.wait(still).await;
        let outcome = outcome.ok_or_else(|| {
            EngineError::Failed(format!("{}: compiling has failed", path.display()))
        })?;
        outcome.map_err(|reason| EngineError::Invalid { path, reason: reason.to_string() })
    }
}
