//! Code generation: "compile these bytes", and nothing else. It happens in an OS process of its own
//! ([`compile_process`]), or on threads of low priority if the program has no such process.
//!
//! Small artifacts and large ones have a *lane* each, so that neither waits behind the other. A
//! large one is compiled by several threads: they have a low priority, so what other processes
//! leave of the cores is shared by the artifacts that are compiled at once.

use std::{
    io,
    num::NonZero,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use runwasi_core::{
    artifact::{Artifact, ArtifactKind},
    blocking::blocking,
    code_cache::{
        compile_process::{CompileProcess, Death, Frame},
        compile_threads::{self, CompileThreads},
    },
    metrics::{
        Present,
        code::{Compilation, compiled, compiling},
    },
};
use tokio::time::timeout;
use wasmtime::Engine;

use crate::{
    compile_process::{self, Refusal, tag},
    settings::Settings,
    spare::Spare,
    world::Wanted,
};

/// Largest artifact of the lane for small ones, in bytes.
const SMALL: usize = 256 << 10;

/// Bytes of an artifact for each thread of its process: compiling them takes far longer than the
/// start of a thread.
const BYTES_PER_THREAD: usize = 16 << 10;

/// Memory limit of a process for each of its threads, in MiB. Each may need some of it.
const MIB_PER_THREAD: u32 = 128;

/// Most threads of a process.
const MOST_THREADS: usize = 16;

/// Longest compilation by the clock, as a multiple of the CPU time of each of its threads.
// Processes of low priority have a tenth of a busy core.
const WAIT: u64 = 10;

/// Code generator of one engine. Clones share its slots.
#[derive(Clone)]
pub(crate) struct Codegen {
    engine: Engine,
    settings: Arc<Settings>,
    spare: Spare,
    cores: usize,
    small: CompileThreads,
    large: CompileThreads,
}

/// Right to compile. Others wait for it meanwhile.
pub(crate) struct Slot {
    engine: Engine,
    settings: Arc<Settings>,
    spare: Spare,
    /// Most threads of the process.
    cores: usize,
    thread: compile_threads::Slot,
}

/// Check of a compiled outline, which blocks. An error is the reason of a refusal.
pub(crate) type Check = Box<dyn FnOnce(Vec<u8>) -> Result<(), String> + Send>;

/// A compilation that the metrics count. Dropped with its future, it was abandoned.
struct CountedCompilation {
    begun: Instant,
    result: Compilation,
    _running: Present,
}

impl CountedCompilation {
    fn begin() -> Self {
        Self { begun: Instant::now(), result: Compilation::Abandoned, _running: compiling() }
    }

    fn ends(&mut self, is_compiled: bool) {
        self.result = if is_compiled { Compilation::Compiled } else { Compilation::Refused };
    }
}

impl Drop for CountedCompilation {
    fn drop(&mut self) {
        compiled(self.result, self.begun.elapsed());
    }
}

impl Codegen {
    /// `keeps_spare`: a process that compiles waits for the next artifact.
    pub(crate) fn new(engine: Engine, settings: &Settings, keeps_spare: bool) -> Self {
        // In each lane as many as there are cores: a lane that is alone uses all.
        let cores = available_parallelism().map_or(1, NonZero::get);
        let lane = || CompileThreads::new(cores);
        let settings = Arc::new(settings.clone());
        let spare = Spare::new(settings.clone(), keeps_spare);
        Self { engine, settings, spare, cores, small: lane(), large: lane() }
    }

    /// Waits for a free slot for an artifact of so many bytes.
    pub(crate) async fn slot(&self, bytes: usize) -> Slot {
        let lane = if bytes <= SMALL { &self.small } else { &self.large };
        let thread = lane.slot().await;
        Slot {
            engine: self.engine.clone(),
            settings: self.settings.clone(),
            spare: self.spare.clone(),
            cores: self.cores,
            thread,
        }
    }
}

impl Slot {
    /// Compiles the bytes of an artifact, if it has the wanted entry and `check` accepts its
    /// outline. An error is the reason for the user. A dropped future ends the process that
    /// compiles; a thread goes on.
    pub(crate) async fn compile(
        &self,
        (artifact, wanted): (Artifact, Wanted),
        check: Check,
    ) -> Result<Vec<u8>, String> {
        let path = artifact.path.clone();
        let path = path.display();
        let told = |bytes: usize| tracing::info!(%path, bytes, "compiling");
        let mut counted = CountedCompilation::begin();
        let code = match compile_process::is_available() {
            true => self.in_process((artifact, wanted), check, told).await,
            false => self.on_thread((artifact, wanted), check, told).await,
        };
        counted.ends(code.is_ok());
        code
    }

    async fn in_process(
        &self,
        wanted: (Artifact, Wanted),
        check: Check,
        told: impl Fn(usize),
    ) -> Result<Vec<u8>, String> {
        let longest = u64::from(self.settings.compile_time).saturating_mul(WAIT);
        let compiled = self.by_frames(wanted, check, told);
        let code = timeout(Duration::from_secs(longest), compiled).await;
        // Others of its kind may follow.
        self.spare.refill();
        code.unwrap_or_else(|_| Err(no_time(longest)))
    }

    /// Starts the process and speaks with it.
    async fn by_frames(
        &self,
        (artifact, wanted): (Artifact, Wanted),
        check: Check,
        told: impl Fn(usize),
    ) -> Result<Vec<u8>, String> {
        let failed = |error: io::Error| format!("its compiler cannot be started: {error}");
        let mut process = self.spare.take().await.map_err(failed)?;
        let outline = match self.outline(&mut process, &artifact, &wanted).await {
            Ok(frame) => self.answer(frame, tag::OUTLINE)?,
            Err(_) => return Err(self.death(process).await),
        };
        let bytes = artifact.bytes.len();
        // The process has them by now.
        drop(artifact);
        checked(check, outline).await?;
        told(bytes);
        match self.code(&mut process).await {
            Ok(frame) => self.answer(frame, tag::CODE),
            Err(_) => Err(self.death(process).await),
        }
    }

    async fn outline(
        &self,
        process: &mut CompileProcess,
        artifact: &Artifact,
        wanted: &Wanted,
    ) -> io::Result<Frame> {
        let kind = match artifact.kind {
            ArtifactKind::Module => tag::MODULE,
            ArtifactKind::Component => tag::COMPONENT,
        };
        let threads = threads(artifact.bytes.len(), self.cores, self.settings.compile_memory);
        process.send(tag::THREADS, &(threads as u64).to_le_bytes()).await?;
        match wanted {
            Wanted::Any => {}
            Wanted::Entry(None) => process.send(tag::ENTRY, &[]).await?,
            Wanted::Entry(Some(name)) => process.send(tag::EXPORT, name.as_bytes()).await?,
        }
        process.send(kind, &artifact.bytes).await?;
        process.receive(self.settings.compile_bytes()).await
    }

    async fn code(&self, process: &mut CompileProcess) -> io::Result<Frame> {
        process.send(tag::GO, &[]).await?;
        process.receive(self.settings.compile_bytes()).await
    }

    /// The bytes of an answer with the `wanted` tag.
    fn answer(&self, frame: Frame, wanted: u8) -> Result<Vec<u8>, String> {
        match frame.tag {
            tag if tag == wanted => Ok(frame.bytes),
            tag::REFUSED => Err(String::from_utf8_lossy(&frame.bytes).into_owned()),
            tag::NO_MEMORY => Err(self.no_memory()),
            other => Err(format!("its compiler has answered with {other}")),
        }
    }

    /// The reason of an end without an answer.
    async fn death(&self, process: CompileProcess) -> String {
        match process.death().await {
            Ok(Death::Memory) => self.no_memory(),
            Ok(Death::Time) => no_time(self.settings.compile_time.into()),
            Ok(Death::Signal(signal)) => format!(
                "its compiler was ended by signal {signal} (9: by the kernel without free memory, \
                 or by hand)"
            ),
            Ok(Death::Other(text)) => format!("its compiler has crashed: {text}"),
            Err(error) => format!("its compiler has crashed: {error}"),
        }
    }

    fn no_memory(&self) -> String {
        let most = self.settings.compile_memory;
        format!(
            "compiling it takes more than {most} MiB of memory: the setting engine.compile-memory \
             raises the limit"
        )
    }

    async fn on_thread(
        &self,
        (artifact, wanted): (Artifact, Wanted),
        check: Check,
        told: impl Fn(usize),
    ) -> Result<Vec<u8>, String> {
        let crashed = || "its compiler has crashed, see the log".to_owned();
        let text = |refusal| match refusal {
            Refusal::Invalid(reason) => reason,
            Refusal::NoMemory => "no memory is left to compile it".to_owned(),
        };
        tracing::warn!(
            path = %artifact.path.display(),
            "compiling in this process, without bounds: its main does not call answer_as_compiler"
        );
        let kind = artifact.kind;
        let bytes = artifact.bytes.len();
        let engine = self.engine.clone();
        let settings = self.settings.clone();
        let prepare = move || {
            let bytes = artifact.bytes.to_vec();
            compile_process::prepare(&engine, &settings, (kind, &wanted), bytes)
        };
        let prepared = self.thread.run(prepare).await.ok_or_else(crashed)?;
        let (wasm, outline) = prepared.map_err(text)?;
        checked(check, outline.unwrap_or_default()).await?;
        told(bytes);
        let engine = self.engine.clone();
        let compile = move || compile_process::compile(&engine, kind, &wasm);
        self.thread.run(compile).await.ok_or_else(crashed)?.map_err(text)
    }
}

fn no_time(seconds: u64) -> String {
    format!(
        "compiling it takes more than {seconds} s: the setting engine.compile-time raises the limit"
    )
}

/// Threads for an artifact of so many bytes.
fn threads(bytes: usize, cores: usize, compile_memory: u32) -> usize {
    let by_memory = (compile_memory / MIB_PER_THREAD) as usize;
    (bytes / BYTES_PER_THREAD).min(cores).min(by_memory).clamp(1, MOST_THREADS)
}

/// Checks an outline, unless it is empty.
async fn checked(check: Check, outline: Vec<u8>) -> Result<(), String> {
    if outline.is_empty() {
        return Ok(());
    }
    blocking(move || check(outline), |lost| lost.to_string()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_follow_the_size_of_an_artifact_and_are_bounded() {
        let few = [150, BYTES_PER_THREAD, 3 * BYTES_PER_THREAD].map(|size| threads(size, 8, 1024));
        assert_eq!(few, [1, 1, 3]);
        assert_eq!(threads(12 << 20, 4, 1024), 4, "by the cores");
        assert_eq!(threads(12 << 20, 64, 1024), 8, "by the memory");
        assert_eq!(threads(12 << 20, 64, 1 << 20), MOST_THREADS);
        assert_eq!(threads(12 << 20, 64, 64), 1);
    }
}
