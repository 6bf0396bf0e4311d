//! The command `precompile`: compiles WebAssembly into the cache of the daemon's settings.
//!
//! Shims of the same settings share this cache. The command works beside a running daemon and
//! without one.

use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use runwasi_core::{
    Engine, EngineError, Id,
    artifact::{Artifact, oci},
    containerd::images::ImageClient,
    engine::Precompiled,
    id::IdError,
    logging, runtime, sanitize,
};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

use self::{
    find::Finding,
    progress::{Done, Progress},
};
use crate::{
    command_line::subcommands::Targets,
    commands::output,
    config::Settings,
    serve::{EngineSettings, NodeEngine},
};

mod find;
mod progress;
mod zstd;

/// Runs the command. A fault is reported at the end and makes the command fail, but does not stop
/// the rest.
pub(crate) fn run<N: NodeEngine>(
    program: &str,
    settings: &Settings,
    targets: &Targets,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    // At most warnings, as the command prints its own progress and faults.
    let level = settings.log_level.min(LevelFilter::WARN);
    logging::to_stderr_at(level, settings.log_format);
    if settings.cache().is_none() {
        return Err("precompile: the cache is off".into());
    }
    let begun = Instant::now();
    // One slot: no guest runs here, and compiled code does not depend on the size of the pool.
    let engine = Arc::new(N::make(&EngineSettings::of(settings, 1))?);
    let containerd = containerd(targets)?;
    let control = runtime::control()?;
    let (all, mut faults) = control.block_on(async {
        let mut finding = Finding::default();
        for name in &targets.names {
            match file(name) {
                Some(path) => finding.file(path),
                None => image(&mut finding, &containerd, &name.to_string_lossy()).await,
            }
        }
        (compile(engine, finding.artifacts).await, finding.faults)
    });
    // All results are there, so no thread of the runtime is waited for.
    control.shutdown_background();
    let count = |wanted| {
        all.iter().filter(|done| matches!(&done.result, Ok(result) if *result == wanted)).count()
    };
    let summary = format!(
        "{} compiled, {} kept from before, in {:.1} s\n",
        count(Precompiled::Compiled),
        count(Precompiled::Kept),
        begun.elapsed().as_secs_f64()
    );
    faults.extend(
        all.into_iter().filter_map(|done| done.result.err().map(|error| error.to_string())),
    );
    // Sanitized: faults quote names in images and tars.
    for fault in &faults {
        // An error: stderr has no reader. The summary has another place.
        drop(writeln!(io::stderr(), "{program}: {}", sanitize::text(fault)));
    }
    output::print(&summary)?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Client of the containerd with the images: from the flags, the environment or the defaults.
// Variables and defaults are those of `ctr`.
fn containerd(targets: &Targets) -> Result<ImageClient, IdError> {
    let given = |flag: &Option<String>, variable: &str, default: &str| {
        flag.clone().or_else(|| env::var(variable).ok()).unwrap_or_else(|| default.to_owned())
    };
    let address = given(&targets.address, "CONTAINERD_ADDRESS", "/run/containerd/containerd.sock");
    let namespace = given(&targets.namespace, "CONTAINERD_NAMESPACE", "default");
    Ok(ImageClient::new(&address, &Id::parse("namespace", &namespace)?))
}

/// The path, if `name` means a file and not an image.
fn file(name: &OsStr) -> Option<&Path> {
    // The name of an image begins with neither a slash nor a dot, and is rarely that of a file.
    let path = Path::new(name);
    (path.is_absolute() || name.as_encoded_bytes().starts_with(b".") || path.exists())
        .then_some(path)
}

/// Searches all layers of an image, including those of its root file system.
async fn image(finding: &mut Finding, images: &ImageClient, name: &str) {
    let layers = match oci::all_layers(images, name).await {
        Ok(layers) => layers,
        Err(error) => return finding.fault(name, &format!("no file, and as an image: {error}")),
    };
    let mut found = 0;
    for layer in layers {
        match oci::verified_bytes(images, &layer).await {
            Ok(bytes) => found += finding.layer(&layer.name(), bytes),
            Err(error) => finding.fault(&layer.name(), &error),
        }
    }
    // Checked for the whole image: most layers contain no WebAssembly.
    if found == 0 {
        finding.fault(name, &"no wasm in it");
    }
}

/// Compiles all artifacts, as many at the same time as the engine has threads.
async fn compile<E: Engine>(engine: Arc<E>, artifacts: Vec<Artifact>) -> Vec<Done> {
    let progress = Progress::new(&artifacts);
    let mut running = JoinSet::new();
    let mut under_way = HashMap::new();
    // All at once: the engine limits the number of concurrent compilations.
    for artifact in artifacts {
        let engine = engine.clone();
        let name = artifact.path.display().to_string();
        let bytes = artifact.bytes.len() as u64;
        let task = running.spawn(async move { engine.precompile(artifact).await });
        under_way.insert(task.id(), (name, bytes, Instant::now()));
    }
    let mut all = Vec::new();
    while let Some(joined) = running.join_next_with_id().await {
        let (id, result) = match joined {
            Ok((id, result)) => (id, Ok(result)),
            Err(error) => (error.id(), Err(error)),
        };
        // Never absent: an id is that of one task of this set.
        let Some((name, bytes, begun)) = under_way.remove(&id) else { continue };
        // A panic is a fault of its artifact like any other, and must not count as a success.
        let result =
            result.unwrap_or_else(|error| Err(EngineError::Failed(format!("{name}: {error}"))));
        let done = Done { name, bytes, took: begun.elapsed(), result };
        progress.tell(&done);
        all.push(done);
    }
    all
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use runwasi_core::{Instance, InstanceSpec};

    use super::*;

    struct Panicking;

    #[async_trait]
    impl Engine for Panicking {
        async fn prepare(&self, _: InstanceSpec) -> Result<Arc<dyn Instance>, EngineError> {
            Err(EngineError::Failed("it only compiles".into()))
        }

        async fn precompile(&self, artifact: Artifact) -> Result<Precompiled, EngineError> {
            assert!(!artifact.path.ends_with("bad.wasm"), "as this test wants");
            Ok(Precompiled::Compiled)
        }
    }

    #[tokio::test]
    async fn a_compilation_that_panics_is_a_fault_of_its_artifact() {
        let wasm = b"\0asm\x01\0\0\0";
        let artifact = |path: &str| Artifact::of_bytes(path.into(), wasm.to_vec()).unwrap();
        let artifacts = vec![artifact("/bad.wasm"), artifact("/good.wasm")];
        let all = compile(Arc::new(Panicking), artifacts).await;
        let result = |name: &str| &all.iter().find(|done| done.name == name).unwrap().result;
        let fault = result("/bad.wasm").as_ref().unwrap_err().to_string();
        assert!(fault.contains("/bad.wasm") && fault.contains("panic"), "{fault}");
        assert!(matches!(result("/good.wasm"), Ok(Precompiled::Compiled)));
    }
}
