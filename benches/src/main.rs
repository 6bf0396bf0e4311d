//! `make bench`: measures the shims of this machine, prints a table and writes `target/bench/results.json`.
//!
//! - `options`: the command line.
//! - `interrupt`: two OS processes, so that an interrupted run cleans up as well.
//! - `ctr_run`, `memory`, `thin_start`, `pods`, `rate`, `exec`, `output`, `compute`, `scheduling`, `density`, `large`,
//!   `http`, `watch`, `clients`, `files`, `sleep`, `attacks`: the benchmarks.
//!   Each is one function from the bench to its rows; a new one is a module and a line in `BENCHMARKS`.
//! - `peers`: programs of others to compare with.
//! - `subject`: what `ctr` starts containers with: ours, an earlier build's, peers.
//! - `fake_containerd`: containerd, played by this program.
//! - `scraper`: a reader of metrics.
//! - `processes`: what the OS processes of a pod use.
//! - `levels`: what one OS process holds.
//! - `stats`: medians and intervals.
//! - `soak`: many container lives, and what stays of them.
//! - `scale`: a node full of pods, and a rollout under traffic.
//! - `chaos`: pods whose makers are killed.
//! - `machine`: CPU time and memory of the whole machine.
//! - `results`: rows, the table and the file.
//! - `ratios`: what a row is a ratio of.
//! - `targets`: what is to be reached beside the peers.
//! - `page`: the tables and plots of the documentation.
//! - `plot`: bars and lines as SVG.
//!
//! The benchmarks that use `ctr` share one private containerd, which takes everything with it when it is dropped. Pods have
//! containerds of their own, the others a fake each.

mod attacks;
mod chaos;
mod clients;
mod compute;
mod ctr_run;
mod density;
mod exec;
mod fake_containerd;
mod files;
mod http;
mod interrupt;
mod large;
mod levels;
mod machine;
mod memory;
mod options;
mod output;
mod page;
mod peers;
mod plot;
mod pods;
mod processes;
mod rate;
mod ratios;
mod results;
mod scale;
mod scheduling;
mod scraper;
mod sleep;
mod soak;
mod stats;
mod subject;
mod targets;
mod thin_start;
mod watch;

use std::collections::HashSet;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use runwasi_tests::{Containerd, Runtime};

use crate::interrupt::{Interrupt, WORKER, supervise};
use crate::machine::Machine;
use crate::options::{Options, USAGE};
use crate::results::Row;

type Measure = fn(&mut Bench) -> Result<Vec<Row>>;

/// The benchmarks by their names for `--only`, in the order they run.
pub(crate) const BENCHMARKS: [(&str, Measure); 17] = [
    ("ctr_run", ctr_run::measure),
    ("memory", memory::measure),
    ("thin_start", thin_start::measure),
    ("pods", pods::measure),
    ("rate", rate::measure),
    ("exec", exec::measure),
    ("output", output::measure),
    ("compute", compute::measure),
    ("scheduling", scheduling::measure),
    ("density", density::measure),
    ("large", large::measure),
    ("http", http::measure),
    ("watch", watch::measure),
    ("clients", clients::measure),
    ("files", files::measure),
    ("sleep", sleep::measure),
    ("attacks", attacks::measure),
];

/// What every benchmark works with.
pub(crate) struct Bench {
    pub(crate) fixture: Containerd,
    /// Another one with the daemon of the earlier build, if there is such a build.
    pub(crate) before: Option<Containerd>,
    pub(crate) options: Options,
    pub(crate) interrupt: Interrupt,
}

impl Bench {
    /// Prints a line. Not `println!`, which panics when nobody reads: `| head` shall end in a clean fixture, too.
    pub(crate) fn say(&self, text: &str) -> Result<()> {
        say(text)
    }

    /// What the figures depend on besides the code, in one line.
    pub(crate) fn machine(&self) -> Result<String> {
        Ok(self.facts()?.line())
    }

    fn facts(&self) -> Result<Machine> {
        let version = self.fixture.ctr(["version"])?.ok()?.out();
        let server = version.lines().skip_while(|line| !line.starts_with("Server"));
        let server = server.filter_map(|line| line.split_once("Version:")).next();
        let (_, server) = server.context("ctr names no server version")?;
        Machine::read(server.trim())
    }
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("cannot print")
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let ended = match args.split_first() {
        Some((first, rest)) if first == WORKER => work(rest).map(|()| ExitCode::SUCCESS),
        _ => supervise(&args),
    };
    ended.unwrap_or_else(|error| {
        // Nothing is left to tell if stderr is closed as well.
        drop(writeln!(std::io::stderr(), "runwasi-bench: {error:#}"));
        ExitCode::FAILURE
    })
}

fn work(args: &[String]) -> Result<()> {
    if let [option, results, directory] = args
        && option == "--page"
    {
        return say(&page::write(results.as_ref(), directory.as_ref())?);
    }
    let Some(mut options) = Options::parse(args.iter().cloned())? else {
        return writeln!(std::io::stdout(), "{USAGE}").context("cannot print");
    };
    options.demand_programs()?;
    let interrupt = Interrupt::watch();
    if let Some(lives) = options.soak {
        return soak::run(&options.wasm_runtimes(), lives, &interrupt, &say);
    }
    if let Some(count) = options.scale {
        let rows = scale::run(&options.runtimes, count, &interrupt, &say)?;
        return say(results::table(&rows).trim_end());
    }
    if let Some(time) = options.chaos {
        return chaos::run(&options.runtimes, time, &interrupt, &say);
    }
    results::forget()?;
    for reason in options.peers.drop_unusable() {
        say(&reason)?;
    }
    let fixture = start_containerd(&options)?;
    let before = subject::containerd_of_before(&options)?;
    let mut bench = Bench { fixture, before, options, interrupt };
    let machine = bench.facts()?;
    bench.say(&machine.line())?;
    let rows = measure_all(&mut bench)?;
    bench.say(results::table(&rows).trim_end())?;
    let Options { benchmarks, runtimes, .. } = bench.options.clone();
    let runtimes: Vec<_> = runtimes.into_iter().map(options::short).collect();
    let targets = targets::outcomes(&rows, &benchmarks, &runtimes);
    bench.say(targets::table(&targets).trim_end())?;
    // Panics if something was left behind: then the figures are not to be trusted either.
    drop(bench);
    results::write(&machine.json(), &rows, &targets, &results::file())
}

/// With a node daemon if one of the runtimes needs it.
fn start_containerd(options: &Options) -> Result<Containerd> {
    options
        .runtimes
        .iter()
        .fold(Containerd::builder(), |fixture, runtime| fixture.daemon_for(*runtime))
        .start()
}

fn measure_all(bench: &mut Bench) -> Result<Vec<Row>> {
    load_images(bench)?;
    for reason in subject::drop_silent(bench) {
        bench.say(&reason)?;
    }
    let mut rows = Vec::new();
    for (name, measure) in BENCHMARKS {
        if bench.options.benchmarks.contains(&name) {
            rows.extend(measure(bench).with_context(|| format!("benchmark {name}"))?);
        }
    }
    Ok(rows)
}

fn load_images(bench: &Bench) -> Result<()> {
    let mut loaded = HashSet::new();
    // Peers have the image of our shim.
    for runtime in bench.options.runtimes.iter().chain([&Runtime::Wasmtime]) {
        if loaded.insert(runtime.image().name()) {
            bench.interrupt.check()?;
            bench.fixture.load(runtime.image())?;
            if let Some(before) = &bench.before {
                before.load(runtime.image())?;
            }
        }
    }
    Ok(())
}
