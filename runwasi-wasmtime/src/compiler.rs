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

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use runwasi_core::{
    EngineError, InstanceSpec,
    artifact::{Artifact, Program},
    blocking::{blocking, eventually},
    code_cache::{digests::DigestIndex, single_flight::SingleFlight, store::CodeCache},
    digest::Digest,
    engine::{KeptCode, Precompiled},
    metrics::code::{Lookup, looked_up},
    observe::Subject,
};
use tokio::runtime::Handle;
use wasmtime::Linker;

pub(crate) use crate::module_cache::Ready;
use crate::{
    codegen::Codegen,
    compile_job::{self, CodeOrigin, Flight, Made, Outcome},
    hooks::Hooks,
    loader::Loader,
    module::store::Guest,
    settings::Settings,
    world::Wanted,
};

/// Compiler of one engine and lookup of code compiled before. Clones share all state.
#[derive(Clone)]
pub(crate) struct Compiler {
    loader: Loader,
    codegen: Codegen,
    seen: Option<DigestIndex>,
    single_flight: SingleFlight<Flight, Outcome>,
}

impl Compiler {
    /// `keeps_spare`: a process that compiles may wait for the next artifact.
    pub(crate) fn new(
        linker: Linker<Guest>,
        hooks: Arc<Hooks>,
        key: String,
        (cache, seen): (Option<CodeCache>, Option<DigestIndex>),
        (settings, keeps_spare): (&Settings, bool),
    ) -> Self {
        Self {
            codegen: Codegen::new(linker.engine().clone(), settings, keeps_spare),
            loader: Loader::new(linker, hooks, key, cache),
            seen,
            single_flight: SingleFlight::default(),
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
            self.refresh(&program, &ready);
            looked_up(Lookup::Memory);
            return Ok((program, ready));
        }
        if let Some(ready) = self.unread(&program).await? {
            looked_up(Lookup::Disk);
            return Ok((program, ready));
        }
        // Only now, since reading and hashing a large file costs more than all lookups above.
        let artifact = spec.read(&program).await?;
        self.remember(&artifact);
        if let Some(ready) = self.loader.module_cache().get(&artifact.digest) {
            self.refresh(&program, &ready);
            looked_up(Lookup::Memory);
            return Ok((program, ready));
        }
        let wanted = Wanted::Entry(program.function.clone());
        let made = self.made((artifact, wanted), Some(spec.subject.clone()), keep).await;
        let is_kept = made.as_ref().is_ok_and(|made| made.origin == CodeOrigin::Kept);
        looked_up(if is_kept { Lookup::Disk } else { Lookup::Miss });
        Ok((program, made?.ready))
    }

    /// Links code that another engine of this OS process has loaded. Blocks.
    pub(crate) fn ready_from(
        &self,
        digest: &Digest,
        code: Vec<u8>,
    ) -> wasmtime::Result<Arc<Ready>> {
        match self.loader.module_cache().get(digest) {
            Some(ready) => Ok(ready),
            None => self.loader.load_fresh(digest, code),
        }
    }

    /// Digest of the artifact of this code, which [`Compiler::ready`] has just returned.
    pub(crate) fn digest(&self, ready: &Arc<Ready>) -> Option<Digest> {
        self.loader.module_cache().digest_of(ready)
    }

    /// Looks the program up in the module cache without reading it.
    fn known(&self, program: &Program) -> Option<Arc<Ready>> {
        match (program.digest(), program.identity()) {
            (Some(digest), _) => self.loader.module_cache().get(&digest),
            (None, identity) => self.loader.module_cache().of_file(&identity?),
        }
    }

