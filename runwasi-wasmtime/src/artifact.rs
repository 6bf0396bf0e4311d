//! From an artifact's bytes to compiled code, through what is loaded already and the code cache. Used by `engine`.

use std::{
    collections::HashMap,
    fs::File,
    num::NonZero,
    os::fd::AsRawFd,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::available_parallelism,
};

use runwasi_core::{
    EngineError, InstanceSpec,
    image::{Artifact, ArtifactKind, Digest, Identity, Program, cache::CodeCache},
};
use tokio::{sync::Semaphore, task::spawn_blocking};
use wasmtime::{Engine, InstancePre, Linker, Module, component};

use crate::{
    component::{self as guests, link},
    module::Guest,
};

/// Compiles, or finds what was compiled before.
#[derive(Clone)]
pub(crate) struct Compiler {
    engine: Engine,
    linker: Arc<Linker<Guest>>,
    /// Made for the first component: a shim that runs core modules has no need to wait for it.
    components: Arc<OnceLock<component::Linker<guests::Component>>>,
    /// Names the engine's settings in the cache.
    key: String,
    cache: Option<CodeCache>,
    /// Locked for look-ups.
    loaded: Arc<Mutex<Loaded>>,
    /// Compiling and loading at once, one a core.
    compiling: Arc<Semaphore>,
}

/// Code that only has to be instantiated: linked with what guests may import. Kept by its guests.
pub(crate) enum Ready {
    Module(InstancePre<Guest>),
    Component(component::InstancePre<guests::Component>),
}

/// What guests of this process run, or ran lately: all guests of an image share one.
#[derive(Default)]
struct Loaded {
    /// The most recently used last.
    ready: Vec<(Digest, Arc<Ready>)>,
    /// Files that need not be read again to know what they hold.
    known: HashMap<Identity, Digest>,
}

/// Modules kept for the next guest; each holds a mapped file and some bookkeeping.
const KEPT: usize = 256;
/// Files that are remembered.
const KNOWN: usize = 4096;

impl Loaded {
    fn of_file(&mut self, identity: &Identity) -> Option<Arc<Ready>> {
        let digest = *self.known.get(identity)?;
        self.get(&digest)
    }

    fn get(&mut self, digest: &Digest) -> Option<Arc<Ready>> {
        let place = self.ready.iter().rposition(|(known, _)| known == digest)?;
        let found = self.ready.remove(place);
        let ready = found.1.clone();
        self.ready.push(found);
        Some(ready)
    }

    /// Of two who have loaded the same, the first counts.
    fn put(&mut self, digest: Digest, ready: Arc<Ready>) -> Arc<Ready> {
        if let Some(known) = self.get(&digest) {
            return known;
        }
        if self.ready.len() == KEPT {
            self.ready.remove(0);
        }
        self.ready.push((digest, ready.clone()));
        ready
    }

    fn remember(&mut self, artifact: &Artifact) {
        if self.known.len() == KNOWN {
            self.known.clear();
        }
        self.known.extend(artifact.identity.map(|identity| (identity, artifact.digest)));
    }
}

impl Compiler {
    pub(crate) fn new(linker: Linker<Guest>, key: String, cache: Option<CodeCache>) -> Self {
        let compiling = Arc::new(Semaphore::new(available_parallelism().map_or(1, NonZero::get)));
        let (engine, linker) = (linker.engine().clone(), Arc::new(linker));
        Self { engine, linker, components: Arc::default(), key, cache, loaded: Arc::default(), compiling }
    }

    /// What a process is to run. Works on the blocking pool if the file is not known; `keep` is dropped when that work is done,
    /// also if nobody waits for it any more.
    pub(crate) async fn ready(
        &self,
        spec: &InstanceSpec,
        keep: impl Send + 'static,
    ) -> Result<(Program, Arc<Ready>), EngineError> {
        let program = spec.program.clone()?;
        if let Some(ready) = program.identity.and_then(|identity| self.loaded().of_file(&identity)) {
            return Ok((program, ready));
        }
        let artifact = spec.artifact().await?;
        self.loaded().remember(&artifact);
        if let Some(ready) = { self.loaded().get(&artifact.digest) } {
            return Ok((program, ready));
        }
        // A node that starts a hundred guests of a new image compiles it once or twice, not a hundred times.
        let _turn = self.compiling.acquire().await;
        if let Some(ready) = { self.loaded().get(&artifact.digest) } {
            return Ok((program, ready));
        }
        let compiler = self.clone();
        let work = move || {
            let _keep = keep;
            compiler.make(&artifact)
        };
        let made = spawn_blocking(work).await.map_err(|error| EngineError::Failed(error.to_string()))?;
        Ok((program, made?))
    }

