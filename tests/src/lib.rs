//! The fixture: private containerds, a `ctr` with a deadline on every call, and `/proc` to see what is left.
//! Called by the end-to-end tests in `tests/tests/` and by the benches.
//!
//! In the order a test uses them:
//! - [`runtime`]: which shim, image and guest program a case runs with.
//! - [`containerd`]: one private containerd in a directory of its own, cleaned up and checked for leftovers on drop.
//! - [`builder`]: what is unusual about it.
//! - [`config`]: that containerd's configuration file.
//! - [`command`]: a child process with captured output and a deadline; `ctr` calls are these.
//! - [`running`]: such a process while it runs.
//! - [`containers`]: what a test does with the containers of one runtime, in `ctr` calls.
//! - [`log`]: the lines that shims and daemons write.
//! - [`ask`]: commands that ask the daemons of a fixture.
//! - [`daemon`]: a private node daemon, for the runtime that needs one.
//! - [`collector`]: a collector of traces.
//! - [`events`]: what `ctr events` prints.
//! - [`exposition`]: the metrics of a daemon.
//! - [`http`]: a request to a server in a container.
//! - [`shim_driver`]: a shim driven by its command line and socket alone, for what `ctr` cannot ask for.
//! - [`shim`]: that socket.
//! - [`sink`]: the event service such a shim reports to.
//! - [`bundle`]: the bundle directories such a shim is given.
//! - [`hooks`]: such bundles with hooks.
//! - [`disk`]: file systems in a file.
//! - [`hostile`]: hostile guests, and the neighbours that judge them.
//! - [`code`]: containers whose compiled code is kept in a directory of their own.
//! - [`network`]: network namespaces and their links; a host of a test's own.
//! - [`connection`]: a connection to one, in whatever network.
//! - [`cni`]: a bridge of a fixture's own, for containers' networks.
//! - [`version`]: which containerd a fixture has.
//! - [`records`]: what only containerd's gRPC API can say about a container.
//! - [`sandboxes`]: containerd's services for sandboxes.
//! - [`registry`]: where images are pulled from.
//! - [`cri`]: the gRPC calls of Kubernetes' CRI.
//! - [`pods`]: a containerd with its CRI, and what a test does with its pods.
//! - [`docker`]: a Docker Engine above a containerd, and what a test does with its containers.
//! - [`proc`]: the OS processes, threads, mounts and sockets of a fixture.
//! - [`machine`]: who may run beside whom, and figures that noise makes worse.
//! - [`suite!`], [`played!`]: one list of cases, instantiated for several runtimes.
//! - [`traces`]: what a fixture may leave on the machine, and its removal.
//! - [`restrictions`]: those of a unit file or an older kernel, for a daemon or a containerd.
//! - [`assertions`]: what an error must say.
//! - [`ticks`]: the output of a guest that goes on.
//! - [`meter`]: CPU figures of a container, with the time they were read.
//! - [`poll`]: wait for a condition, with a deadline.
//!
//! Everything here needs root and a containerd; where one is missing the error says so, nothing is skipped.

pub mod ask;
pub mod assertions;
pub mod builder;
pub mod bundle;
pub mod cni;
pub mod code;
pub mod collector;
pub mod command;
pub mod config;
pub mod connection;
pub mod console;
pub mod containerd;
pub mod containers;
pub mod cri;
pub mod daemon;
pub mod disk;
pub mod docker;
pub mod events;
pub mod exposition;
mod grpc;
pub mod hooks;
pub mod hostile;
pub mod http;
pub mod log;
pub mod machine;
pub mod meter;
pub mod network;
pub mod paths_component;
pub mod pods;
pub mod poll;
pub mod proc;
pub mod records;
pub mod registry;
pub mod restrictions;
pub mod running;
pub mod runtime;
pub mod sandboxes;
pub mod server;
pub mod shim;
pub mod shim_driver;
pub mod sink;
mod suite;
pub mod ticks;
pub mod traces;
pub mod usage;
pub mod version;

pub use assertions::says;
pub use builder::Builder;
pub use command::{Command, Output};
pub use console::Console;
pub use containerd::Containerd;
pub use containers::{Containers, check, check_alone, check_alone_with, check_with};
pub use daemon::Daemon;
pub use docker::{Docker, check_docker, check_docker_26};
pub use machine::best_of;
pub use meter::Meter;
pub use network::on_own_host;
pub use pods::{
    Pod, Pods, Setup, check_managed_pods, check_pods, check_pods_on_1_7, check_pods_on_2,
    check_pods_with,
};
pub use poll::poll_until;
pub use registry::Registry;
pub use restrictions::Restrictions;
pub use running::Running;
pub use runtime::{Image, Runtime};
pub use shim_driver::ShimDriver;
pub use suite::{run_case, run_case_with};
pub use ticks::Ticks;
pub use version::{Version, check_on_1_7, check_on_2};
