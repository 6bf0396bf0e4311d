//! How fast a guest's output leaves it; called by `main`.
//!
//! This OS process plays containerd and reads the FIFO, as a client does. A round runs every program once, in a random order: what
//! a wasm guest prints and copies, and what the system's own `cat` copies through runc, where runc's shim stands in between.
//! Small writes, of 4 KiB, are compared with those of `dd`, also by the CPU time that they take.

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
use crate::{Bench, machine, stats};

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
const DD: &str = "/bin/dd";

/// Writes 4 KiB at a time, in the text format.
const WRITER: &str = include_str!("writer.wat");
const WRITER_FILE: &str = "/writer.wat";
const FOUR_K: &str = "output_4k";

/// One program of one runtime.
struct Source<'a> {
    fake: &'a FakeContainerd,
    runtime: Runtime,
    figure: &'static str,
    args: Vec<String>,
    /// Megabytes a second.
    rates: Vec<f64>,
    /// CPU time of the whole machine for a run, in milliseconds; the reader's is in it.
    cpu: Vec<f64>,
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
                let before = machine::busy()?;
                let rate = source.run(round)?;
                if round >= WARM_UP {
                    source.rates.push(rate);
                    let cpu = machine::busy()?.saturating_sub(before);
                    source.cpu.push(cpu.as_secs_f64() * 1e3);
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
        Source { fake, runtime, figure, args, rates: Vec::new(), cpu: Vec::new() }
    };
    // Sparse: reading it costs a copy and nothing else.
    File::create(inside(fake.layer(), FILE))?.set_len(BYTES)?;
    if runtime == Runtime::Runc {
        for program in [CAT, DD] {
            install(fake.layer(), program)?;
        }
        let count = format!("count={}", BYTES >> 12);
        return Ok(vec![
            source("output_native_cat", &[CAT, FILE]),
            source(
                "output_native_4k",
                &[DD, &format!("if={FILE}"), "bs=4096", &count, "status=none"],
            ),
        ]);
    }
    let writer = WRITER.replace("COUNT", &(BYTES >> 12).to_string());
    fs::write(inside(fake.layer(), WRITER_FILE), writer)?;
    let guest = runtime.guest();
    Ok(vec![
        source("output_bytes", &[guest, "bytes", &BYTES.to_string()]),
        source("output_cat", &[guest, "cat", FILE]),
        source(FOUR_K, &[WRITER_FILE]),
    ])
}

/// Puts a program of the system into the layer, and what it is linked with.
fn install(layer: &Path, program: &str) -> Result<()> {
    let linked = Command::new("ldd").args([program]).run()?.ok()?.out();
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')).chain([program]) {
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
    let native = |figure: &str| {
        let name = if figure == FOUR_K { "output_native_4k" } else { "output_native_cat" };
        sources.iter().find(|source| source.figure == name)
    };
    let mut rows = Vec::new();
    for Source { runtime, figure, rates, cpu, .. } in &sources {
        let name = short(*runtime);
        rows.push(Row::new(*figure, name, stats::median(rates)?, "MB/s"));
        if figure.ends_with("_4k") {
            rows.push(Row::new(format!("{figure}_cpu"), name, stats::mean(cpu)?, "ms"));
        }
        let Some(native) = native(figure).filter(|_| *runtime != Runtime::Runc) else { continue };
        let ratios: Vec<_> =
            rates.iter().zip(&native.rates).map(|(rate, native)| rate / native).collect();
        let ratio = Row::new(format!("{figure}_to_native"), name, stats::median(&ratios)?, "x");
        rows.push(if *figure == FOUR_K { ratio } else { ratio.at_least(GOAL) });
        if *figure == FOUR_K {
            let ratio = stats::mean(cpu)? / stats::mean(&native.cpu)?;
            rows.push(Row::new(format!("{figure}_cpu_to_native"), name, ratio, "x"));
        }
    }
    Ok(rows)
}
