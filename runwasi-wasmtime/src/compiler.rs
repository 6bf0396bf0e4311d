//! From an artifact's bytes to compiled code: what is loaded already, what was compiled before, the compiler.
//!
//! ```text
//! ready ─▶ loaded? ─▶ seen and kept? ─▶ read ─▶ loaded? ─▶ board ─▶ (blocking pool) kept? ─▶ (compile thread) reserve ─▶ kept? ─▶ compile ─▶ keep
//! ```
//!
//! What is kept is loaded without waiting for anybody's compilation. What is not is compiled once: in this OS process by the
//! flight that all who want it board, among the processes of the node by the place in the cache that one of them reserves.

use std::{
    fs::File,
    num::NonZero,
    os::fd::AsRawFd,
    sync::{Arc, OnceLock},
    thread::{self, ScopedJoinHandle, available_parallelism},
    time::{Duration, Instant},
};

use runwasi_core::{
    EngineError, InstanceSpec,
    artifact::{Artifact, ArtifactKind, Program},
    code_cache::{
        digests::DigestIndex,
        single_flight::{Leader, SingleFlight},
        store::{CodeCache, CompileLock, Found},
        workers::{Turn, Workers},
    },
    digest::Digest,
    engine::Precompiled as Warmed,
};
use tokio::task::spawn_blocking;
use wasmtime::{
    Engine, Linker, Module, Precompiled,
    component::{self, Component},
};

pub(crate) use crate::module_cache::Ready;
use crate::{
    component::{link::linker, store},
    module::store::Guest,
    module_cache::ModuleCache,
};

/// How long the compilation of another process is waited for. It has not died, or its place would be free.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked for its end.
const LOOK: Duration = Duration::from_millis(20);

/// Compiles, or finds what was compiled before. All clones are the same.
#[derive(Clone)]
pub(crate) struct Compiler {
    engine: Engine,
    linker: Arc<Linker<Guest>>,
    /// Made for the first component: a shim that runs core modules has no need to wait for it.
    components: Arc<OnceLock<component::Linker<store::Component>>>,
    /// Names the engine's settings in the cache.
    key: String,
    cache: Option<CodeCache>,
    seen: Option<DigestIndex>,
    module_cache: ModuleCache,
    flights: SingleFlight<Outcome>,
    /// Those that compile, one a core.
    workers: Workers,
}

/// What has become of an artifact; the error is the reason.
type Outcome = Result<Made, Arc<str>>;

#[derive(Clone)]
struct Made {
    ready: Arc<Ready>,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// It was compiled before.
    Kept,
    /// Now, and it is kept.
    Compiled,
    /// Now, but it is not kept.
    NotKept,
}

/// An artifact on its way. Dropped, it tells those who wait that nothing comes.
struct Order {
    compiler: Compiler,
    artifact: Artifact,
    landing: Leader<Outcome>,
    /// When it was first asked for the place in the cache.
    asked: Option<Instant>,
    /// Whoever lends the engine.
    _keep: Box<dyn Send>,
}

impl Compiler {
    pub(crate) fn new(
        linker: Linker<Guest>,
        key: String,
        cache: Option<CodeCache>,
        seen: Option<DigestIndex>,
    ) -> Self {
        Self {
            engine: linker.engine().clone(),
            linker: Arc::new(linker),
            components: Arc::default(),
            key,
            cache,
            seen,
            module_cache: ModuleCache::default(),
            flights: SingleFlight::default(),
            workers: Workers::new(available_parallelism().map_or(1, NonZero::get)),
        }
    }

