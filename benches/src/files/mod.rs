//! File calls of a guest, by root and by a user; called by `main`.
//!
//! The guest measures itself by its own clock. It runs in a container of each wasm runtime, in one of
//! an earlier build (`--before`), and in this OS process as `wasmtime run` does it: with the library's
//! own calls, made by the thread of the guest, and by `wasmtime run` itself (`--peer wasmtime=PATH`). All have the same files,
//! in memory. A round runs each once, in a random order; what counts is the ratio within a round.

mod peer;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Command, Runtime};
use serde_json::json;

use crate::fake_containerd::{FakeContainerd, Storage};
use crate::options::short;
use crate::peers;
use crate::results::Row;
use crate::{Bench, stats};
use peer::Peer;

/// The guest, in the text format.
const GUEST: &str = include_str!("guest.wat");
const GUEST_FILE: &str = "files.wat";

/// Rounds that count at most, after one to warm up.
const ROUNDS: usize = 15;

/// Calls in the order in which the guest prints them.
const CALLS: [&str; 5] = ["read_64k", "read_4k", "open_close", "stat", "list_10000"];

const BYTES: usize = 64 << 10;
const ENTRIES: usize = 10_000;

/// Users of the guests, with their names in the rows.
const USERS: [(u32, &str); 2] = [(0, "root"), (1000, "user")];

/// Of the time of an earlier build.
const GOAL_BEFORE: f64 = 1.1;

/// One place where the guest runs.
#[derive(Clone, Copy)]
enum Place<'a> {
    /// Containers of a runtime. `before`: of the earlier build.
    Containers {
        fake: &'a FakeContainerd,
        runtime: Runtime,
        before: bool,
    },
    Peer(&'a Peer),
    /// wasmtime's command line, and the guest's `/`.
    Cli(&'a Path, &'a Path),
}

/// What one place needed for the calls, as one user.
struct Series<'a> {
    place: Place<'a>,
    uid: u32,
    user: &'static str,
    /// Microseconds of each call in each round.
    times: Vec<[f64; CALLS.len()]>,
}

type Fakes<'a> = Vec<(Runtime, bool, &'a FakeContainerd)>;
type OnFakes<'a> = dyn FnMut(&Fakes<'_>) -> Result<Vec<Row>> + 'a;

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let rounds = bench.options.rounds.min(ROUNDS);
    bench.say(&format!("file calls of a guest, {rounds} interleaved rounds"))?;
    if bench.options.before.is_none() {
        bench.say("without an earlier build beside it: --before DIR names its programs")?;
    }
    let files = Files::new()?;
    fs::write(files.0.path().join(GUEST_FILE), GUEST)?;
    let peer = Peer::new(GUEST, files.0.path())?;
    let builds = bench.options.wasm_runtimes().into_iter().flat_map(|runtime| {
        let before = bench.options.before.clone();
        [(runtime, None)].into_iter().chain(before.map(|before| (runtime, Some(before))))
    });
    let builds: Vec<_> = builds.collect();
    on_fakes(&builds, &Vec::new(), &mut |fakes| {
        let cli = bench.options.peers.get(peers::Peer::Cli);
        let mut all = series(fakes, &peer, cli.map(|program| Place::Cli(program, files.0.path())));
        for round in 0..=rounds {
            fastrand::shuffle(&mut all);
            for (n, series) in all.iter_mut().enumerate() {
                bench.interrupt.check()?;
                let times = series.run(&files, &format!("r{round}-{n}"))?;
                if round > 0 {
                    series.times.push(times);
                }
            }
        }
        rows(&all)
    })
}

/// All at once, so that a slow hour of the machine falls on all alike.
fn on_fakes(
    builds: &[(Runtime, Option<PathBuf>)],
    fakes: &Fakes<'_>,
    measure: &mut OnFakes<'_>,
) -> Result<Vec<Row>> {
    let Some(((runtime, before), rest)) = builds.split_first() else { return measure(fakes) };
    let go_on = |fake: &FakeContainerd| {
        fs::write(fake.layer().join(GUEST_FILE), GUEST)?;
        fs::create_dir_all(fake.layer().join("v"))?;
        let mut fakes = fakes.clone();
        fakes.push((*runtime, before.is_some(), fake));
        on_fakes(rest, &fakes, measure)
    };
    match before {
        None => FakeContainerd::with(*runtime, Storage::Memory, go_on),
        Some(directory) => FakeContainerd::with_build(*runtime, directory, Storage::Memory, go_on),
    }
}

fn series<'a>(fakes: &Fakes<'a>, peer: &'a Peer, cli: Option<Place<'a>>) -> Vec<Series<'a>> {
    let containers =
        fakes.iter().map(|&(runtime, before, fake)| Place::Containers { fake, runtime, before });
    let containers: Vec<_> = containers.collect();
    let of = |place, (uid, user)| Series { place, uid, user, times: Vec::new() };
    let mut all = vec![of(Place::Peer(peer), USERS[0])];
    all.extend(cli.map(|place| of(place, USERS[0])));
    for user in USERS {
        all.extend(containers.iter().map(|place| of(*place, user)));
    }
    all
}

