//! wasmtime as an engine of `runwasi-core`. The modules, in the order in which an artifact becomes
//! a running guest:
//!
//! | module | one thing |
//! |---|---|
//! | [`engine`] | artifact → instance |
//! | [`builder`], `hooks` | an engine with host functions of the embedder |
//! | `pool` | one wasmtime engine with its slots |
//! | `pool_sizes` | sizes of the pools and shares of containers, by the settings |
//! | `config` | its `wasmtime::Config` |
//! | `shares`, `maps` | the shares of containers in the pool; its memory maps |
//! | `stacks` | the stacks of a store's calls |
//! | `epoch` | the clock that makes guests yield |
//! | [`settings`], `annotations` | configuration of an engine; names of the annotations it reads |
//! | [`proposals`] | unfinished proposals that guests may use |
//! | `compiler` | artifact → linked code, from a cache or compiled once for all requests |
//! | `compile_job` | the compilation of one artifact: slot, compile lock, store |
//! | `codegen` | bytes → compiled code, in an OS process of its own |
//! | `compile_process`, `spare` | the `main` of that process; one that waits for the next artifact |
//! | `outline`, `exports` | imports, bounds and exports of an artifact that is not compiled yet |
//! | `loader` | compiled code → linked code, through the code cache |
//! | `module_cache` | linked code that guests run or ran recently |
//! | `world` | kind of a guest and its entry point |
//! | `instance` | one guest of any kind, run to its exit status |
//! | `start` | instantiation of a guest: when it counts as started, the result of a failure |
//! | `module` | a core module: instantiate, call |
//! | `component` | a component: its store, imports (`link`), commands and named functions |
//! | `http` | a component that answers HTTP |
//! | `outbound` | network access of a component |
//! | `paced` | I/O of the host in steps that end the turn of its guest |
//! | `authority` | port of an HTTP request's authority |
//! | `timed_body` | body of a request or a response with a time limit |
//! | `timer` | exact sleeps of guests |
//! | `trace` | spans of HTTP requests |
//! | `turns` | turns of host calls with long work |
//! | `wasi` | WASI context of a process: streams, values, data; models (feature `wasi-nn`) |
//! | `gc_heap` | first size of a guest's heap of collected objects |
//! | `limits` | store limiter: charges the growth of guests to their container |
//! | `exit`, `backtrace` | exit status of a guest, and the text of its calls |
//!
//! Only this crate uses wasmtime's types. `runwasi-core` does not depend on wasmtime.

mod annotations;
mod authority;
mod backtrace;
pub mod builder;
mod codegen;
mod compile_job;
mod compile_process;
mod compiler;
mod component;
mod config;
pub mod engine;
#[doc(hidden)]
pub mod epoch;
mod exit;
mod exports;
mod gc_heap;
mod hooks;
mod http;
mod instance;
mod limits;
mod loader;
mod maps;
mod module;
mod module_cache;
mod outbound;
mod outline;
mod paced;
mod pool;
mod pool_sizes;
pub mod proposals;
pub mod settings;
mod shares;
mod spare;
mod stacks;
mod start;
mod timed_body;
mod timer;
mod trace;
mod turns;
mod wasi;
mod world;

pub use compile_process::answer_as_compiler;
pub use component::store::Component as ComponentState;
pub use engine::WasmtimeEngine;
pub use module::store::Guest as ModuleState;
use runwasi_core::cli::About;
pub use settings::Settings;
// For the types in the signatures of hooks, in the right versions.
pub use wasmtime;
pub use wasmtime_wasi;

/// Identity of the shim `containerd-shim-wasmtime-v1`.
pub const ABOUT: About = About {
    runtime: "io.containerd.wasmtime.v1",
    version: env!("CARGO_PKG_VERSION"),
    engine: "wasmtime 48",
    annotations: &annotations::NAMES,
};
