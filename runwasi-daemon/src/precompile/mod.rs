//! The command `precompile`: compiles wasm into the cache of the daemon's settings, which shims of the same settings share. Works
//! beside a daemon that runs, and without one. Called by `main`.

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use runwasi_core::{Engine, EngineError, engine::Precompiled, image::Artifact, logging, runtime};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;

use self::{find::Finding, progress::Progress};
use crate::{
    config::{Settings, Targets},
    serve::{EngineSettings, NodeEngine},
};

mod find;
mod progress;

/// What has become of one artifact.
struct Done {
    name: String,
    bytes: u64,
    took: Duration,
    result: Result<Precompiled, EngineError>,
}

/// Runs the command to its end. What fails is named, and makes the whole fail when the rest is done.
pub(crate) fn run<N: NodeEngine>(
    settings: &Settings,
    targets: &Targets,
) -> Result<ExitCode, Box<dyn std::error::Error>> {
    logging::to_stderr_at(settings.log_level.min(LevelFilter::WARN));
    if settings.cache.is_none() {
        return Err("precompile: the cache is off".into());
    }
    let begun = Instant::now();
    // No guest runs here: the smallest pool will do, and code does not depend on it.
    let engine = Arc::new(N::make(&EngineSettings::of(settings, 1))?);
    let mut finding = Finding::default();
    for name in &targets.names {
        finding.file(Path::new(name));
    }
    let Finding { artifacts, mut faults, .. } = finding;
    let control = runtime::control()?;
    let all = control.block_on(compile(engine, artifacts));
    control.shutdown_background();
    let count = |wanted| all.iter().filter(|done| matches!(&done.result, Ok(result) if *result == wanted)).count();
    let summary = format!(
        "{} compiled, {} kept from before, in {:.1} s\n",
        count(Precompiled::Compiled),
        count(Precompiled::Kept),
        begun.elapsed().as_secs_f64()
    );
    faults.extend(all.into_iter().filter_map(|done| done.result.err().map(|error| error.to_string())));
    for fault in &faults {
        writeln!(io::stderr(), "containerd-wasmtimed: {}", runwasi_core::present::text(fault))?;
    }
    io::stdout().write_all(summary.as_bytes())?;
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
