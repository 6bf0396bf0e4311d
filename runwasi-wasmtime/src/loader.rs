//! From compiled code to linked code: the module cache of this OS process, the code cache of the
//! node, deserialization and linking.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{Arc, OnceLock},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use runwasi_core::{
    code_cache::store::{CodeCache, CompileLock, UncheckedFile},
    digest::Digest,
    engine::KeptCode,
};
use wasmtime::{
    Engine, Linker, Module, Precompiled,
    component::{self, Component},
};

use crate::{
    component::{link::linker, store},
    hooks::Hooks,
    module::store::Guest,
    module_cache::{ModuleCache, Ready},
};

/// The clock of files is behind that of programs by less than this.
const TICK: Duration = Duration::from_millis(20);

/// Loader of one engine. Clones share all state.
#[derive(Clone)]
pub(crate) struct Loader {
    engine: Engine,
    linker: Arc<Linker<Guest>>,
    /// Linker for components, initialized by the first component.
    // A shim that runs only core modules does not wait for it.
    components: Arc<OnceLock<component::Linker<store::Component>>>,
    hooks: Arc<Hooks>,
    /// Identifies version, target and settings of the engine in the code cache.
    key: String,
    cache: Option<CodeCache>,
    module_cache: ModuleCache,
    /// Begin of its life: of a run, if the program compiles in advance.
    begun: SystemTime,
}

impl Loader {
    pub(crate) fn new(
        linker: Linker<Guest>,
        hooks: Arc<Hooks>,
        key: String,
        cache: Option<CodeCache>,
    ) -> Self {
        Self {
            engine: linker.engine().clone(),
            linker: Arc::new(linker),
            components: Arc::default(),
            hooks,
            key,
            cache,
            module_cache: ModuleCache::default(),
            begun: SystemTime::now().checked_sub(TICK).unwrap_or(UNIX_EPOCH),
        }
    }

    pub(crate) fn module_cache(&self) -> &ModuleCache {
        &self.module_cache
    }

    pub(crate) fn begun(&self) -> SystemTime {
        self.begun
    }

    pub(crate) fn has_code_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Compiled code on disk. Blocks.
    pub(crate) fn kept_code(&self) -> Option<KeptCode> {
        self.cache.as_ref().map(CodeCache::usage)
    }

    /// Tries to take the compile lock of an artifact. Returns nothing without a code cache.
    pub(crate) fn reserve(&self, digest: &Digest) -> Option<io::Result<Option<CompileLock>>> {
        Some(self.cache.as_ref()?.reserve(&self.key, digest))
    }

    /// Linked code of an artifact from one of the caches. An error means that cached code cannot be
    /// linked, or exceeds a bound of the pool. Blocks.
    pub(crate) fn load(&self, digest: &Digest) -> Option<wasmtime::Result<Arc<Ready>>> {
        if let Some(ready) = self.module_cache.get(digest) {
            if self.module_cache.due(&ready, Instant::now()).is_some() {
                self.refresh(digest);
            }
            return Some(Ok(ready));
        }
        let code = self.cached_code(digest)?;
        Some(code.and_then(|code| self.link(digest, &code)))
    }

    /// Time of the last use of code in the code cache, which may be damaged.
    pub(crate) fn used(&self, digest: &Digest) -> Option<SystemTime> {
        self.cache.as_ref()?.used(&self.key, digest)
    }

    /// Notes a use of linked code in the code cache. Blocks.
    pub(crate) fn refresh(&self, digest: &Digest) {
        if let Some(cache) = &self.cache {
            cache.refresh(&self.key, digest);
        }
    }

    /// Links code that this program has compiled, for this engine or one with the same settings of
    /// code. Blocks.
    pub(crate) fn load_fresh(
        &self,
        digest: &Digest,
        code: Vec<u8>,
    ) -> wasmtime::Result<Arc<Ready>> {
        let kind = Engine::detect_precompiled(&code);
        self.link(digest, &self.deserialize(kind, Code::Fresh(code))?)
    }

    /// Links the compiled outline of an artifact, to find out if the artifact can be linked.
    /// Blocks.
    pub(crate) fn check(&self, outline: Vec<u8>) -> wasmtime::Result<()> {
        let kind = Engine::detect_precompiled(&outline);
        match self.deserialize(kind, Code::Fresh(outline))? {
            Loadable::Module(module) => self.linker.instantiate_pre(&module).map(drop),
            Loadable::Component(component) => {
                self.component_linker()?.instantiate_pre(&component).map(drop)
            }
        }
    }

    /// Loads code from the code cache, if it is undamaged and fits. An error means that it exceeds
    /// a bound of the pool.
    fn cached_code(&self, digest: &Digest) -> Option<wasmtime::Result<Loadable>> {
        let found = self.cache.as_ref()?.find(&self.key, digest)?;
        let kind = Engine::detect_precompiled_file(by_descriptor(found.file()));
        // The descriptor stays the same file: the cache replaces its files by rename.
        let file = match kind {
            Ok(Some(Precompiled::Component)) if self.components.get().is_none() => {
                self.undamaged_component(found)
            }
            _ => found.undamaged(),
        }?;
        match kind.and_then(|kind| self.deserialize(kind, Code::Kept(file))) {
            // Compiled again, it would exceed the bound again, at each start.
            Err(error) if is_beyond_pool(&error) => Some(Err(error)),
            // The caller compiles then, which replaces the file.
            Err(error) => {
                tracing::warn!(%error, "cached code does not fit, compiling again");
                None
            }
            Ok(code) => Some(Ok(code)),
        }
    }

    /// Checks the code of the first component while a second thread builds the component linker.
    fn undamaged_component(&self, found: UncheckedFile) -> Option<File> {
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

    /// Deserializes compiled code of the given kind. Refuses code that exceeds a bound of the pool.
    fn deserialize(&self, kind: Option<Precompiled>, code: Code) -> wasmtime::Result<Loadable> {
        self.deserialize_any(kind, code).map_err(with_setting)
    }

    fn deserialize_any(&self, kind: Option<Precompiled>, code: Code) -> wasmtime::Result<Loadable> {
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

    /// Links code and adds it to the module cache.
    fn link(&self, digest: &Digest, code: &Loadable) -> wasmtime::Result<Arc<Ready>> {
        let ready = match code {
            Loadable::Module(module) => Ready::Module(self.linker.instantiate_pre(module)?),
            Loadable::Component(component) => {
                Ready::Component(self.component_linker()?.instantiate_pre(component)?)
            }
        };
        Ok(self.module_cache.put(*digest, ready))
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

/// Adds the setting that raises the bound to the refusal of a component with too many instances.
fn with_setting(error: wasmtime::Error) -> wasmtime::Error {
    let text = format!("{error:#}");
    // wasmtime's error has no other form than its text.
    if !text.contains("core module instances") {
        return error;
    }
    wasmtime::Error::msg(format!("{text}: the setting engine.component-instances raises the limit"))
}

/// True if the code is what it should be, and needs more than a bound of the pool.
fn is_beyond_pool(error: &wasmtime::Error) -> bool {
    // As above: all of these errors name the pool, and no other error of a deserialization does.
    format!("{error:#}").contains("pooling allocator")
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
    /// Compiled a moment ago by this program: in this process, or in one that this process has
    /// started for it and whose pipes have no other user. Or loaded by another engine of this
    /// process already.
    Fresh(Vec<u8>),
}

/// Path of an open file by its descriptor.
// Its name may lead to another file by now.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
