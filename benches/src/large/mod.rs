//! Large programs, a component of 2 MB and resvg of 4.4 MB: what their code costs when it has been compiled before, and that
//! shims share it; called by `main`.
//!
//! - [`start`]: against a hello, and the second start against the first.
//! - [`shared`]: ten shims that run it at the same time.

mod shared;
mod start;

use anyhow::Result;

use crate::Bench;
use crate::results::Row;

/// Measures the runtimes that run wasm.
pub(crate) fn measure(bench: &mut Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for runtime in bench.options.wasm_runtimes() {
        rows.extend(start::above_hello(bench, runtime)?);
        rows.extend(start::second_to_first(bench, runtime)?);
        if !runtime.needs_daemon() {
            rows.extend(shared::measure(bench, runtime)?);
        }
    }
    Ok(rows)
}
