//! The interpreter wasmi as an engine of containers: the library of the shim `containerd-shim-wasmi-v1`
//! and of the node daemon `containerd-wasmid` with its thin shim `containerd-shim-wasmid-v1`.

mod engine;
mod wasi;

use runwasi_daemon::Identity;

pub use self::engine::Wasmi;

/// Names of the daemon and its thin shim.
pub const IDENTITY: Identity = Identity {
    program: "containerd-wasmid",
    runtime: "io.containerd.wasmid.v1",
    version: env!("CARGO_PKG_VERSION"),
    engine: "wasmi",
    annotations: &[],
    state_directory: "/run/io.containerd.wasmid.v1",
    config_file: "/etc/containerd-wasmid.toml",
    environment_prefix: "CONTAINERD_WASMID",
};
