//! From an artifact's bytes to a compiled module, through the code cache. Used by `engine`.

use std::path::Path;

use runwasi_core::{
    EngineError,
    image::{Artifact, ArtifactKind, Digest, cache::CodeCache},
};
use tokio::task::spawn_blocking;
use wasmtime::{Engine, Module};

/// Compiles, or finds what was compiled before.
#[derive(Clone)]
pub(crate) struct Compiler {
    engine: Engine,
    /// Names the engine's settings in the cache.
    key: String,
    cache: Option<CodeCache>,
}

impl Compiler {
    pub(crate) fn new(engine: Engine, key: String, cache: Option<CodeCache>) -> Self {
        Self { engine, key, cache }
    }

    /// The module of an artifact. Works on the blocking pool.
    pub(crate) async fn module(&self, artifact: Artifact) -> Result<Module, EngineError> {
        if artifact.kind == ArtifactKind::Component {
            let what = format!("{}: a component", artifact.path.display());
            return Err(EngineError::Unsupported { what, why: "this version runs core modules".into() });
        }
        let compiler = self.clone();
        let compiled = spawn_blocking(move || compiler.load_or_compile(&artifact)).await;
        compiled.map_err(|error| EngineError::Failed(error.to_string()))?
    }

    fn load_or_compile(&self, artifact: &Artifact) -> Result<Module, EngineError> {
        if let Some(module) = self.load(&artifact.digest) {
            return Ok(module);
        }
        let code = self.engine.precompile_module(&artifact.bytes).map_err(|error| invalid(&artifact.path, &error))?;
        if let Some(cache) = &self.cache {
            match cache.put(&self.key, &artifact.digest, &code) {
                // From the file, so that the pages are shared with every other process that runs it.
                Ok(()) => {
                    if let Some(module) = self.load(&artifact.digest) {
                        return Ok(module);
                    }
                }
                Err(error) => tracing::warn!(%error, "compiled code is not kept"),
            }
        }
        // SAFETY: the bytes were made by this engine a moment ago and have not left this function.
        unsafe { Module::deserialize(&self.engine, code) }.map_err(|error| invalid(&artifact.path, &error))
    }

    fn load(&self, digest: &Digest) -> Option<Module> {
        let file = self.cache.as_ref()?.get(&self.key, digest)?;
        // SAFETY: the cache returns only files that this user alone can write, in a directory that this user alone can
        // write, that were put there under this engine's key and are undamaged; they are replaced by rename, never
        // changed in place.
        let module = unsafe { Module::deserialize_open_file(&self.engine, file) };
        module.inspect_err(|error| tracing::warn!(%error, "cached code does not fit, compiling again")).ok()
    }
}

fn invalid(path: &Path, error: &wasmtime::Error) -> EngineError {
    EngineError::Invalid { path: path.to_owned(), reason: format!("{error:#}") }
}
