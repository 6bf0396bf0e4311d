//! How long large programs take from the shim's `start` to its end; used by `large`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Image, Runtime};

use crate::fake_containerd::{Container, FakeContainerd, Storage};
use crate::options::short;
use crate::peers::Peer;
use crate::results::Row;
use crate::subject::Subject;
use crate::{Bench, stats};

/// A file that has changed just now may change again unseen, and is read at every start. Those of an image are older.
const SETTLED: Duration = Duration::from_millis(2500);

/// Interleaved, one of each.
const ROUNDS: usize = 100;

/// Run and dropped: the first compiles, and fills the page cache.
const WARM_UP: usize = 3;

/// First starts, each with a cache of its own.
const FIRST_STARTS: usize = 3;

/// Far above what compiling takes.
const COMPILATION: Duration = Duration::from_secs(120);

/// The most a component may take above a hello, in milliseconds.
const GOAL_ABOVE_HELLO: f64 = 3.0;

/// The most a second start may take of the first one's time.
const GOAL_SECOND: f64 = 0.1;

/// Two megabytes.
const COMPONENT: &str = "cli_large.wasm";
const MODULE: &str = "resvg.wasm";
const PICTURE: &str = "picture.svg";

/// A component that says hello, against a module that does; both compiled before.
pub(super) fn above_hello(bench: &Bench, runtime: Runtime) -> Result<Vec<Row>> {
    let name = short(runtime);
    bench.say(&format!(
        "large: {COMPONENT} against a hello, {ROUNDS} interleaved rounds of {name}"
    ))?;
    FakeContainerd::with(runtime, Storage::Memory, |fake| {
        fake.add_guest(COMPONENT)?;
        bench.interrupt.pause(SETTLED)?;
        let component = format!("/{COMPONENT}");
        let (hello, large) = ([runtime.guest()], [component.as_str()]);
        let (mut of_hello, mut of_large) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + ROUNDS {
            bench.interrupt.check()?;
            let one = |kind: &str, words: &[&str]| {
                took(fake, &fake.program(&format!("{kind}{round}"), words)?)
            };
            let (small, large) = match fastrand::bool() {
                true => (one("hello", &hello)?, one("large", &large)?),
                false => {
                    let large = one("large", &large)?;
                    (one("hello", &hello)?, large)
                }
            };
            if round >= WARM_UP {
                of_hello.push(small);
                of_large.push(large);
            }
        }
        let above = stats::difference(&of_large, &of_hello)?;
        let row =
            |figure: &str, value| Row::new(format!("large_start_{figure}"), name, value, "ms");
        Ok(vec![
            row("of_hello", stats::median(&of_hello)?),
            row("of_component", stats::median(&of_large)?),
            row("above_hello", above.median).at_most(GOAL_ABOVE_HELLO),
            row("above_hello_ci95_low", above.low),
            row("above_hello_ci95_high", above.high),
        ])
    })
}

/// The first start compiles, the second does not; both render the picture. Beside the first, in the same round, what compiles
/// as well: an earlier build, and the peers that there are.
pub(super) fn second_to_first(bench: &Bench, runtime: Runtime) -> Result<Vec<Row>> {
    let name = short(runtime);
    bench
        .say(&format!("large: {MODULE} renders a picture, twice with each of {FIRST_STARTS} empty caches of {name}"))?;
    let (mut first, mut second, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut others: Vec<(&str, Vec<f64>)> = Vec::new();
    for round in 0..FIRST_STARTS {
        bench.interrupt.check()?;
        let [one, two] = first_and_second(runtime, None)?;
        first.push(one);
        second.push(two);
        ratios.push(two / one);
        for (other, took) in beside(bench, runtime, round)? {
            match others.iter_mut().find(|(known, _)| *known == other) {
                Some((_, times)) => times.push(one / took),
                None => others.push((other, vec![one / took])),
            }
        }
    }
    let mut rows = vec![
        Row::new("large_first_start", name, stats::median(&first)?, "ms"),
        Row::new("large_second_start", name, stats::median(&second)?, "ms"),
        Row::new("large_second_to_first", name, stats::median(&ratios)?, "x").at_most(GOAL_SECOND),
    ];
    for (other, ratios) in &others {
        let figure = format!("large_first_start_to_{other}");
        rows.push(Row::new(figure, name, stats::median(ratios)?, "x"));
    }
    Ok(rows)
}

/// The first start with an empty cache and the second, by this build or that in a directory.
fn first_and_second(runtime: Runtime, build: Option<&Path>) -> Result<[f64; 2]> {
    FakeContainerd::play_with_empty_cache_of(runtime, build, Storage::Memory, |fake| {
        fake.add_guest(MODULE)?;
        fake.add_source(PICTURE)?;
        let (module, picture) = (format!("/{MODULE}"), format!("/{PICTURE}"));
        let words = [&*module, &*picture, "-c"];
        let render = |id| took(fake, &fake.program(id, &words)?);
        Ok([render("first")?, render("second")?])
    })
}

/// What else compiles the program, in milliseconds, by the end of the ratio's name.
fn beside(bench: &Bench, runtime: Runtime, round: usize) -> Result<Vec<(&'static str, f64)>> {
    let mut all = Vec::new();
    if let Some(directory) = &bench.options.before {
        all.push(("before", first_and_second(runtime, Some(directory))?[0]));
    }
    if bench.options.peers.get(Peer::Upstream).is_some() {
        all.push(("upstream", upstream(bench, runtime, round)?));
    }
    if let Some(program) = bench.options.peers.get(Peer::Cli) {
        all.push(("cli", compile(program)?));
    }
    Ok(all)
}

/// The whole of `ctr run`: upstream's shim asks containerd about the image, so it needs a real one. It keeps no code of a
/// program in a Linux image, and so compiles each time.
fn upstream(bench: &Bench, runtime: Runtime, round: usize) -> Result<f64> {
    let peer = Subject::Peer(Peer::Upstream);
    bench.fixture.load(Image::Resvg)?;
    let id = peer.id(bench, &format!("resvg{round}-{}", short(runtime)))?;
    let (module, picture) = (format!("/{MODULE}"), format!("/{PICTURE}"));
    let words = [&*module, &*picture, "-c"];
    let run = peer.run_of(bench, &["--rm"], Image::Resvg.name(), &id, &words)?;
    Ok(run.deadline(COMPILATION).run()?.ok()?.took.as_secs_f64() * 1e3)
}

/// `wasmtime compile` alone, which runs nothing.
fn compile(program: &Path) -> Result<f64> {
    let place = tempfile::tempdir()?;
    let source = target_dir().join("guests").join(MODULE);
    let command = Command::new(program).args(["compile", "-o"]);
    let command = command.args([place.path().join("code.cwasm"), source]);
    Ok(command.deadline(COMPILATION).run()?.ok()?.took.as_secs_f64() * 1e3)
}

/// From the shim's `start` to the guest's end, in milliseconds; then the sandbox is taken away.
fn took(fake: &FakeContainerd, container: &Container) -> Result<f64> {
    let begin = Instant::now();
    let sandbox = fake.sandbox(container)?;
    let status = fake.run(async {
        sandbox.tasks.create(container).await?;
        sandbox.tasks.start(&container.id).await?;
        sandbox.tasks.wait(&container.id).await
    })?;
    let took = begin.elapsed().as_secs_f64() * 1e3;
    ensure!(status == 0, "{} ended with {status}", container.id);
    fake.run(sandbox.tasks.delete(&container.id))?;
    fake.leave(sandbox);
    fake.becomes_empty()?;
    Ok(took)
}
