//! From the bytes of an artifact to linked code, by three sources in turn: the module cache of this
//! OS process, the code cache of the node, the compiler.
//!
//! ```text
//! ready ─▶ in module cache? ─▶ digest known and code cached? ─▶ read the artifact
//!       ─▶ in module cache? ─▶ join the single flight
//!            (blocking pool)  ─▶ in module cache? ─▶ code cached?
//!            (compile thread) ─▶ reserve the lock ─▶ code cached? ─▶ compile ─▶ store
//! ```
//!
//! Cached code is loaded without waiting for any compilation. Other code is compiled once: within
//! this OS process by a single flight that all requests for it join, among the processes of the
//! node by the compile lock of the code cache.

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
    hooks::Hooks,
    module::store::Guest,
    module_cache::ModuleCache,
};

/// Longest wait for the compilation of another process.
// The process is alive: the kernel would have released the lock of a dead one.
const PATIENCE: Duration = Duration::from_secs(120);
/// Interval between two attempts to take the lock of another process.
const LOOK: Duration = Duration::from_millis(20);

/// Compiler of one engine and lookup of code compiled before. Clones share all state.
#[derive(Clone)]
pub(crate) struct Compiler {
    engine: Engine,
    linker: Arc<Linker<Guest>>,
    /// Linker for components, initialized by the first component.
    // A shim that runs only core modules does not wait for it.
    components: Arc<OnceLock<component::Linker<store::Component>>>,
    hooks: Arc<Hooks>,
    /// Identifies version, target and settings of the engine in the code cache.
    key: String,
    cache: Option<CodeCache>,
    seen: Option<DigestIndex>,
    module_cache: ModuleCache,
    single_flight: SingleFlight<Outcome>,
    /// Threads that compile, at most one for each core.
    workers: Workers,
}

/// Result of loading or compiling an artifact. The error is the reason.
type Outcome = Result<Made, Arc<str>>;

#[derive(Clone)]
struct Made {
    ready: Arc<Ready>,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Compiled before: it came from a cache.
    Kept,
    /// Compiled now and stored in the code cache.
    Compiled,
    /// Compiled now, but not stored in the code cache.
    NotKept,
}

/// An artifact to load or compile. Its drop without a result fails all waiters.
struct CompileJob {
    compiler: Compiler,
    artifact: Artifact,
    leader: Leader<Outcome>,
    /// Time of the first attempt to take the compile lock.
    waiting_since: Option<Instant>,
    /// Keeps the owner of the engine alive until the work is done.
    _keep: Box<dyn Send>,
}

impl Compiler {
    pub(crate) fn new(
        linker: Linker<Guest>,
        hooks: Arc<Hooks>,
        key: String,
        cache: Option<CodeCache>,
        seen: Option<DigestIndex>,
    ) -> Self {
        Self {
            engine: linker.engine().clone(),
            linker: Arc::new(linker),
            components: Arc::default(),
            hooks,
            key,
            cache,
            seen,
            module_cache: ModuleCache::default(),
            single_flight: SingleFlight::default(),
            workers: Workers::new(available_parallelism().map_or(1, NonZero::get)),
        }
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
        if let Some(ready) = self.module_cache.get(&artifact.digest) {
            return Ok((program, ready));
        }
        Ok((program, self.made(artifact, keep).await?.ready))
    }