    /// What a process is to run. `keep` is dropped when nothing is done for it any more, also if nobody waits for it.
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
        let artifact = spec.read(&program).await?;
        self.remember(&artifact);
        if let Some(ready) = self.module_cache.get(&artifact.digest) {
            return Ok((program, ready));
        }
        Ok((program, self.made(artifact, keep).await?.ready))
    }

    /// What is loaded already and can be told without reading the program.
    fn known(&self, program: &Program) -> Option<Arc<Ready>> {
        match (program.digest(), program.identity()) {
            (Some(digest), _) => self.module_cache.get(&digest),
            (None, identity) => self.module_cache.of_file(&identity?),
        }
    }

    /// What was compiled before need not be read, if the digest of its bytes is known: that of a layer is its name, of a file it is
    /// kept beside the code.
    async fn unread(&self, program: &Program) -> Result<Option<Arc<Ready>>, EngineError> {
        let (digest, identity) = (program.digest(), program.identity());
        if digest.is_none() && (identity.is_none() || self.seen.is_none()) {
            return Ok(None);
        }
        let compiler = self.clone();
        let work = move || {
            let digest = digest.or_else(|| compiler.seen.as_ref()?.get(&identity?))?;
            if let Some(identity) = identity {
                compiler.module_cache.remember(identity, digest);
            }
            if let Some(ready) = compiler.module_cache.get(&digest) {
                return Some(Ok(ready));
            }
            Some(compiler.kept(&digest)?.map(|ready| compiler.module_cache.put(digest, ready)))
        };
        let kept =
            spawn_blocking(work).await.map_err(|error| EngineError::Failed(error.to_string()))?;
        let invalid = |error| EngineError::Invalid {
            path: program.path.clone(),
            reason: format!("{error:#}"),
        };
        kept.transpose().map_err(invalid)
    }

    /// What an artifact's file holds, for the next guest and the next process.
    fn remember(&self, artifact: &Artifact) {
        let Some(identity) = artifact.identity else { return };
        let (digest, path) = (artifact.digest, artifact.path.clone());
        self.module_cache.remember(identity, digest);
        let Some(seen) = self.seen.clone() else { return };
        // Not waited for: this start does without.
        drop(spawn_blocking(move || {
            if let Err(error) = seen.put(&identity, &digest) {
                tracing::warn!(path = %path.display(), %error, "the next process reads the file again");
            }
        }));
    }

    /// Has the compiled code of an artifact in the cache.
    pub(crate) async fn precompile(
        &self,
        artifact: Artifact,
        keep: impl Send + 'static,
    ) -> Result<Warmed, EngineError> {
        if self.cache.is_none() {
            return Err(EngineError::Failed("no compiled code is kept: there is no cache".into()));
        }
        match self.made(artifact, keep).await?.how {
            How::Kept => Ok(Warmed::Kept),
            How::Compiled => Ok(Warmed::Compiled),
            How::NotKept => {
                Err(EngineError::Failed("the compiled code could not be kept, see the log".into()))
            }
        }
    }

    /// Drops what is loaded and run by nobody.
    pub(crate) fn forget_unused(&self) {
        self.module_cache.forget_unused();
    }

    async fn made(
        &self,
        artifact: Artifact,
        keep: impl Send + 'static,
    ) -> Result<Made, EngineError> {
        let path = artifact.path.clone();
        let flight = self.flights.join(artifact.digest, |landing| {
            let order = Order {
                compiler: self.clone(),
                artifact,
                landing,
                asked: None,
                _keep: Box::new(keep),
            };
            // Not waited for: those who wait may go away, the flight goes on.
            drop(spawn_blocking(move || order.load()));
        });
        let still = |since: Duration| {
            tracing::info!(path = %path.display(), seconds = since.as_secs(), "still being compiled");
        };
        let outcome = flight.wait(still).await;
        let outcome = outcome.ok_or_else(|| {
            EngineError::Failed(format!("{}: compiling has failed", path.display()))
        })?;
        outcome.map_err(|reason| EngineError::Invalid { path, reason: reason.to_string() })
    }

    /// What was compiled before, linked or not to be linked.
    fn kept(&self, digest: &Digest) -> Option<wasmtime::Result<Ready>> {
        let found = self.cache.as_ref()?.find(&self.key, digest)?;
        let kind = Engine::detect_precompiled_file(by_descriptor(found.file()));
        let file = match kind {
            Ok(Some(Precompiled::Component)) if self.components.get().is_none() => {
                self.undamaged_component(found)
            }
            _ => found.undamaged(),
        }?;
        match kind.and_then(|kind| self.load(kind, Code::Kept(file))) {
            Ok(code) => Some(self.link(&code)),
            Err(error) => {
                tracing::warn!(%error, "cached code does not fit, compiling again");
                None
            }
        }
    }

    /// The first component's linker is made while the code is looked at: each takes about a millisecond.
    fn undamaged_component(&self, found: Found) -> Option<File> {
        thread::scope(|scope| {
            // Where it cannot be made now it is made, or fails, where it is needed.
            let linker =
                thread::Builder::new().spawn_scoped(scope, || drop(self.component_linker()));
            let code = found.undamaged();
            drop(linker.map(ScopedJoinHandle::join));
            code
        })
    }

    /// Compiled code of the kind that it says it is.
    fn load(&self, kind: Option<Precompiled>, code: Code) -> wasmtime::Result<Loadable> {
        let engine = &self.engine;
        // SAFETY: see `Code`.
        Ok(unsafe {
            match (kind, code) {
                (Some(Precompiled::Module), Code::Kept(file)) => {
                    Loadable::Module(Module::deserialize_open_file(engine, file)?)
                }
                (Some(Precompiled::Module), Code::Fresh(bytes)) => {
                    Loadable::Module(Module::deserialize(engine, bytes)?)
                }
                (Some(Precompiled::Component), Code::Kept(file)) => {
                    Loadable::Component(Component::deserialize_file(engine, by_descriptor(&file))?)
                }
                (Some(Precompiled::Component), Code::Fresh(bytes)) => {
                    Loadable::Component(Component::deserialize(engine, bytes)?)
                }
                (None, _) => return Err(wasmtime::Error::msg("it is no compiled code")),
            }
        })
    }

    fn link(&self, code: &Loadable) -> wasmtime::Result<Ready> {
        match code {
            Loadable::Module(module) => self.linker.instantiate_pre(module).map(Ready::Module),
            Loadable::Component(component) => {
                self.component_linker()?.instantiate_pre(component).map(Ready::Component)
            }
        }
    }

    fn component_linker(&self) -> wasmtime::Result<&component::Linker<store::Component>> {
        if let Some(linker) = self.components.get() {
            return Ok(linker);
        }
        let linker = linker::linker(&self.engine)?;
        // Of two who have made one, the first counts.
        Ok(self.components.get_or_init(|| linker))
    }
}

