//! From an artifact's bytes to a compiled module, through what is loaded already and the code cache. Used by `engine`.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

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
    loaded: Loaded,
}

/// Modules that guests of this process run, or ran lately: all guests of an image share one.
#[derive(Clone, Default)]
struct Loaded {
    /// The most recently used last. Locked for look-ups; a module is a handle.
    modules: Arc<Mutex<Vec<(Digest, Module)>>>,
}

/// Modules kept for the next guest; each holds a mapped file and some bookkeeping.
const KEPT: usize = 256;

impl Loaded {
    fn get(&self, digest: &Digest) -> Option<Module> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        let place = modules.iter().rposition(|(known, _)| known == digest)?;
        let found = modules.remove(place);
        let module = found.1.clone();
        modules.push(found);
        Some(module)
    }

    /// Of two who have loaded the same, the first counts.
    fn put(&self, digest: Digest, module: Module) -> Module {
        if let Some(known) = self.get(&digest) {
            return known;
        }
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if modules.len() == KEPT {
            modules.remove(0);
        }
        modules.push((digest, module.clone()));
        module
    }
}

impl Compiler {
    pub(crate) fn new(engine: Engine, key: String, cache: Option<CodeCache>) -> Self {
        Self { engine, key, cache, loaded: Loaded::default() }
    }

    /// The module of an artifact. Works on the blocking pool.
    pub(crate) async fn module(&self, artifact: Artifact) -> Result<Module, EngineError> {
        if artifact.kind == ArtifactKind::Component {
            let what = format!("{}: a component", artifact.path.display());
            return Err(EngineError::Unsupported { what, why: "this version runs core modules".into() });
        }
        if let Some(module) = self.loaded.get(&artifact.digest) {
            return Ok(module);
        }
        let compiler = self.clone();
        let work = move || {
            let module = compiler.load_or_compile(&artifact)?;
            Ok(compiler.loaded.put(artifact.digest, module))
        };
        spawn_blocking(work).await.map_err(|error| EngineError::Failed(error.to_string()))?
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
