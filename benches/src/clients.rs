//! Requests a second over the number of clients, for the plot of the documentation; called by `main`. Ratios to the loop of
//! `wasmtime serve` are those of the benchmark `http`.
//!
//! A hello of p2 answers on the host's loopback, in a container of each runtime and in the loop of `wasmtime serve`. A round
//! loads each with each number of clients.

use anyhow::{Context, Result};
use runwasi_tests::Image;

use crate::http::Server;
use crate::http::wrk::{self, Request};
use crate::results::Row;
use crate::{Bench, stats};

const GUEST: &str = "http_hello.wasm";

/// Connections that are kept open, each with one request at a time.
const CLIENTS: [usize; 6] = [1, 4, 16, 64, 128, 256];

/// Rounds that count, after one to warm up.
const ROUNDS: usize = 3;

/// Requests a second of a server, for each number of clients.
struct Series {
    server: Server,
    rates: [Vec<f64>; CLIENTS.len()],
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    bench.say(&format!("clients: {ROUNDS} interleaved rounds with {CLIENTS:?} clients"))?;
    bench.fixture.load(Image::Wasmguests)?;
    let mut servers = vec![Server::serve_loop(GUEST)?];
    for runtime in bench.options.wasm_runtimes() {
        servers.push(Server::container(bench, runtime, GUEST, None)?);
    }
    let of = |server| Series { server, rates: Default::default() };
    let mut all: Vec<_> = servers.into_iter().map(of).collect();
    for round in 0..=ROUNDS {
        for (place, clients) in CLIENTS.into_iter().enumerate() {
            fastrand::shuffle(&mut all);
            for Series { server, rates } in &mut all {
                bench.interrupt.check()?;
                let load = wrk::load(server.address(), &Request::get("").by(clients))
                    .with_context(|| format!("{} with {clients} clients", server.name()))?;
                if round > 0 {
                    rates[place].push(load.rate);
                }
            }
        }
    }
    all.sort_by_key(|series| series.server.name());
    let rows = all.iter().map(rows).collect::<Result<Vec<_>>>()?.concat();
    all.into_iter().try_for_each(|series| series.server.end(bench))?;
    Ok(rows)
}

fn rows(series: &Series) -> Result<Vec<Row>> {
    let row = |(clients, rates): (&usize, &Vec<f64>)| {
        let name = format!("clients_rate_at_{clients}");
        Ok(Row::new(name, series.server.name(), stats::median(rates)?, "1/s"))
    };
    CLIENTS.iter().zip(&series.rates).map(row).collect()
}