impl Order {
    /// The part without a compiler, on the blocking pool.
    fn load(self) {
        if let Some(ready) = self.compiler.module_cache.get(&self.artifact.digest) {
            return self.landing.complete(Ok(Made { ready, how: How::Kept }));
        }
        if let Some(kept) = self.compiler.kept(&self.artifact.digest) {
            return self.land(kept, How::Kept);
        }
        let workers = self.compiler.workers.clone();
        let mut order = Some(self);
        let job = move || match order.take().and_then(Self::wanted) {
            Some(mut this) => match this.reserve() {
                Place::Busy => {
                    order = Some(this);
                    Turn::Again(LOOK)
                }
                Place::Ours(place) => {
                    this.compile(Some(place));
                    Turn::Done
                }
                Place::None => {
                    this.compile(None);
                    Turn::Done
                }
            },
            None => Turn::Done,
        };
        if let Err(error) = workers.submit(job) {
            tracing::error!(%error, "no thread to compile on");
        }
    }

    /// Nothing, if all who waited have gone away.
    fn wanted(self) -> Option<Self> {
        Some(Self { landing: self.landing.wanted()?, ..self })
    }

    /// The place in the cache, unless it is another process's for now.
    fn reserve(&mut self) -> Place {
        let Some(cache) = &self.compiler.cache else { return Place::None };
        let first = self.asked.is_none();
        let asked = *self.asked.get_or_insert_with(Instant::now);
        let path = self.artifact.path.display();
        match cache.reserve(&self.compiler.key, &self.artifact.digest) {
            Ok(Some(place)) => Place::Ours(place),
            Ok(None) if asked.elapsed() < PATIENCE => {
                if first {
                    tracing::info!(%path, "another process compiles it, waiting");
                }
                Place::Busy
            }
            Ok(None) => {
                tracing::warn!(%path, "another process does not finish compiling it, compiling it here, too");
                Place::None
            }
            Err(error) => {
                tracing::warn!(%path, %error, "compiled code is not kept");
                Place::None
            }
        }
    }

    /// The place is given back before it lands: with the last guest that waits the OS process may end.
    fn compile(self, place: Option<CompileLock>) {
        // Whoever had the place before may have finished.
        if let Some(kept) = place.as_ref().and_then(|_| self.compiler.kept(&self.artifact.digest)) {
            drop(place);
            return self.land(kept, How::Kept);
        }
        let code = match self.code() {
            Ok(code) => code,
            Err(error) => {
                drop(place);
                return self.land(Err(error), How::NotKept);
            }
        };
        let filled = place.map(|place| place.fill(&code));
        if let Some(Err(error)) = &filled {
            tracing::warn!(path = %self.artifact.path.display(), %error, "compiled code is not kept");
        }
        let is_kept = matches!(filled, Some(Ok(())));
        // From the file, so that the pages are shared with every other process that runs it.
        if let Some(kept) = is_kept.then(|| self.compiler.kept(&self.artifact.digest)).flatten() {
            return self.land(kept, How::Compiled);
        }
        let loaded = self.compiler.load(Engine::detect_precompiled(&code), Code::Fresh(code));
        let ready = loaded.and_then(|code| self.compiler.link(&code));
        self.land(ready, How::NotKept);
    }

    fn code(&self) -> wasmtime::Result<Vec<u8>> {
        let Artifact { path, bytes, kind, .. } = &self.artifact;
        let (engine, begun, path) = (&self.compiler.engine, Instant::now(), path.display());
        tracing::info!(%path, bytes = bytes.len(), "compiling");
        let code = match kind {
            ArtifactKind::Module => engine.precompile_module(bytes),
            ArtifactKind::Component => engine.precompile_component(bytes),
        }?;
        tracing::info!(%path, bytes = code.len(), took = ?begun.elapsed(), "compiled");
        Ok(code)
    }

    fn land(self, ready: wasmtime::Result<Ready>, how: How) {
        let Self { compiler, artifact, landing, .. } = self;
        // Before it lands: whoever looks for it later finds it loaded, or on its way.
        let made = ready
            .map(|ready| Made { ready: compiler.module_cache.put(artifact.digest, ready), how });
        landing.complete(made.map_err(|error| format!("{error:#}").into()));
    }
}

/// Whose the place in the cache is.
enum Place {
    Ours(CompileLock),
    Busy,
    /// There is no cache, or none that works.
    None,
}

/// Code that is loaded and not yet linked.
enum Loadable {
    Module(Module),
    Component(Component),
}

/// Compiled code that may be loaded without a look at it.
enum Code {
    /// From the cache, which returns only files that this user alone can write, in a directory that this user alone can write, that
    /// were put there under this engine's key and are undamaged; they are replaced by rename, never changed in place.
    Kept(File),
    /// Made by this engine a moment ago; has not left the function that made it.
    Fresh(Vec<u8>),
}

/// A file's own name may lead to another file by now.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
