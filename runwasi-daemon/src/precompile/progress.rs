//! Progress of `precompile` on stderr: a bar on a terminal, else a line per artifact.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use runwasi_core::{EngineError, artifact::Artifact, engine::Precompiled, sanitize};

/// Outcome of one artifact.
pub(super) struct Done {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) took: Duration,
    pub(super) result: Result<Precompiled, EngineError>,
}

/// Time between two frames of the bar's spinner.
const TICK: Duration = Duration::from_millis(100);

/// The progress so far.
// In bytes of WebAssembly, since the time of a compilation grows with them.
pub(super) struct Progress {
    /// Absent if stderr is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(artifacts: &[Artifact]) -> Self {
        let total = artifacts.iter().map(|artifact| artifact.bytes.len() as u64).sum();
        Self { bar: io::stderr().is_terminal().then(|| bar(total)) }
    }

    /// Reports one artifact.
    pub(super) fn tell(&self, done: &Done) {
        let what = match &done.result {
            Ok(Precompiled::Compiled) => "compiled",
            Ok(Precompiled::Kept) => "kept",
            // The reason is printed at the end, where it is not lost between other lines.
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
            // An error: stderr is closed, and there is no other place to report to.
            None => drop(writeln!(io::stderr(), "{line}")),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            // The summary of the command takes its place.
            bar.finish_and_clear();
        }
    }
}

fn bar(total: u64) -> ProgressBar {
    let bar = ProgressBar::new(total);
    // An error is a mistake in this template. The bar then has its default style.
    if let Ok(style) =
        ProgressStyle::with_template("{spinner} {wide_bar} {bytes} of {total_bytes}, {elapsed}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(TICK);
    bar
}
