//! Requests a second over the number of clients, for the plot of the documentation; called by `main`. Ratios to the loop of
//! `wasmtime serve` are those of the benchmark `http`.
//!
//! A hello of p2 answers on the host's loopback, in a container of each runtime and in the loop of `wasmtime serve`. A round
//! loads each with each number of clients.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::running::Running;
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Command, Image, Runtime, http};

use crate::options::short;
use crate::results::Row;
use crate::{Bench, stats};

const GUEST: &str = "http_hello.wasm";

/// Connections that are kept open, each with one request at a time.
const CLIENTS: [usize; 6] = [1, 4, 16, 64, 128, 256];

/// Rounds that count, after one to warm up.
const ROUNDS: usize = 3;

const SECONDS: u64 = 2;

/// A server that has answered.
struct Server {
    name: &'static str,
    address: SocketAddr,
    /// The container, or the loop, which ends when it is dropped.
    container: Option<String>,
    _process: Option<Running>,
    /// Requests a second, for each number of clients.
    rates: [Vec<f64>; CLIENTS.len()],
}

/// Measures and prints; the rows are the figures.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    bench.say(&format!("clients: {ROUNDS} interleaved rounds with {CLIENTS:?} clients"))?;
    bench.fixture.load(Image::Wasmguests)?;
    let mut all = vec![serve_loop()?];
    for runtime in bench.options.wasm_runtimes() {
        all.push(container(bench, runtime)?);
    }
    for round in 0..=ROUNDS {
        for (place, clients) in CLIENTS.into_iter().enumerate() {
            fastrand::shuffle(&mut all);
            for server in &mut all {
                bench.interrupt.check()?;
                let rate = load(server.address, clients)
                    .with_context(|| format!("{} with {clients} clients", server.name))?;
                if round > 0 {
                    server.rates[place].push(rate);
                }
            }
        }
    }
    for id in all.iter().filter_map(|server| server.container.as_ref()) {
        bench.fixture.ctr(["task", "delete", "-f", id])?;
        bench.fixture.ctr(["container", "delete", id])?.ok()?;
    }
    all.sort_by_key(|server| server.name);
    Ok(all.iter().map(rows).collect::<Result<Vec<_>>>()?.concat())
}

fn rows(server: &Server) -> Result<Vec<Row>> {
    let row = |(clients, rates): (&usize, &Vec<f64>)| {
        let name = format!("clients_rate_at_{clients}");
        Ok(Row::new(name, server.name, stats::median(rates)?, "1/s"))
    };
    CLIENTS.iter().zip(&server.rates).map(row).collect()
}

fn serve_loop() -> Result<Server> {
    let program = target_dir().join("release/serve-loop");
    let file = target_dir().join("guests").join(GUEST);
    ensure!(program.exists(), "{} is missing: `make bench` builds it", program.display());
    let address = http::free_address()?;
    let process =
        Command::new(program).args([address.to_string().as_ref(), file.as_os_str()]).spawn()?;
    let up = http::get_when_up(address, "/").map(drop);
    up.with_context(|| format!("serve-loop says {}", process.stderr_so_far()))?;
    Ok(Server {
        name: "serve",
        address,
        container: None,
        _process: Some(process),
        rates: Default::default(),
    })
}

fn container(bench: &Bench, runtime: Runtime) -> Result<Server> {
    let (address, name) = (http::free_address()?, short(runtime));
    let id = bench.fixture.id(&format!("clients-{name}"));
    let place = format!("io.runwasi.http.address={address}");
    let flags = ["run", "-d", "--net-host", "--annotation", &place, "--runtime", runtime.name()];
    let program = format!("/{GUEST}");
    let line = [&flags[..], &[Image::Wasmguests.name(), &id, &program]].concat();
    bench.fixture.ctr(line)?.ok()?;
    // It listens since it runs.
    http::get(address, "/")?;
    Ok(Server { name, address, container: Some(id), _process: None, rates: Default::default() })
}

/// Requests a second. Every answer must be a good one, or it is no measurement.
fn load(server: SocketAddr, clients: usize) -> Result<f64> {
    let (clients, duration) = (format!("-c{clients}"), format!("-d{SECONDS}s"));
    let url = format!("http://{server}/");
    // One thread: it shares the cores with the server.
    let wrk = Command::new("wrk").args(["-t1", &clients, &duration, &url]);
    let wrk = wrk.deadline(Duration::from_secs(SECONDS + 20));
    rate(&wrk.run().context("`make setup` installs wrk")?.ok()?.out())
}

fn rate(text: &str) -> Result<f64> {
    for complaint in ["Socket errors", "Non-2xx"] {
        ensure!(!text.contains(complaint), "not all requests were answered:\n{text}");
    }
    let rate =
        text.lines().find_map(|line| line.strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.with_context(|| format!("no rate in:\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_requests_are_no_measurement() {
        assert_eq!(rate("  x\nRequests/sec:  14773.67\n").unwrap(), 14773.67);
        assert!(rate("  Non-2xx or 3xx responses: 7\nRequests/sec: 1\n").is_err());
        assert!(rate("nothing").is_err());
    }
}
