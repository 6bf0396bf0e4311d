//! The shim framework: an [`Engine`] and its [`Instance`]s become a complete containerd shim.
//!
//! An integrator implements the two traits of [`engine`] and [`instance`] and calls [`cli::main`]; everything else,
//! from containerd's command line to its events, is here. The modules in the order a request travels:
//!
//! | module | one thing |
//! |---|---|
//! | [`cli`], [`bootstrap`] | containerd's argv, environment and stdin; `start`, `delete`, `-info`, `-v`; serving |
//! | [`server`] | one listening socket, its services, and the bounded drain |
//! | [`shutdown`] | the cancel token and the task tracker; the only place that spawns on the control runtime |
//! | [`runtime`] | the control and the guest Tokio runtimes |
//! | [`logging`] | tracing onto containerd's `log` FIFO |
//! | [`service`] | the ttrpc services, `Task` and `Sandbox`: decode, one call, encode |
//! | [`sandbox`] | the containers behind one socket |
//! | [`container`] | one container: bundle, rootfs, processes |
//! | [`process`] | a process: its state table, its driver, its exit |
//! | [`guest`] | the group of futures of a container and how they are polled |
//! | [`network`] | the network namespace of a sandbox |
//! | [`events`] | the ordered queue to containerd |
//! | [`engine`], [`instance`] | what an integrator implements |
//! | [`options`], [`settings`] | containerd's runtime options; an engine's settings as they were written |
//! | [`kept`] | what an engine keeps for a container |
//! | [`bundle`] | `config.json` and stdio of a container |
//! | [`rootfs`] | root file system and volumes of a container: one tree of mounts |
//! | [`image`] | which artifact runs, and the compiled-code cache |
//! | [`resources`] | the metrics messages |
//! | `testing` (feature) | harness, scripted engine, recording publisher |

pub mod bootstrap;
pub mod bundle;
pub mod cli;
pub mod container;
pub mod engine;
pub mod events;
pub mod guest;
pub mod id;
pub mod identity;
pub mod image;
pub mod instance;
pub mod kept;
pub mod logging;
pub mod network;
pub mod options;
pub mod present;
pub mod process;
pub mod resources;
pub mod rootfs;
pub mod runtime;
pub mod sandbox;
pub mod server;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod sys;
#[cfg(feature = "testing")]
pub mod testing;

pub use engine::{Engine, EngineError};
pub use id::Id;
pub use instance::{GuestContext, Instance, InstanceSpec, SignalResponse};
pub use process::exit::ExitStatus;
pub use process::signal::Signal;
