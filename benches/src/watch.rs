//! What it costs to watch a daemon: the CPU time of one that logs each life and whose metrics are scraped, beside that of one that
//! does neither; called by `main`.
//!
//! Containers come by `ctr run`, one after the other, or one of them serves HTTP. `rate` has the same for lives as fast as they can
//! come. CPU time, since the times of `ctr` and of a busy machine differ by more than what is looked for.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Containerd, Image, Runtime, http, proc};

use crate::http::wrk::{self, Request};
use crate::options::short;
use crate::results::Row;
use crate::scraper::Scraper;
use crate::{Bench, stats};

/// The most that it may add, in percent.
const GOAL: f64 = 3.0;

/// Rounds that count, after one to warm up, of four turns each.
const ROUNDS: usize = 4;

/// Containers of a turn.
const CONTAINERS: usize = 8;

const RUNTIME: Runtime = Runtime::Wasmtimed;

/// A containerd and its daemon, with a server in a container.
struct Node {
    fixture: Containerd,
    daemon: u32,
    server: SocketAddr,
    id: String,
}

/// Measures both kinds of load.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    if !bench.options.runtimes.contains(&RUNTIME) {
        return Ok(Vec::new());
    }
    bench.say("watch: a daemon that logs and is scraped beside one that is not watched")?;
    let metrics = http::address();
    let flags = ["--metrics-address", &metrics.to_string()];
    let watched = Node::start(Settings::default().flags(flags))?;
    let quiet = Node::start(Settings::default().flags(["--log-level", "error"]))?;
    let scraper = Scraper::start(metrics);
    let nodes = [&watched, &quiet];
    let of_ctr = cost(bench, nodes, Node::containers)?;
    let of_http = cost(bench, nodes, |node, _| node.requests())?;
    drop(scraper);
    watched.end()?;
    quiet.end()?;
    let row = |name: &str, percent| Row::new(name, short(RUNTIME), percent, "%").at_most(GOAL);
    Ok(vec![row("watch_ctr_run_cost", of_ctr), row("watch_http_cost", of_http)])
}

/// What the first node's turns take more than the second's, in percent: the median over the rounds.
// Each is once the first and once the second: turns in that place differ.
fn cost(
    bench: &Bench,
    [watched, quiet]: [&Node; 2],
    turn: impl Fn(&Node, usize) -> Result<f64>,
) -> Result<f64> {
    let mut percent = Vec::new();
    for round in 0..=ROUNDS {
        bench.interrupt.check()?;
        let early = 2 * round;
        let first = turn(watched, early)?;
        let second = turn(quiet, early)? + turn(quiet, early + 1)?;
        percent.push(((first + turn(watched, early + 1)?) / second - 1.0) * 100.0);
    }
    stats::median(&percent[1..])
}

impl Node {
    fn start(settings: Settings) -> Result<Self> {
        let mut fixture = Containerd::builder().daemon(settings).start()?;
        for image in [Image::Wasmtest, Image::Wasmguests] {
            fixture.load(image)?;
        }
        let server = http::address();
        let id = fixture.id("server");
        let address = format!("io.runwasi.http.address={server}");
        let guest = [Image::Wasmguests.name(), &id, "/http_hello.wasm"];
        let flags =
            ["run", "-d", "--net-host", "--annotation", &address, "--runtime", RUNTIME.name()];
        fixture.ctr([&flags[..], &guest].concat())?.ok()?;
        http::get_when_up(server, "/")?;
        let daemon = fixture.daemon()?.pid()?;
        Ok(Self { fixture, daemon, server, id })
    }

    /// CPU time of some containers, in seconds.
    fn containers(&self, turn: usize) -> Result<f64> {
        let before = proc::cpu_nanos(self.daemon)?;
        for n in 0..CONTAINERS {
            let id = self.fixture.id(&format!("t{turn}n{n}"));
            let line = ["run", "--rm", "--runtime", RUNTIME.name(), Image::Wasmtest.name(), &id];
            let said = self.fixture.ctr(line)?.ok()?;
            ensure!(said.out().contains("Hello"), "no hello: {said}");
        }
        Ok((proc::cpu_nanos(self.daemon)? - before) as f64 / 1e9)
    }

    /// CPU time of a request, in seconds.
    fn requests(&self) -> Result<f64> {
        let before = proc::cpu_nanos(self.daemon)?;
        let load = wrk::load(self.server, &Request::get(""))?;
        Ok((proc::cpu_nanos(self.daemon)? - before) as f64 / 1e9 / load.requests)
    }

    fn end(self) -> Result<()> {
        self.fixture.ctr(["task", "delete", "-f", &self.id])?;
        self.fixture.ctr(["container", "delete", &self.id])?.ok()?;
        self.fixture.becomes_clean()
    }
}
