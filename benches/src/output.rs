//! How fast a guest's output leaves it; called by `main`.
//!
//! This OS process plays containerd and reads the FIFO, as a client does. A round runs every program once, in a random order: what
//! a wasm guest prints and copies, and what the system's own `cat` copies through runc, where runc's shim stands in between.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Command, Runtime};
use serde_json::json;

use crate::fake_containerd::{FakeContainerd, Storage};
use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};

/// Enough for a tenth of a second.
const BYTES: u64 = 256 << 20;

const ROUNDS: usize = 15;
const WARM_UP: usize = 1;

/// What a wasm guest's output must reach at least of what `cat` reaches.
const GOAL: f64 = 0.5;

/// A file of so many zeros in every container.
const FILE: &str = "/zeros";

/// The system's own, with its libraries.
const CAT: &str = "/bin/cat";

/// One program of one runtime.
struct Source<'a> {
    fake: &'a FakeContainerd,
    runtime: Runtime,
    figure: &'static str,
    args: Vec<String>,
    /// Megabytes a second.
    rates: Vec<f64>,
}

/// What is measured with a fake for every runtime.
type OnFakes<'a> = dyn FnMut(&[(Runtime, &FakeContainerd)]) -> Result<Vec<Row>> + 'a;

/// Measures and prints; the rows are the figures. Without runc there is nothing to compare with.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    bench.say(&format!(
        "output of {} MiB through a FIFO, {ROUNDS} interleaved rounds",
        BYTES >> 20
    ))?;
    on_stages(&bench.options.runtimes, Vec::new(), &mut |fakes| {
        let mut sources = Vec::new();
        for (runtime, fake) in fakes {
            sources.extend(of(*runtime, fake)?);
        }
        for round in 0..WARM_UP + ROUNDS {
            fastrand::shuffle(&mut sources);
            for source in &mut sources {
                bench.interrupt.check()?;
                let rate = source.run(round)?;
                if round >= WARM_UP {
                    source.rates.push(rate);
                }
            }
        }
        rows(sources)
    })
}

/// All at once, so that a slow hour of the machine falls on all alike.
fn on_stages(
    runtimes: &[Runtime],
    fakes: Vec<(Runtime, &FakeContainerd)>,
    measure: &mut OnFakes<'_>,
) -> Result<Vec<Row>> {
    match runtimes.split_first() {
        None => measure(&fakes),
        Some((Runtime::Floor, rest)) => on_stages(rest, fakes, measure),
        Some((runtime, rest)) => FakeContainerd::with(*runtime, Storage::Memory, |fake| {
            let fakes: Vec<(Runtime, &FakeContainerd)> =
                fakes.iter().copied().chain([(*runtime, fake)]).collect();
            on_stages(rest, fakes, measure)
        }),
    }
}

fn of(runtime: Runtime, fake: &FakeContainerd) -> Result<Vec<Source<'_>>> {
    let source = |figure, args: &[&str]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Source { fake, runtime, figure, args, rates: Vec::new() }
    };
    // Sparse: reading it costs a copy and nothing else.
    File::create(inside(fake.layer(), FILE))?.set_len(BYTES)?;
    if runtime == Runtime::Runc {
        install(fake.layer())?;
        return Ok(vec![source("output_native_cat", &[CAT, FILE])]);
    }
    let guest = runtime.guest();
    Ok(vec![
        source("output_bytes", &[guest, "bytes", &BYTES.to_string()]),
        source("output_cat", &[guest, "cat", FILE]),
    ])
}

/// Puts the system's `cat` into the layer, and what it is linked with.
fn install(layer: &Path) -> Result<()> {
    let linked = Command::new("ldd").args([CAT]).run()?.ok()?.out();
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')).chain([CAT]) {
        let to = inside(layer, path);
        fs::create_dir_all(to.parent().context("no parent")?)?;
        fs::copy(path, &to).with_context(|| format!("cannot copy {path}"))?;
    }
    Ok(())
}

fn inside(layer: &Path, path: &str) -> std::path::PathBuf {
    layer.join(path.trim_start_matches('/'))
}

impl Source<'_> {
    /// One life of a container; how fast its output came, in megabytes a second.
    fn run(&mut self, round: usize) -> Result<f64> {
        let mut container =
            self.fake.container(&format!("{}{round}", self.figure.replace('_', "-")), &[])?;
        let mut process = container.bundle.config["process"].clone();
        process["args"] = json!(self.args);
        container.configure("process", process)?;
        let fifo = container.pipe_output()?.to_owned();
        let reader = std::thread::spawn(move || read(&fifo));
        self.fake.run_to_success(&container)?;
        let took = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        Ok(BYTES as f64 / 1e6 / took.as_secs_f64())
    }
}

/// Reads everything, as fast as it comes; how long it took from the first bytes on.
fn read(fifo: &Path) -> Result<Duration> {
    let mut pipe = File::open(fifo).context("cannot open a FIFO")?;
    let mut buffer = vec![0; 64 << 10];
    let (mut count, mut begin) = (0, None);
    loop {
        match pipe.read(&mut buffer)? {
            0 => break,
            read => {
                begin.get_or_insert_with(Instant::now);
                count += read as u64;
            }
        }
    }
    let took = begin.context("no output")?.elapsed();
    ensure!(count == BYTES, "{count} bytes instead of {BYTES}");
    Ok(took)
}

fn rows(mut sources: Vec<Source<'_>>) -> Result<Vec<Row>> {
    sources.sort_by_key(|source| (source.figure, short(source.runtime)));
    let native = sources
        .iter()
        .find(|source| source.runtime == Runtime::Runc)
        .map(|source| source.rates.clone());
    let mut rows = Vec::new();
    for Source { runtime, figure, rates, .. } in &sources {
        rows.push(Row::new(*figure, short(*runtime), stats::median(rates)?, "MB/s"));
        if let Some(native) = native.as_ref().filter(|_| *runtime != Runtime::Runc) {
            let ratios: Vec<_> =
                rates.iter().zip(native).map(|(rate, native)| rate / native).collect();
            rows.push(
                Row::new(
                    format!("{figure}_to_native"),
                    short(*runtime),
                    stats::median(&ratios)?,
                    "x",
                )
                .at_least(GOAL),
            );
        }
    }
    Ok(rows)
}
