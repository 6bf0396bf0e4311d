//! How far `precompile` is: a bar where somebody watches, a line for each artifact where somebody reads. On stderr.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use runwasi_core::{EngineError, artifact::Artifact, engine::Precompiled, sanitize};

/// What has become of one artifact.
pub(super) struct Done {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) result: Result<Precompiled, EngineError>,
}

const TICK: Duration = Duration::from_millis(100);

/// Measured in bytes of wasm: what takes the time.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(artifacts: &[Artifact]) -> Self {
        let total = artifacts.iter().map(|artifact| artifact.bytes.len() as u64).sum();
        Self { bar: io::stderr().is_terminal().then(|| bar(total)) }
    }

    pub(super) fn tell(&self, done: &Done) {
        let what = match &done.result {
            Ok(Precompiled::Compiled) => "compiled",
            Ok(Precompiled::Kept) => "kept",
            // Told at the end, where it is seen.
            Err(_) => "failed",
        };
        let size = HumanBytes(done.bytes);
        let line = format!(
            "{what:8} {} ({size}, {:.1} s)",
            sanitize::text(&done.name),
            done.took.as_secs_f64()
        );
        match &self.bar {
            Some(bar) => {
                bar.println(line);
                bar.inc(done.bytes);
            }
            // Nobody is left to tell if it is closed.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    // Unless the template is wrong, which the first use would show.
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {wide_bar} {bytes} of {total_bytes}, {elapsed}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
