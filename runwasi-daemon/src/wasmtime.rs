//! Names of the node daemon with wasmtime, for its two programs (feature `wasmtime`).
//!
//! The engine itself is in the daemon's program. This library must not name a type or constant of
//! its crate: the thin shim's program would then be linked with wasmtime, whose exported functions
//! and exception tables (0.86 MB) the linker cannot drop.

use crate::identity::Identity;

/// Names of `containerd-wasmtimed` and its shim `containerd-shim-wasmtimed-v1`.
pub const IDENTITY: Identity = Identity {
    program: "containerd-wasmtimed",
    runtime: "io.containerd.wasmtimed.v1",
    version: env!("CARGO_PKG_VERSION"),
    engine: "wasmtime 48",
    annotations: &[
        "io.runwasi.config.",
        "io.runwasi.http.address",
        "io.runwasi.http.concurrent-reuse",
        "io.runwasi.http.header-timeout",
        "io.runwasi.http.idle-timeout",
        "io.runwasi.http.max-connections",
        "io.runwasi.http.max-requests",
        "io.runwasi.http.max-reuse",
        "io.runwasi.http.queue-timeout",
        "io.runwasi.http.request-timeout",
        "io.runwasi.network.outbound",
    ],
    state_directory: "/run/io.containerd.wasmtime.v1",
    config_file: "/etc/containerd-wasmtimed.toml",
    environment_prefix: "CONTAINERD_WASMTIMED",
};

#[cfg(test)]
mod tests {
    use runwasi_wasmtime::ABOUT;

    use super::*;

    #[test]
    fn daemon_and_shim_per_pod_tell_the_same() {
        assert_eq!((IDENTITY.version, IDENTITY.engine), (ABOUT.version, ABOUT.engine));
        assert_eq!(IDENTITY.annotations, ABOUT.annotations);
    }
}
