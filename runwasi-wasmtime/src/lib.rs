//! wasmtime as an engine of `runwasi-core`. The modules in the order an artifact becomes a running guest:
//!
//! | module | one thing |
//! |---|---|
//! | [`engine`] | artifact → instance |
//! | `pool` | the one place that builds `wasmtime::Config`, and what belongs to one wasmtime engine |
//! | [`epoch`] | the clock that makes guests yield |
//! | [`settings`] | how an engine is set up |
//! | `compiler` | bytes → compiled code, through the code cache |
//! | `module_cache` | what guests run, or ran lately |
//! | `world` | what the guest is, and which export of it is run |
//! | `instance` | one guest, of whatever kind: run to its status |
//! | `start` | the instantiation of a guest: when it counts as running, what its failure means |
//! | `module` | a core module: instantiate, call |
//! | `component` | a component: its store, what it may import (`link`), commands and named functions |
//! | `http` | a component that answers HTTP |
//! | `outbound` | a component's way to the network |
//! | `wasi` | the process → a WASI context, its streams, configuration and key-value store; models (feature `wasi-nn`) |
//! | `limits` | what guests grow, charged to their container |
//! | `exit` | how a guest's end becomes an exit status |
//!
//! wasmtime types begin here: `runwasi-core` knows none.

mod compiler;
mod component;
pub mod engine;
pub mod epoch;
mod exit;
mod http;
mod instance;
mod limits;
mod module;
mod module_cache;
mod outbound;
mod pool;
pub mod settings;
mod start;
mod wasi;
mod world;

pub use engine::WasmtimeEngine;
use runwasi_core::cli::About;
pub use settings::Settings;

/// What the shim `containerd-shim-wasmtime-v1` says it is.
pub const ABOUT: About = About {
    runtime: "io.containerd.wasmtime.v1",
    version: env!("CARGO_PKG_VERSION"),
    engine: "wasmtime 48",
};
