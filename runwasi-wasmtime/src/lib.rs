//! wasmtime as an engine of `runwasi-core`. The modules in the order an artifact becomes a running guest:
//!
//! | module | one thing |
//! |---|---|
//! | [`engine`] | the one place that builds `wasmtime::Config`; artifact → instance |
//! | [`epoch`] | the clock that makes guests yield |
//! | `artifact` | bytes → compiled module, through the code cache |
//! | `world` | which export of the guest is run |
//! | `instance` | one guest: instantiate, call, status |
//! | `wasi` | the process → a WASI context |
//! | `stdio` | the process's streams as WASI streams |
//! | `exit` | how a guest's end becomes an exit status |
//!
//! wasmtime types begin here: `runwasi-core` knows none.

mod artifact;
pub mod engine;
pub mod epoch;
mod exit;
mod instance;
mod limits;
mod preview1;
mod stdio;
mod wasi;
mod world;

pub use engine::{Settings, WasmtimeEngine};
use runwasi_core::cli::About;

/// What the shim `containerd-shim-wasmtime-v1` says it is.
pub const ABOUT: About =
    About { runtime: "io.containerd.wasmtime.v1", version: env!("CARGO_PKG_VERSION"), engine: "wasmtime 48" };