/// The files of all guests, in memory, below `v`.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().tempdir_in("/dev/shm")?;
        let many = directory.path().join("v/d");
        fs::create_dir_all(&many)?;
        fs::write(directory.path().join("v/f"), vec![7; BYTES])?;
        for n in 0..ENTRIES {
            fs::write(many.join(format!("file-{n}")), "")?;
        }
        Ok(Self(directory))
    }

    fn volume(&self) -> PathBuf {
        self.0.path().join("v")
    }
}

impl Series<'_> {
    /// Microseconds of each call.
    fn run(&self, files: &Files, id: &str) -> Result<[f64; CALLS.len()]> {
        let said = match self.place {
            Place::Peer(peer) => peer.run()?,
            Place::Cli(program, directory) => cli(program, directory)?,
            Place::Containers { fake, .. } => container(fake, &files.volume(), self.uid, id)?,
        };
        let numbers = said.lines().map(str::parse::<f64>).collect::<Result<Vec<_>, _>>();
        let numbers = numbers.with_context(|| format!("the guest said {said:?}"))?;
        ensure!(numbers.len() == CALLS.len(), "the guest said {said:?}");
        Ok(std::array::from_fn(|n| numbers[n] / 1e3))
    }

    fn name(&self) -> &'static str {
        match self.place {
            Place::Containers { runtime, .. } => short(runtime),
            Place::Peer(_) => "run",
            Place::Cli(..) => peers::Peer::Cli.name(),
        }
    }

    fn is_before(&self) -> bool {
        matches!(self.place, Place::Containers { before: true, .. })
    }
}

/// What the guest has printed under `wasmtime run`.
fn cli(program: &Path, directory: &Path) -> Result<String> {
    let guests = format!("{}::/", directory.display());
    let command = Command::new(program).args(["run", "--dir", &guests]);
    Ok(command.args([directory.join(GUEST_FILE)]).run()?.ok()?.out())
}

/// One life of a container; what its guest has printed.
fn container(fake: &FakeContainerd, volume: &Path, uid: u32, id: &str) -> Result<String> {
    let mut container = fake.program(id, &[&format!("/{GUEST_FILE}")])?;
    let mut process = container.bundle.config["process"].clone();
    process["user"] = json!({ "uid": uid, "gid": uid });
    container.configure("process", process)?;
    let mount = json!({ "destination": "/v", "type": "bind", "source": volume,
        "options": ["bind", "ro"] });
    container.configure("mounts", json!([mount]))?;
    let fifo = container.pipe_output()?.to_owned();
    let reader = std::thread::spawn(move || {
        let mut said = String::new();
        fs::File::open(&fifo)?.read_to_string(&mut said)?;
        Ok::<_, std::io::Error>(said)
    });
    fake.run_to_success(&container)?;
    reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))?.context("no output")
}

fn rows(all: &[Series<'_>]) -> Result<Vec<Row>> {
    let peer = all.iter().find(|series| matches!(series.place, Place::Peer(_)));
    let peer = peer.context("no peer")?;
    let cli = all.iter().find(|series| matches!(series.place, Place::Cli(..)));
    let mut rows = Vec::new();
    for (n, call) in CALLS.into_iter().enumerate() {
        for peer in [peer].into_iter().chain(cli) {
            rows.push(Row::new(format!("files_{call}"), peer.name(), median(peer, n)?, "us"));
        }
        for series in sorted(all) {
            let figure = format!("files_{call}_{}", series.user);
            rows.push(Row::new(&figure, series.name(), median(series, n)?, "us"));
            let ratio = ratio(series, peer, n)?;
            rows.push(Row::new(format!("{figure}_to_run"), series.name(), ratio, "x"));
            if let Some(cli) = cli {
                let ratio = self::ratio(series, cli, n)?;
                rows.push(Row::new(format!("{figure}_to_cli"), series.name(), ratio, "x"));
            }
            let same = |other: &&Series<'_>| {
                other.is_before() && other.name() == series.name() && other.uid == series.uid
            };
            if let Some(before) = all.iter().find(same) {
                let ratio = self::ratio(series, before, n)?;
                let row = Row::new(format!("{figure}_to_before"), series.name(), ratio, "x");
                rows.push(row.at_most(GOAL_BEFORE));
            }
        }
    }
    Ok(rows)
}

/// The series of this build's containers.
fn sorted<'a, 'b>(all: &'b [Series<'a>]) -> Vec<&'b Series<'a>> {
    let is_ours = |series: &&Series<'_>| {
        !series.is_before() && matches!(series.place, Place::Containers { .. })
    };
    let mut ours: Vec<_> = all.iter().filter(is_ours).collect();
    ours.sort_by_key(|series| (series.uid, series.name()));
    ours
}

fn median(series: &Series<'_>, call: usize) -> Result<f64> {
    stats::median(&series.times.iter().map(|times| times[call]).collect::<Vec<_>>())
}

/// Median of the ratios within the rounds.
fn ratio(one: &Series<'_>, other: &Series<'_>, call: usize) -> Result<f64> {
    let pairs = one.times.iter().zip(&other.times);
    stats::median(&pairs.map(|(one, other)| one[call] / other[call]).collect::<Vec<_>>())
}
