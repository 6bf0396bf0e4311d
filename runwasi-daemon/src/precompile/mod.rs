//! The command `precompile`: compiles WebAssembly into the cache of the daemon's settings.
//!
//! Shims of the same settings share this cache. The command works beside a running daemon and
//! without one.

use std::{
    env,
    ffi::OsStr,
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use runwasi_core::{
    Engine, Id,
    artifact::{Artifact, oci},
    containerd::images::ImageClient,
    engine::Precompiled,
    id::IdError,
    logging, runtime,
};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

use self::{
    find::Finding,
    progress::{Done, Progress},
};
use crate::{
    config::{Settings, Targets},
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
    logging::to_stderr_at(settings.log_level.min(LevelFilter::WARN));
    if settings.cache.is_none() {
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
        writeln!(io::stderr(), "{program}: {}", runwasi_core::sanitize::text(fault))?;
    }
    io::stdout().write_all(summary.as_bytes())?;
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
    // All at once: the engine limits the number of concurrent compilations.
    for artifact in artifacts {
        let engine = engine.clone();
        running.spawn(async move {
            let name = artifact.path.display().to_string();
            let bytes = artifact.bytes.len() as u64;
            let begun = Instant::now();
            let result = engine.precompile(artifact).await;
            Done { name, bytes, took: begun.elapsed(), result }
        });
    }
    let mut all = Vec::new();
    while let Some(joined) = running.join_next().await {
        // An error is a panic, which the panic hook has reported.
        if let Ok(done) = joined {
            progress.tell(&done);
            all.push(done);
        }
    }
    all
}
