//! Identity of the native node daemon and its thin shim.

use runwasi_daemon::Identity;

/// Names that no other daemon of the node has.
pub(crate) const IDENTITY: Identity = Identity {
    program: "engine-native-daemon",
    runtime: "io.containerd.natived.v1",
    version: env!("CARGO_PKG_VERSION"),
    engine: "native",
    annotations: &[],
    state_directory: "/run/io.containerd.natived.v1",
    config_file: "/etc/containerd-natived.toml",
    environment_prefix: "CONTAINERD_NATIVED",
};
