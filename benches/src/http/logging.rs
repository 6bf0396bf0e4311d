//! The cost of a line of output for each request; called by `http`.
//!
//! The same server answers with and without a line to its output, which goes to a file. A guest that
//! prints through its language's library has an adapter between the library and WASI p2, as `/env`
//! does.

use anyhow::Result;
use runwasi_tests::Runtime;

use super::series::{Series, ratio, rounds};
use super::server::Server;
use super::wrk::Request;
use crate::Bench;
use crate::results::Row;

/// Of the rate without a line on standard output.
const GOAL: f64 = 0.8;

pub(super) fn measure(bench: &Bench, runtime: Runtime) -> Result<Vec<Row>> {
    let server = Server::container(bench, runtime, "http_app.wasm", None)?;
    bench.say(&format!("http_log: with and without a line a request, by {}", server.name()))?;
    let paths = ["hello", "log", "println", "env"];
    let mut all = paths.map(|path| Series::new(server.clone(), Request::get(path)));
    rounds(bench, &mut all)?;
    let mut rows = Vec::new();
    for (series, path) in all.iter().zip(paths) {
        rows.extend(series.rows(&format!("http_app_{path}"))?);
    }
    let [quiet, log, println, env] = all.each_ref().map(Series::rates);
    let row = |figure: &str, ratio| Row::new(figure, server.name(), ratio, "x");
    rows.extend([
        row("http_log_ratio_to_quiet", ratio(&log, &quiet)?).at_least(GOAL),
        row("http_println_ratio_to_quiet", ratio(&println, &quiet)?).at_least(GOAL),
        row("http_println_ratio_to_env", ratio(&println, &env)?),
    ]);
    server.end(bench)?;
    Ok(rows)
}
