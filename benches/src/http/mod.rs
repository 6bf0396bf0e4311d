//! What a server in a container answers a second, against the loop of `wasmtime serve`; called by `main`.
//!
//! All servers stand on the host's loopback at the same time; a round loads each of them once, in a random order, with `wrk`,
//! which takes its part of the CPUs from all of them alike. What counts is the ratio within a round.
//!
//! - `server`: the servers.
//! - `wrk`: the load.
//! - `series`: rounds, and the figures of one server in all of them.
//! - `logging`: a line of output for each request.

mod logging;
mod series;
mod server;
pub(crate) mod wrk;

use anyhow::{Context, Result};
use runwasi_tests::Image;

use crate::results::Row;
use crate::{Bench, stats};
use series::{Series, ratio, rounds};
pub(crate) use server::Server;
use wrk::Request;

/// The parts that can be selected, each a function of `measure`.
pub(crate) const PARTS: [&str; 10] = [
    "hello",
    "p3-hello",
    "p3-shared-hello",
    "wait",
    "p3-wait",
    "p3-shared-wait",
    "body",
    "get",
    "p3-get",
    "log",
];

/// Lets an instance of p3 serve several requests at once, as many as the loop lets one by default.
const SHARED: &str = "io.runwasi.http.concurrent-reuse=16";

/// Of a large body.
const BODY: usize = 1 << 20;

/// Clients that wait at once, more than any limit of instances by default.
const WAITING: usize = 256;

/// A guest under one kind of load.
struct Case {
    figure: &'static str,
    guest: &'static str,
    request: Request,
    /// Annotation of the container.
    annotation: Option<&'static str>,
    /// Of the rate of `wasmtime serve`.
    goal: Option<f64>,
}

/// Measures instances that serve one request (p2) and several (p3), and a guest that prints.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    bench.fixture.load(Image::Wasmguests)?;
    let wants = |part: &str| bench.options.wants("http", part);
    let mut rows = Vec::new();
    for (part, case) in cases() {
        if wants(part) {
            rows.extend(against_the_loop(bench, &case)?);
        }
    }
    if wants("body") {
        rows.extend(large_bodies(bench)?);
    }
    for (part, figure, guest) in
        [("get", "http_get", "http_app.wasm"), ("p3-get", "http_p3_get", "p3_http.wasm")]
    {
        if wants(part) {
            rows.extend(outgoing(bench, figure, guest)?);
        }
    }
    if wants("log") {
        for runtime in bench.options.wasm_runtimes() {
            rows.extend(logging::measure(bench, runtime)?);
        }
    }
    Ok(rows)
}