    /// Notes on the disk, from time to time, that code from memory is used.
    fn refresh(&self, program: &Program, ready: &Arc<Ready>) {
        let Some(digest) = self.loader.module_cache().due(ready, Instant::now()) else { return };
        let loader = self.loader.clone();
        let seen = self.seen.clone().zip(program.identity());
        // Detached: this start does not need it.
        eventually(&Handle::current(), move || {
            loader.refresh(&digest);
            if let Some((seen, identity)) = seen {
                seen.refresh(&identity);
            }
        });
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
        let path = program.path.clone();
        // On the blocking pool: it reads the index, and checks and maps the code file.
        let work = move || {
            let Some(digest) = digest.or_else(|| seen?.get(&identity?)) else { return Ok(None) };
            if let Some(identity) = identity {
                // The next guest of this process finds the code by `known`, without the disk.
                loader.module_cache().remember(identity, digest);
            }
            loader
                .load(&digest)
                .transpose()
                .map_err(|error| EngineError::Invalid { path, reason: format!("{error:#}") })
        };
        blocking(work, |lost| EngineError::Failed(lost.to_string())).await
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
        eventually(&Handle::current(), move || {
            if let Err(error) = seen.put(&identity, &digest) {
                let path = path.display();
                tracing::warn!(%path, %error, "the next process reads the file again");
            }
        });
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
        let path = artifact.path.clone();
        let made = self.made((artifact, Wanted::Any), None, keep).await?;
        let reason = match made.origin {
            CodeOrigin::Kept => return Ok(Precompiled::Kept),
            CodeOrigin::Compiled => return Ok(Precompiled::Compiled),
            CodeOrigin::NotKept => {
                made.refused.map_or(", see the log".into(), |reason| format!(": {reason}"))
            }
        };
        let path = path.display();
        Err(EngineError::Failed(format!("{path}: the compiled code could not be kept{reason}")))
    }

    /// Compiled code on disk.
    pub(crate) fn kept_code(&self) -> Option<KeptCode> {
        self.loader.kept_code()
    }

    /// Unloads all code that no guest runs.
    pub(crate) fn forget_unused(&self) {
        self.loader.module_cache().forget_unused();
    }

    async fn made(
        &self,
        (artifact, wanted): (Artifact, Wanted),
        subject: Option<Arc<Subject>>,
        keep: impl Send + 'static,
    ) -> Result<Made, EngineError> {
        let path = artifact.path.clone();
        let flight = (artifact.digest, wanted.clone());
        let waiter = self.single_flight.join(flight, |leader| {
            let loader = self.loader.clone();
            let codegen = self.codegen.clone();
            compile_job::start((loader, codegen, subject), (artifact, wanted), leader, keep);
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

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::fs::MetadataExt,
        path::Path,
        pin::pin,
        time::SystemTime,
    };

    use runwasi_core::artifact::ArtifactKind;
    use tokio::time::{sleep, timeout};
    use wasmtime::{Config, Engine, PoolingAllocationConfig};

    use super::*;

    const KEY: &str = "key";
    const BYTES: &[u8] = b"(module)";
    const LIMIT: Duration = Duration::from_secs(10);

    fn cache(directory: &Path) -> CodeCache {
        CodeCache::open(&directory.join("code"), 1 << 20).unwrap()
    }

    fn compiler(directory: &Path) -> Compiler {
        let linker = Linker::new(&Engine::default());
        let kept = (Some(cache(directory)), None);
        Compiler::new(linker, Arc::default(), KEY.into(), kept, (&Settings::default(), false))
    }

    fn artifact(bytes: &[u8]) -> Artifact {
        Artifact {
            path: "/a.wat".into(),
            function: None,
            kind: ArtifactKind::Module,
            bytes: bytes.into(),
            digest: Digest::of(bytes),
            identity: None,
        }
    }

    #[tokio::test]
    async fn concurrent_requests_share_one_compilation() {
        let directory = tempfile::tempdir().unwrap();
        let compiler = compiler(directory.path());
        let first = compiler.made((artifact(BYTES), Wanted::Any), None, ());
        let second = compiler.made((artifact(BYTES), Wanted::Any), None, ());
        let both = tokio::join!(first, second);
        let first = both.0.unwrap();
        assert!(first.origin == CodeOrigin::Compiled);
        assert!(Arc::ptr_eq(&first.ready, &both.1.unwrap().ready));
        assert!(
            compiler.made((artifact(BYTES), Wanted::Any), None, ()).await.unwrap().origin
                == CodeOrigin::Kept
        );
    }

    #[tokio::test]
    async fn use_of_code_in_memory_is_noted_on_the_disk_once_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let compiler = compiler(directory.path());
        let made = compiler.made((artifact(BYTES), Wanted::Any), None, ()).await.unwrap();
        let digest = Digest::of(BYTES);
        let path = directory.path().join(format!("code/{KEY}-{}.cwasm", digest.hex()));
        let long_ago = SystemTime::now() - Duration::from_secs(1000);
        File::open(&path).unwrap().set_modified(long_ago).unwrap();
        let cache = compiler.loader.module_cache();
        let now = Instant::now();
        let later = now + Duration::from_secs(61);
        assert_eq!(cache.due(&made.ready, now), None, "it has just come from the disk");
        assert_eq!(cache.due(&made.ready, later), Some(digest));
        assert_eq!(cache.due(&made.ready, later), None, "it was noted");
        compiler.loader.refresh(&digest);
        assert!(fs::metadata(&path).unwrap().modified().unwrap() > long_ago);
    }

    #[tokio::test]
    async fn refused_bytes_are_invalid_and_leave_no_lock() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = b"(module nonsense)";
        let error =
            compiler(directory.path()).made((artifact(bytes), Wanted::Any), None, ()).await.err();
        assert!(matches!(error, Some(EngineError::Invalid { .. })), "{error:?}");
        let lock = cache(directory.path()).reserve(KEY, &Digest::of(bytes)).unwrap();
        assert!(lock.is_some());
    }

