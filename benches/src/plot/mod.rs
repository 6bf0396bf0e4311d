//! Plots as SVG, without a library: bars for one figure of several runtimes, lines for one over a number; used by `page`.
//!
//! - `axis`: bounds and steps that a reader can count in.
//! - `bars`, `lines`: the two kinds.
//! - `svg`: text and shapes.

mod axis;
mod bars;
mod lines;
mod svg;

pub(crate) use bars::{Bar, bars};
pub(crate) use lines::{Line, Scale, lines};

/// What stands around a plot.
pub(crate) struct Titles<'a> {
    pub(crate) title: &'a str,
    /// Below the horizontal axis.
    pub(crate) across: &'a str,
    /// Beside the vertical axis; bars have their names there.
    pub(crate) up: &'a str,
}

const WIDTH: f64 = 720.0;

/// The colour of a runtime: the same in all plots, ours before others.
fn colour(name: &str) -> &'static str {
    match name {
        "wasmtimed" => "#1a7f64",
        "wasmtime" => "#3f56c5",
        "wasmtimed-before" => "#8cc7b6",
        "wasmtime-before" => "#a3aee6",
        "runc" => "#c2571a",
        "upstream" => "#8b3fa8",
        "crun" => "#b8860b",
        "serve" => "#555b66",
        _ => "#9aa0ab",
    }
}