    /// Looks the program up in the module cache without reading it.
    fn known(&self, program: &Program) -> Option<Arc<Ready>> {
        match (program.digest(), program.identity()) {
            (Some(digest), _) => self.module_cache.get(&digest),
            (None, identity) => self.module_cache.of_file(&identity?),
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
        let compiler = self.clone();
        // On the blocking pool: it reads the index, and checks and maps the code file.
        let work = move || {
            let digest = digest.or_else(|| compiler.seen.as_ref()?.get(&identity?))?;
            if let Some(identity) = identity {
                // The next guest of this process finds the code by `known`, without the disk.
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

    /// Records the digest of the artifact's file, for the next guest and the next process.
    fn remember(&self, artifact: &Artifact) {
        let Some(identity) = artifact.identity else { return };
        let digest = artifact.digest;
        let path = artifact.path.clone();
        self.module_cache.remember(identity, digest);
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

    /// Unloads all code that no guest runs.
    pub(crate) fn forget_unused(&self) {
        self.module_cache.forget_unused();
    }

    async fn made(
        &self,
        artifact: Artifact,
        keep: impl Send + 'static,
    ) -> Result<Made, EngineError> {
        let path = artifact.path.clone();
        let waiter = self.single_flight.join(artifact.digest, |leader| {
            let job = CompileJob {
                compiler: self.clone(),
                artifact,
                leader,
                waiting_since: None,
                _keep: Box::new(keep),
            };
            // Detached: the work goes on if its callers go away. Its result arrives by the leader.
            drop(spawn_blocking(move || job.load()));
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

    /// Loads and links code from the code cache. An error means that the code cannot be linked.
    fn kept(&self, digest: &Digest) -> Option<wasmtime::Result<Ready>> {
        let found = self.cache.as_ref()?.find(&self.key, digest)?;
        let kind = Engine::detect_precompiled_file(by_descriptor(found.file()));
        // The descriptor stays the same file: the cache replaces its files by rename.
        let file = match kind {
            Ok(Some(Precompiled::Component)) if self.components.get().is_none() => {
                self.undamaged_component(found)
            }
            _ => found.undamaged(),
        }?;
        match kind.and_then(|kind| self.load(kind, Code::Kept(file))) {
            Ok(code) => Some(self.link(&code)),
            Err(error) => {
                // The caller compiles then, which replaces the file.
                tracing::warn!(%error, "cached code does not fit, compiling again");
                None
            }
        }
    }

    /// Checks the code of the first component while a second thread builds the component linker.
    fn undamaged_component(&self, found: Found) -> Option<File> {
        // In parallel, since each of the two takes about a millisecond.
        thread::scope(|scope| {
            // Its result is dropped: `link` builds the linker again, or reports the error.
            let linker =
                thread::Builder::new().spawn_scoped(scope, || drop(self.component_linker()));
            let code = found.undamaged();
            // Dropped for the same reason: without the thread, or after its panic, `link` does it.
            drop(linker.map(ScopedJoinHandle::join));
            code
        })
    }

    /// Deserializes compiled code of the given kind.
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
        let mut linker = linker::linker(&self.engine)?;
        self.hooks.link_components(&mut linker)?;
        // Two threads may have built one at the same time. The first counts.
        Ok(self.components.get_or_init(|| linker))
    }
}

impl CompileJob {
    /// Completes the job from a cache, or submits it to the compile threads. Blocks.
    fn load(self) {
        // An earlier flight may have completed between the caller's lookup and its `join`.
        if let Some(ready) = self.compiler.module_cache.get(&self.artifact.digest) {
            return self.leader.complete(Ok(Made { ready, how: How::Kept }));
        }
        if let Some(kept) = self.compiler.kept(&self.artifact.digest) {
            return self.complete(kept, How::Kept);
        }
        let workers = self.compiler.workers.clone();
        // In an `Option`, because the job is called again while another process has the lock, and
        // `wanted` and `compile` consume the job.
        let mut pending = Some(self);
        let job = move || match pending.take().and_then(Self::wanted) {
            Some(mut this) => match this.reserve() {
                LockAttempt::Busy => {
                    pending = Some(this);
                    // Leaves the thread to other jobs meanwhile.
                    Turn::Again(LOOK)
                }
                LockAttempt::Acquired(lock) => {
                    this.compile(Some(lock));
                    Turn::Done
                }
                LockAttempt::Unavailable => {
                    this.compile(None);
                    Turn::Done
                }
            },
            None => Turn::Done,
        };
        // An error drops the job, and with it the leader: all waiters fail.
        if let Err(error) = workers.submit(job) {
            tracing::error!(%error, "no thread to compile on");
        }
    }

    /// Gives the job up if all its waiters have gone away.
    fn wanted(self) -> Option<Self> {
        Some(Self { leader: self.leader.wanted()?, ..self })
    }

    /// Tries to take the compile lock of the artifact in the code cache.
    fn reserve(&mut self) -> LockAttempt {
        let Some(cache) = &self.compiler.cache else { return LockAttempt::Unavailable };
        let first = self.waiting_since.is_none();
        let waiting_since = *self.waiting_since.get_or_insert_with(Instant::now);
        let path = self.artifact.path.display();
        match cache.reserve(&self.compiler.key, &self.artifact.digest) {
            Ok(Some(lock)) => LockAttempt::Acquired(lock),
            Ok(None) if waiting_since.elapsed() < PATIENCE => {
                if first {
                    tracing::info!(%path, "another process compiles it, waiting");
                }
                LockAttempt::Busy
            }
            Ok(None) => {
                tracing::warn!(
                    %path,
                    "another process does not finish compiling it, compiling it here, too"
                );
                LockAttempt::Unavailable
            }
            Err(error) => {
                tracing::warn!(%path, %error, "compiled code is not kept");
                LockAttempt::Unavailable
            }
        }
    }

    /// Compiles the artifact and stores its code in the cache, if it has the compile lock.
    fn compile(self, lock: Option<CompileLock>) {
        // Every path releases the lock before it completes the flight: with its last waiter this
        // OS process may end, before a later drop could remove the temporary file.

        // The previous holder of the lock may have stored the code.
        if let Some(kept) = lock.as_ref().and_then(|_| self.compiler.kept(&self.artifact.digest)) {
            drop(lock);
            return self.complete(kept, How::Kept);
        }
        let code = match self.code() {
            Ok(code) => code,
            Err(error) => {
                drop(lock);
                return self.complete(Err(error), How::NotKept);
            }
        };
        let filled = lock.map(|lock| lock.fill(&code));
        if let Some(Err(error)) = &filled {
            let path = self.artifact.path.display();
            tracing::warn!(%path, %error, "compiled code is not kept");
        }
        let is_kept = matches!(filled, Some(Ok(())));
        // Loaded from the file, so that all processes that run the code share its pages.
        if let Some(kept) = is_kept.then(|| self.compiler.kept(&self.artifact.digest)).flatten() {
            return self.complete(kept, How::Compiled);
        }
        let loaded = self.compiler.load(Engine::detect_precompiled(&code), Code::Fresh(code));
        let ready = loaded.and_then(|code| self.compiler.link(&code));
        self.complete(ready, How::NotKept);
    }

    fn code(&self) -> wasmtime::Result<Vec<u8>> {
        let Artifact { path, bytes, kind, .. } = &self.artifact;
        let engine = &self.compiler.engine;
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

    fn complete(self, ready: wasmtime::Result<Ready>, how: How) {
        let Self { compiler, artifact, leader, .. } = self;
        // Cached before the flight completes. A later request finds either the code or the flight.
        let made = ready
            .map(|ready| Made { ready: compiler.module_cache.put(artifact.digest, ready), how });
        leader.complete(made.map_err(|error| format!("{error:#}").into()));
    }
}

/// Result of an attempt to take the compile lock.
enum LockAttempt {
    Acquired(CompileLock),
    /// Another process has the lock.
    Busy,
    /// There is no lock to wait for: no cache, a failing one, or a holder that takes too long.
    Unavailable,
}

/// Loaded code, not yet linked.
enum Loadable {
    Module(Module),
    Component(Component),
}

/// Compiled code that may be deserialized without validation.
enum Code {
    /// From the code cache. The cache returns only files that this user alone can write, in a
    /// directory that this user alone can write. They were stored under this engine's key and are
    /// undamaged. They are replaced by rename and never changed in place.
    Kept(File),
    /// Compiled by this engine a moment ago. It has not left the function that compiled it.
    Fresh(Vec<u8>),
}

/// Path of an open file by its descriptor.
// Its name may lead to another file by now.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
