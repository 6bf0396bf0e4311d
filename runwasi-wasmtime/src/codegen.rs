//! Code generation: "compile these bytes", and nothing else. Callers do not see where it happens:
//! today on threads of low priority in this OS process.

use std::{io, num::NonZero, thread::available_parallelism, time::Instant};

use runwasi_core::{
    artifact::{Artifact, ArtifactKind},
    code_cache::compile_threads::{self, CompileThreads},
};
use wasmtime::Engine;

/// Code generator of one engine. Clones share its slots.
#[derive(Clone)]
pub(crate) struct Codegen {
    engine: Engine,
    /// At most one thread for each core.
    threads: CompileThreads,
}

/// Right to compile. Others wait for it meanwhile.
pub(crate) struct Slot {
    engine: Engine,
    thread: compile_threads::Slot,
}

/// Reason of a compilation without code.
pub(crate) enum CodegenError {
    /// The engine refuses the bytes.
    Invalid(wasmtime::Error),
    /// The compiler has failed. The log has the reason.
    Crashed,
}

impl Codegen {
    pub(crate) fn new(engine: Engine) -> io::Result<Self> {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Ok(Self { engine, threads: CompileThreads::new(cores)? })
    }

    /// Waits for a free slot.
    pub(crate) async fn slot(&self) -> Slot {
        Slot { engine: self.engine.clone(), thread: self.threads.slot().await }
    }
}

impl Slot {
    /// Compiles the bytes of an artifact. A dropped future does not end the compilation.
    pub(crate) async fn compile(&self, artifact: Artifact) -> Result<Vec<u8>, CodegenError> {
        let engine = self.engine.clone();
        let code = self.thread.run(move || compile(&engine, &artifact)).await;
        code.ok_or(CodegenError::Crashed)?.map_err(CodegenError::Invalid)
    }
}

fn compile(engine: &Engine, artifact: &Artifact) -> wasmtime::Result<Vec<u8>> {
    let Artifact { path, bytes, kind, .. } = artifact;
    let begun = Instant::now();
    let path = path.display();
    tracing::info!(%path, bytes = bytes.len(), "compiling");
    let code = match kind {
        ArtifactKind::Module => engine.precompile_module(bytes),
        ArtifactKind::Component => engine.precompile_component(bytes),
    }?;
    tracing::info!(%path, bytes = code.len(), took = ?begun.elapsed(), "compiled");
    Ok(code)
}
