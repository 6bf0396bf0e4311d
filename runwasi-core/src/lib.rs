//! The shim framework: an [`Engine`] and its [`Instance`]s become a complete containerd shim.
//!
//! An integrator implements the two traits of [`engine`] and calls [`cli::main`]; `testing` serves
//! an engine without containerd. The docs show these modules and those that they name. The others
//! are public only for the crates of this repository: they are hidden, and change without notice.
//! All modules in the order a request travels:
//!
//! | module | one thing |
//! |---|---|
//! | [`cli`], `bootstrap` | argv, environment, stdin; `start`, `delete`, `-info`, `-v`; serving |
//! | `requirements` | kernel, capabilities and system calls that serving needs |
//! | [`logging`] | tracing onto containerd's `log` FIFO |
//! | `panics` | the log of panics, and the end of the process where one cannot be contained |
//! | `runtime` | the control and the guest Tokio runtimes |
//! | [`blocking`] | work on the blocking pool |
//! | `child` | programs of the host that run for a bounded time |
//! | `task_limits` | the kernel's limits of threads and processes, in errors |
//! | `shutdown` | cancel token and task tracker; the only spawn on the control runtime |
//! | `start_memory` | return of what only starts need |
//! | `server` | one listening socket, its services, and the bounded drain |
//! | `buffered` | few reads of a connection |
//! | `service` | the ttrpc services, `Task` and `Sandbox`: decode, one call, encode |
//! | `sandbox` | the containers behind one socket |
//! | `container` | one container: bundle, rootfs, processes |
//! | `observe` | the life events of containers, each told once |
//! | `process` | a process: its state table, its driver, its execs |
//! | [`stdio`] | the standard streams of a process |
//! | `events` | the ordered queue to containerd |
//! | `containerd` | clients of containerd: images, events, its side of the Task service |
//! | [`engine`] | the traits that an integrator implements |
//! | `options`, [`settings`] | containerd's runtime options; settings of an engine as written |
//! | `native` | native containers, which containerd's own shim for runc runs |
//! | `cgroups` | the kernel's limits behind those of the engine |
//! | [`resources`] | resource usage of a container; its memory account |
//! | `metrics` | counters of all of these, and their text for a scrape |
//! | `scrape` | that text over HTTP |
//! | `traces` | spans of starts and requests, for a tracer |
//! | [`artifact`] | the artifact to run: a file of the container or a layer of its image |
//! | `code_cache` | compiled code on disk, compiled once |
//! | `scheduler` | the group of futures of a process and how they are polled |
//! | [`network`], `sandbox_process` | the namespaces of a sandbox, and its OS process in them |
//! | [`rootfs`] | root file system and volumes of a container: one tree of mounts |
//! | `bundle` | `config.json` of a container |
//! | [`credentials`] | the user, groups and umask that a guest's files are opened with |
//! | `open` | opening of a guest's files without waiting |
//! | `paths` | a guest's paths as a chroot resolves them, and the calls that take one |
//! | `sys` | raw system calls; all unsafe code of this crate |
//! | `regular_file` | bounded reads of files whose kind is not known |
//! | `lock` | a mutex without poisoning |
//! | [`digest`], [`id`], `sanitize` | SHA-256 digests; checked ids; sanitized untrusted text |
//! | `suggestion` | the nearest known word to an unknown one |
//! | `fuzzing` (feature) | entries of the fuzz targets |
//! | `testing` (feature) | harness, scripted engine, recording publisher |

pub mod artifact;
pub mod blocking;
#[doc(hidden)]
pub mod bootstrap;
mod buffered;
#[doc(hidden)]
pub mod bundle;
#[doc(hidden)]
pub mod cgroups;
mod child;
pub mod cli;
#[doc(hidden)]
pub mod code_cache;
#[doc(hidden)]
pub mod container;
#[doc(hidden)]
pub mod containerd;
pub mod credentials;
pub mod digest;
pub mod engine;
#[doc(hidden)]
pub mod events;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
#[doc(hidden)]
pub mod lock;
pub mod logging;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod native;
pub mod network;
#[doc(hidden)]
pub mod observe;
#[doc(hidden)]
pub mod open;
#[doc(hidden)]
pub mod options;
#[doc(hidden)]
pub mod panics;
#[doc(hidden)]
pub mod paths;
#[doc(hidden)]
pub mod process;
#[doc(hidden)]
pub mod regular_file;
#[doc(hidden)]
pub mod requirements;
pub mod resources;
pub mod rootfs;
#[doc(hidden)]
pub mod runtime;
#[doc(hidden)]
pub mod sandbox;
mod sandbox_process;
#[doc(hidden)]
pub mod sanitize;
#[doc(hidden)]
pub mod scheduler;
#[doc(hidden)]
pub mod scrape;
#[doc(hidden)]
pub mod server;
#[doc(hidden)]
pub mod service;
pub mod settings;
#[doc(hidden)]
pub mod shutdown;
#[doc(hidden)]
pub mod start_memory;
pub mod stdio;
mod suggestion;
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod task_limits;
#[cfg(feature = "testing")]
pub mod testing;
#[doc(hidden)]
pub mod traces;

pub use engine::{
    Engine,
    error::EngineError,
    exit::ExitStatus,
    fault::Fault,
    instance::{GuestContext, Instance, SignalResponse},
    prepared::Prepared,
    signal::Signal,
    spec::InstanceSpec,
};
pub use id::Id;
