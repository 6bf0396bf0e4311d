//! Code generation: "compile these bytes", and nothing else. It happens in an OS process of its own
//! ([`compile_process`]), or on threads of low priority if the program has no such process.
//!
//! Small artifacts and large ones have a *lane* each, so that neither waits behind the other.

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
};
use tokio::time::timeout;
use wasmtime::Engine;

use crate::{
    compile_process::{self, Refusal, tag},
    settings::Settings,
};

/// Largest artifact of the lane for small ones, in bytes.
const SMALL: usize = 256 << 10;

/// Code generator of one engine. Clones share its slots.
#[derive(Clone)]
pub(crate) struct Codegen {
    engine: Engine,
    settings: Arc<Settings>,
    small: CompileThreads,
    large: CompileThreads,
}

/// Right to compile. Others wait for it meanwhile.
pub(crate) struct Slot {
    engine: Engine,
    settings: Arc<Settings>,
    thread: compile_threads::Slot,
}

/// Check of a compiled outline, which blocks. An error is the reason of a refusal.
pub(crate) type Check = Box<dyn FnOnce(Vec<u8>) -> Result<(), String> + Send>;

impl Codegen {
    pub(crate) fn new(engine: Engine, settings: &Settings) -> Self {
        // In each lane as many as there are cores: a lane that is alone uses all.
        let cores = available_parallelism().map_or(1, NonZero::get);
        let lane = || CompileThreads::new(cores);
        let settings = Arc::new(settings.clone());
        Self { engine, settings, small: lane(), large: lane() }
    }

    /// Waits for a free slot for an artifact of so many bytes.
    pub(crate) async fn slot(&self, bytes: usize) -> Slot {
        let lane = if bytes <= SMALL { &self.small } else { &self.large };
        let thread = lane.slot().await;
        Slot { engine: self.engine.clone(), settings: self.settings.clone(), thread }
    }
}

impl Slot {
    /// Compiles the bytes of an artifact, if `check` accepts its outline. An error is the reason
    /// for the user. A dropped future ends the process that compiles; a thread goes on.
    pub(crate) async fn compile(
        &self,
        artifact: Artifact,
        check: Check,
    ) -> Result<Vec<u8>, String> {
        let path = artifact.path.clone();
        let path = path.display();
        let begun = Instant::now();
        let told = |bytes: usize| tracing::info!(%path, bytes, "compiling");
        let code = match compile_process::is_available() {
            true => self.in_process(artifact, check, told).await,
            false => self.on_thread(artifact, check, told).await,
        }?;
        tracing::info!(%path, bytes = code.len(), took = ?begun.elapsed(), "compiled");
        Ok(code)
    }

    async fn in_process(
        &self,
        artifact: Artifact,
        check: Check,
        told: impl Fn(usize),
    ) -> Result<Vec<u8>, String> {
        let seconds = self.settings.compile_time;
        let compiled = self.by_frames(artifact, check, told);
        timeout(Duration::from_secs(seconds.into()), compiled).await.unwrap_or_else(|_| {
            Err(format!(
                "compiling it takes more than {seconds} s: the setting engine.compile-time raises \
                 the limit"
            ))
        })
    }

    /// Starts the process and speaks with it.
    async fn by_frames(
        &self,
        artifact: Artifact,
        check: Check,
        told: impl Fn(usize),
    ) -> Result<Vec<u8>, String> {
        let failed = |error: io::Error| format!("its compiler cannot be started: {error}");
        let mut process = CompileProcess::spawn().await.map_err(failed)?;
        let outline = match self.outline(&mut process, &artifact).await {
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
    ) -> io::Result<Frame> {
        let settings = self.settings.to_toml().map_err(io::Error::other)?;
        let kind = match artifact.kind {
            ArtifactKind::Module => tag::MODULE,
            ArtifactKind::Component => tag::COMPONENT,
        };
        process.send(tag::SETTINGS, settings.as_bytes()).await?;
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
        artifact: Artifact,
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
        let prepare =
            move || compile_process::prepare(&engine, &settings, kind, artifact.bytes.to_vec());
        let prepared = self.thread.run(prepare).await.ok_or_else(crashed)?;
        let (wasm, outline) = prepared.map_err(text)?;
        checked(check, outline.unwrap_or_default()).await?;
        told(bytes);
        let engine = self.engine.clone();
        let compile = move || compile_process::compile(&engine, kind, &wasm);
        self.thread.run(compile).await.ok_or_else(crashed)?.map_err(text)
    }
}

/// Checks an outline, unless it is empty.
async fn checked(check: Check, outline: Vec<u8>) -> Result<(), String> {
    if outline.is_empty() {
        return Ok(());
    }
    blocking(move || check(outline), |lost| lost.to_string()).await
}
