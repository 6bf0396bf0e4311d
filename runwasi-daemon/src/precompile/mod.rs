//! The command `precompile`: compiles wasm into the cache of the daemon's settings, which shims of the same settings share. Works
//! beside a daemon that runs, and without one.

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

/// Runs the command to its end. What fails is named, and makes the whole fail when the rest is done.
pub(crate) fn run<N: NodeEngine>(
    settings: &Settings,
    targets: &Targets,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    logging::to_stderr_at(settings.log_level.min(LevelFilter::WARN));
    if settings.cache().is_none() {
        return Err("precompile: the cache is off".into());
    }
    let begun = Instant::now();
    // No guest runs here: the smallest pool will do, and code does not depend on it.
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
    for fault in &faults {
        writeln!(io::stderr(), "containerd-wasmtimed: {}", runwasi_core::sanitize::text(fault))?;
    }
    io::stdout().write_all(summary.as_bytes())?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Where images are, as `ctr` has it.
fn containerd(targets: &Targets) -> Result<ImageClient, IdError> {
    let given = |flag: &Option<String>, variable: &str, default: &str| {
        flag.clone().or_else(|| env::var(variable).ok()).unwrap_or_else(|| default.to_owned())
    };
    let address = given(&targets.address, "CONTAINERD_ADDRESS", "/run/containerd/containerd.sock");
    let namespace = given(&targets.namespace, "CONTAINERD_NAMESPACE", "default");
    Ok(ImageClient::new(&address, &Id::parse("namespace", &namespace)?))
}

/// The file that is meant, if it is one: the name of an image has no slash in front, and is rarely that of a file.
fn file(name: &OsStr) -> Option<&Path> {
    let path = Path::new(name);
    (path.is_absolute() || name.as_encoded_bytes().starts_with(b".") || path.exists())
        .then_some(path)
}

/// Takes the wasm in all layers of an image, those of its root file system too.
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
    if found == 0 {
        finding.fault(name, &"no wasm in it");
    }
}

/// As many at once as the engine has threads for.
async fn compile<E: Engine>(engine: Arc<E>, artifacts: Vec<Artifact>) -> Vec<Done> {
    let progress = Progress::new(&artifacts);
    let mut running = JoinSet::new();
    for artifact in artifacts {
        let engine = engine.clone();
        running.spawn(async move {
            let (name, bytes) = (artifact.path.display().to_string(), artifact.bytes.len() as u64);
            let begun = Instant::now();
            let result = engine.precompile(artifact).await;
            Done { name, bytes, took: begun.elapsed(), result }
        });
    }
    let mut all = Vec::new();
    while let Some(joined) = running.join_next().await {
        // An error is a panic, which has told itself.
        if let Ok(done) = joined {
            progress.tell(&done);
            all.push(done);
        }
    }
    all
}