    /// Drops what is loaded and run by nobody; with it goes what the instance pool keeps mapped of it.
    pub(crate) fn forget_unused(&self) {
        let mut loaded = self.loaded();
        let unused = loaded.ready.extract_if(.., |(_, ready)| Arc::strong_count(ready) == 1).collect::<Vec<_>>();
        drop(loaded);
        // Not under the lock: unmapping takes its time.
        drop(unused);
    }

    fn make(&self, artifact: &Artifact) -> Result<Arc<Ready>, EngineError> {
        let ready = match artifact.kind {
            ArtifactKind::Module => self.module(artifact),
            ArtifactKind::Component => self.component(artifact),
        };
        let ready = ready.map_err(|error| invalid(&artifact.path, &error))?;
        Ok(self.loaded().put(artifact.digest, Arc::new(ready)))
    }

    fn module(&self, artifact: &Artifact) -> wasmtime::Result<Ready> {
        // SAFETY: see `Code`.
        let module = self.load_or_compile(artifact, |code| unsafe {
            match code {
                Code::Kept(file) => Module::deserialize_open_file(&self.engine, file),
                Code::Fresh(bytes) => Module::deserialize(&self.engine, bytes),
            }
        })?;
        self.linker.instantiate_pre(&module).map(Ready::Module)
    }

    fn component(&self, artifact: &Artifact) -> wasmtime::Result<Ready> {
        // SAFETY: see `Code`.
        let component = self.load_or_compile(artifact, |code| unsafe {
            match code {
                // By its descriptor: the name may lead to another file by now.
                Code::Kept(file) => {
                    component::Component::deserialize_file(&self.engine, format!("/proc/self/fd/{}", file.as_raw_fd()))
                }
                Code::Fresh(bytes) => component::Component::deserialize(&self.engine, bytes),
            }
        })?;
        self.component_linker()?.instantiate_pre(&component).map(Ready::Component)
    }

    fn component_linker(&self) -> wasmtime::Result<&component::Linker<guests::Component>> {
        if let Some(linker) = self.components.get() {
            return Ok(linker);
        }
        let linker = link::linker(&self.engine)?;
        // Of two who have made one, the first counts.
        Ok(self.components.get_or_init(|| linker))
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_or_compile<T>(
        &self,
        artifact: &Artifact,
        load: impl Fn(Code) -> wasmtime::Result<T>,
    ) -> wasmtime::Result<T> {
        if let Some(loaded) = self.kept(&artifact.digest, &load) {
            return Ok(loaded);
        }
        let code = match artifact.kind {
            ArtifactKind::Module => self.engine.precompile_module(&artifact.bytes)?,
            ArtifactKind::Component => self.engine.precompile_component(&artifact.bytes)?,
        };
        if let Some(cache) = &self.cache {
            match cache.put(&self.key, &artifact.digest, &code) {
                // From the file, so that the pages are shared with every other process that runs it.
                Ok(()) => {
                    if let Some(loaded) = self.kept(&artifact.digest, &load) {
                        return Ok(loaded);
                    }
                }
                Err(error) => tracing::warn!(%error, "compiled code is not kept"),
            }
        }
        load(Code::Fresh(code))
    }

    fn kept<T>(&self, digest: &Digest, load: impl Fn(Code) -> wasmtime::Result<T>) -> Option<T> {
        let file = self.cache.as_ref()?.get(&self.key, digest)?;
        let loaded = load(Code::Kept(file));
        loaded.inspect_err(|error| tracing::warn!(%error, "cached code does not fit, compiling again")).ok()
    }
}

/// Compiled code that may be loaded without a look at it.
enum Code {
    /// From the cache, which returns only files that this user alone can write, in a directory that this user alone can write, that
    /// were put there under this engine's key and are undamaged; they are replaced by rename, never changed in place.
    Kept(File),
    /// Made by this engine a moment ago; has not left the function that made it.
    Fresh(Vec<u8>),
}

fn invalid(path: &Path, error: &wasmtime::Error) -> EngineError {
    EngineError::Invalid { path: path.to_owned(), reason: format!("{error:#}") }
}