    /// An engine whose components have one core instance at most.
    fn small_engine() -> Engine {
        let mut pool = PoolingAllocationConfig::default();
        pool.max_core_instances_per_component(1).total_core_instances(2);
        pool.total_memories(1).total_tables(1).total_stacks(1).total_gc_heaps(1);
        let mut config = Config::new();
        config.allocation_strategy(pool);
        Engine::new(&config).unwrap()
    }

    #[tokio::test]
    async fn component_beyond_the_pool_is_compiled_once() {
        let directory = tempfile::tempdir().unwrap();
        let kept = (Some(cache(directory.path())), None);
        let linker = Linker::new(&small_engine());
        let settings = Settings::default();
        let compiler = Compiler::new(linker, Arc::default(), KEY.into(), kept, (&settings, false));
        let bytes = b"(component (core module $m)
            (core instance (instantiate $m)) (core instance (instantiate $m)))";
        let kind = ArtifactKind::Component;
        let path = directory.path().join(format!("code/{KEY}-{}.cwasm", Digest::of(bytes).hex()));
        let mut files = Vec::new();
        for _ in 0..2 {
            let artifact = Artifact { kind, ..artifact(bytes) };
            let error = compiler.made((artifact, Wanted::Any), None, ()).await.err();
            let error = error.map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("engine.component-instances raises the limit"), "{error}");
            files.push(fs::metadata(&path).unwrap().ino());
        }
        assert_eq!(files[0], files[1], "its code was made again");
    }

    #[tokio::test]
    async fn request_waits_for_the_lock_of_another_process_and_takes_its_code() {
        let directory = tempfile::tempdir().unwrap();
        let compiler = compiler(directory.path());
        let lock = cache(directory.path()).reserve(KEY, &Digest::of(BYTES)).unwrap().unwrap();
        let mut request = pin!(compiler.made((artifact(BYTES), Wanted::Any), None, ()));
        let early = timeout(Duration::from_millis(200), &mut request).await;
        assert!(early.is_err(), "compiled without the lock");
        // Other artifacts are compiled meanwhile.
        let other =
            timeout(LIMIT, compiler.made((artifact(b"(module $b)"), Wanted::Any), None, ()))
                .await
                .unwrap();
        assert!(other.unwrap().origin == CodeOrigin::Compiled);
        lock.fill(&Engine::default().precompile_module(BYTES).unwrap()).unwrap();
        assert!(timeout(LIMIT, request).await.unwrap().unwrap().origin == CodeOrigin::Kept);
    }

    #[tokio::test]
    async fn request_that_waits_for_a_slot_takes_code_of_another_process() {
        let directory = tempfile::tempdir().unwrap();
        let compiler = compiler(directory.path());
        let mut slots = Vec::new();
        while let Ok(slot) =
            timeout(Duration::from_millis(50), compiler.codegen.slot(BYTES.len())).await
        {
            slots.push(slot);
        }
        let mut request = pin!(compiler.made((artifact(BYTES), Wanted::Any), None, ()));
        let early = timeout(Duration::from_millis(100), &mut request).await;
        assert!(early.is_err(), "compiled without a slot");
        let lock = cache(directory.path()).reserve(KEY, &Digest::of(BYTES)).unwrap().unwrap();
        lock.fill(&Engine::default().precompile_module(BYTES).unwrap()).unwrap();
        assert!(timeout(LIMIT, request).await.unwrap().unwrap().origin == CodeOrigin::Kept);
    }

    #[tokio::test]
    async fn compilation_is_cancelled_without_requests_and_begins_again_with_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let compiler = compiler(directory.path());
        let cache = cache(directory.path());
        let digest = Digest::of(BYTES);
        let lock = cache.reserve(KEY, &digest).unwrap().unwrap();
        let waiting = timeout(
            Duration::from_millis(100),
            compiler.made((artifact(BYTES), Wanted::Any), None, ()),
        );
        assert!(waiting.await.is_err());
        // Longer than the pause between two attempts: the job has seen that its waiter has left.
        sleep(Duration::from_millis(200)).await;
        drop(lock);
        sleep(Duration::from_millis(200)).await;
        assert!(cache.find(KEY, &digest).is_none(), "compiled without a request");
        assert!(
            compiler.made((artifact(BYTES), Wanted::Any), None, ()).await.unwrap().origin
                == CodeOrigin::Compiled
        );
    }

    #[tokio::test]
    async fn precompiled_code_beyond_the_cache_is_a_fault_and_pushes_nothing_out() {
        let small = Engine::default().precompile_module(BYTES).unwrap().len() as u64;
        let directory = tempfile::tempdir().unwrap();
        let run = || {
            let cache = CodeCache::open(&directory.path().join("code"), small * 3 / 2).unwrap();
            let linker = Linker::new(&Engine::default());
            let settings = Settings::default();
            Compiler::new(
                linker,
                Arc::default(),
                KEY.into(),
                (Some(cache), None),
                (&settings, false),
            )
        };
        let first = run();
        let compiled = first.precompile(artifact(BYTES), ()).await.unwrap();
        assert_eq!(compiled, Precompiled::Compiled);
        for run in [first, run()] {
            let kept = run.precompile(artifact(BYTES), ()).await.unwrap();
            assert_eq!(kept, Precompiled::Kept);
            let error = run.precompile(artifact(b"(module $b)"), ()).await.unwrap_err().to_string();
            assert!(error.contains("/a.wat") && error.contains("cache-size"), "{error}");
        }
    }

    #[tokio::test]
    async fn code_is_linked_without_a_cache_and_not_kept() {
        let linker = Linker::new(&Engine::default());
        let settings = Settings::default();
        let compiler =
            Compiler::new(linker, Arc::default(), KEY.into(), (None, None), (&settings, false));
        assert!(
            compiler.made((artifact(BYTES), Wanted::Any), None, ()).await.unwrap().origin
                == CodeOrigin::NotKept
        );
    }
}
