//! The shim framework: an [`Engine`] and its [`Instance`]s become a complete containerd shim.
//!
//! An integrator implements the two traits of [`engine`] and calls [`cli::main`]. Everything else,
//! from containerd's command line to its events, is here. The modules in the order a request
//! travels:
//!
//! | module | one thing |
//! |---|---|
//! | [`cli`], [`bootstrap`] | argv, environment, stdin; `start`, `delete`, `-info`, `-v`; serving |
//! | [`requirements`] | kernel, capabilities and system calls that serving needs |
//! | [`logging`] | tracing onto containerd's `log` FIFO |
//! | [`panics`] | the log of panics, and the end of the process where one cannot be contained |
//! | [`runtime`] | the control and the guest Tokio runtimes |
//! | [`blocking`] | work on the blocking pool |
//! | [`shutdown`] | cancel token and task tracker; the only spawn on the control runtime |
//! | [`server`] | one listening socket, its services, and the bounded drain |
//! | [`service`] | the ttrpc services, `Task` and `Sandbox`: decode, one call, encode |
//! | [`sandbox`] | the containers behind one socket |
//! | [`container`] | one container: bundle, rootfs, processes |
//! | [`process`] | a process: its state table, its driver, its execs |
//! | [`stdio`] | the standard streams of a process |
//! | [`events`] | the ordered queue to containerd |
//! | [`containerd`] | clients of containerd: images, events, its side of the Task service |
//! | [`engine`] | the traits that an integrator implements |
//! | [`options`], [`settings`] | containerd's runtime options; settings of an engine as written |
//! | [`cgroups`] | the kernel's limits behind those of the engine |
//! | [`resources`] | resource usage of a container; its memory account |
//! | [`artifact`] | the artifact to run: a file of the container or a layer of its image |
//! | [`code_cache`] | compiled code on disk, compiled once |
//! | [`scheduler`] | the group of futures of a process and how they are polled |
//! | [`network`] | the network namespace of a sandbox |
//! | [`rootfs`] | root file system and volumes of a container: one tree of mounts |
//! | [`bundle`] | `config.json` of a container |
//! | [`credentials`] | the user, groups and umask that a guest's files are opened with |
//! | [`sys`] | raw system calls; all unsafe code of this crate |
//! | [`regular_file`] | bounded reads of files of unknown kind |
//! | [`lock`] | a mutex without poisoning |
//! | [`digest`], [`id`], [`sanitize`] | SHA-256 digests; checked ids; sanitized untrusted text |
//! | `testing` (feature) | harness, scripted engine, recording publisher |

pub mod artifact;
pub mod blocking;
pub mod bootstrap;
pub mod bundle;
pub mod cgroups;
pub mod cli;
pub mod code_cache;
pub mod container;
pub mod containerd;
pub mod credentials;
pub mod digest;
pub mod engine;
pub mod events;
pub mod id;
pub mod lock;
pub mod logging;
pub mod network;
pub mod options;
pub mod panics;
pub mod process;
pub mod regular_file;
pub mod requirements;
pub mod resources;
pub mod rootfs;
pub mod runtime;
pub mod sandbox;
pub mod sanitize;
pub mod scheduler;
pub mod server;
pub mod service;
pub mod settings;
pub mod shutdown;
pub mod stdio;
pub mod sys;
#[cfg(feature = "testing")]
pub mod testing;

pub use engine::{
    Engine,
    error::EngineError,
    exit::ExitStatus,
    instance::{GuestContext, Instance, SignalResponse},
    signal::Signal,
    spec::InstanceSpec,
};
pub use id::Id;