fn cases() -> [(&'static str, Case); 6] {
    let case = |figure, guest, request, goal| Case {
        figure,
        guest,
        request,
        annotation: None,
        goal: Some(goal),
    };
    // Without a goal: it saves memory, not time.
    let shared = |figure, request| Case {
        figure,
        guest: "p3_http.wasm",
        request,
        annotation: Some(SHARED),
        goal: None,
    };
    let waits = || Request::get("slow?ms=20").by(WAITING);
    [
        ("hello", case("http_hello", "http_hello.wasm", Request::get(""), 2.5)),
        ("p3-hello", case("http_p3_hello", "p3_http.wasm", Request::get("hello"), 1.25)),
        ("p3-shared-hello", shared("http_p3_shared_hello", Request::get("hello"))),
        ("p3-shared-wait", shared("http_p3_shared_wait", waits())),
        ("wait", case("http_wait", "http_app.wasm", waits(), 1.5)),
        ("p3-wait", case("http_p3_wait", "p3_http.wasm", waits(), 1.2)),
    ]
}

/// Bodies of requests and of responses in both worlds; the worst of the four is to reach the goal.
fn large_bodies(bench: &Bench) -> Result<Vec<Row>> {
    const GOAL: f64 = 1.3;
    let post = || Request::get("length").post(BODY);
    let get = || Request::get(&format!("bytes?count={BODY}"));
    let cases = [
        ("http_body_request", "http_app.wasm", post()),
        ("http_body_response", "http_app.wasm", get()),
        ("http_body_p3_request", "p3_http.wasm", post()),
        ("http_body_p3_response", "p3_http.wasm", get()),
    ];
    let mut rows = Vec::new();
    for (figure, guest, request) in cases {
        rows.extend(against_the_loop(
            bench,
            &Case { figure, guest, request, annotation: None, goal: None },
        )?);
    }
    let mut worst: Vec<Row> = Vec::new();
    for row in rows.iter().filter(|row| row.name.ends_with(TO_SERVE)) {
        let name = format!("http_body_worst{TO_SERVE}");
        let this = Row::new(name, &row.runtime, row.value, row.unit).at_least(GOAL);
        match worst.iter_mut().find(|worst| worst.runtime == this.runtime) {
            Some(worst) => worst.value = worst.value.min(this.value),
            None => worst.push(this),
        }
    }
    rows.extend(worst);
    Ok(rows)
}

/// End of the name of a ratio to `wasmtime serve`.
const TO_SERVE: &str = "_ratio_to_serve";

/// The servers that one case compares; the loop of `wasmtime serve` is the first.
fn servers(bench: &Bench, guest: &str, annotation: Option<&str>) -> Result<Vec<Server>> {
    let mut all = vec![Server::serve_loop(guest)?];
    for runtime in bench.options.wasm_runtimes() {
        all.push(Server::container(bench, runtime, guest, annotation)?);
        // An earlier build may not know the annotation.
        if let (Some(directory), None) = (&bench.options.before, annotation) {
            all.extend(Server::before(bench, runtime, guest, directory)?);
        }
    }
    Ok(all)
}

fn against_the_loop(bench: &Bench, case: &Case) -> Result<Vec<Row>> {
    let Case { figure, guest, request, annotation, goal } = case;
    bench.say(&format!(
        "{figure}: {} interleaved rounds after one to warm up, {request}",
        series::ROUNDS
    ))?;
    let all = servers(bench, guest, *annotation)?;
    let mut all: Vec<_> = all.into_iter().map(|one| Series::new(one, request.clone())).collect();
    rounds(bench, &mut all)?;
    let mut rows = Vec::new();
    for series in &all {
        rows.extend(series.rows(figure)?);
    }
    for (name, ratio) in ratios(&all, Series::rates)? {
        let row = Row::new(format!("{figure}{TO_SERVE}"), name, ratio, "x");
        rows.push(match goal {
            // An earlier build has no goal to reach.
            Some(goal) if !name.ends_with(server::BEFORE) => row.at_least(*goal),
            _ => row,
        });
    }
    end(bench, all)?;
    Ok(rows)
}

/// CPU time of a guest's own request, whose response it passes on. Another loop answers it.
fn outgoing(bench: &Bench, figure: &str, guest: &str) -> Result<Vec<Row>> {
    const GOAL: f64 = 0.8;
    let peer = Server::serve_loop("http_hello.wasm")?;
    let request = Request::get(&format!("get?url=http://{}/", peer.address()));
    bench.say(&format!("{figure}: CPU time of a request that makes a request, {request}"))?;
    let all = servers(bench, guest, None)?;
    let mut all: Vec<_> = all.into_iter().map(|one| Series::new(one, request.clone())).collect();
    rounds(bench, &mut all)?;
    let mut rows = Vec::new();
    for series in &all {
        rows.extend(series.rows(figure)?);
        let cpu = stats::median(&series.cpu()).context("no rounds")?;
        rows.push(Row::new(format!("{figure}_cpu"), series.server.name(), cpu, "us"));
    }
    for (name, ratio) in ratios(&all, Series::cpu)? {
        let row = Row::new(format!("{figure}_cpu{TO_SERVE}"), name, ratio, "x");
        rows.push(if name.ends_with(server::BEFORE) { row } else { row.at_most(GOAL) });
    }
    end(bench, all)?;
    peer.end(bench)?;
    Ok(rows)
}

/// The figure of each container over that of the loop, with the container's name.
fn ratios(all: &[Series], figure: fn(&Series) -> Vec<f64>) -> Result<Vec<(&'static str, f64)>> {
    let (serve, containers) = all.split_first().context("no servers")?;
    let theirs = figure(serve);
    containers.iter().map(|one| Ok((one.server.name(), ratio(&figure(one), &theirs)?))).collect()
}

fn end(bench: &Bench, all: Vec<Series>) -> Result<()> {
    all.into_iter().try_for_each(|series| series.server.end(bench))
}
