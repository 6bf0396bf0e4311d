//! Names of the node daemon with wasmtime, for its two programs (feature `wasmtime`).
//!
//! The engine itself is in the daemon's program. Here it would come into the thin shim's program
//! too, with half a megabyte of exception tables that the linker cannot drop.

use runwasi_wasmtime::ABOUT;

use crate::identity::Identity;

/// Names of `containerd-wasmtimed` and its shim `containerd-shim-wasmtimed-v1`.
pub const IDENTITY: Identity = Identity {
    program: "containerd-wasmtimed",
    runtime: "io.containerd.wasmtimed.v1",
    version: ABOUT.version,
    engine: ABOUT.engine,
    state_directory: "/run/io.containerd.wasmtime.v1",
    config_file: "/etc/containerd-wasmtimed.toml",
    environment_prefix: "CONTAINERD_WASMTIMED",
};
