//! Names of a node daemon and its shim. All that two daemons on one node must not share.

use std::path::{Path, PathBuf};

use runwasi_core::{cli::About, metrics::exposition::Build};

/// Identity of a node daemon and its thin shim, given by the integrator. Both programs must be
/// built with the same value: the shim finds the daemon by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the daemon's program and of its systemd unit, for messages.
    pub program: &'static str,
    /// Runtime name of the thin shim, as users write it: `io.containerd.NAME.v1`. containerd
    /// derives the name of the shim's program from it: `containerd-shim-NAME-v1`.
    pub runtime: &'static str,
    /// Version of both programs.
    pub version: &'static str,
    /// The engine and its version.
    pub engine: &'static str,
    /// Names of the annotations `io.runwasi.*` that the engine reads.
    pub annotations: &'static [&'static str],
    /// State directory, absolute. The default manager socket is `manager.sock` in it.
    pub state_directory: &'static str,
    /// Settings file that is read if no other is named, absolute. It may be missing.
    pub config_file: &'static str,
    /// Prefix of the environment variables, without the underscore: `PREFIX_SOCKET`.
    pub environment_prefix: &'static str,
}

impl Identity {
    /// Identity of the thin shim, for `-v` and `-info`.
    pub const fn about(&self) -> About {
        About {
            runtime: self.runtime,
            version: self.version,
            engine: self.engine,
            annotations: self.annotations,
        }
    }

    /// Names of the daemon, for its metrics.
    pub(crate) fn build(&self) -> Build {
        Build { program: self.program, version: self.version, engine: self.engine }
    }

    /// The manager socket, unless the settings name another.
    pub fn socket(&self) -> PathBuf {
        Path::new(self.state_directory).join("manager.sock")
    }

    /// Environment variable of a setting.
    pub(crate) fn variable(&self, key: &str) -> String {
        format!("{}_{}", self.environment_prefix, key.to_uppercase().replace('-', "_"))
    }
}

/// Names of the daemon `containerd-wasmtimed`, without an engine.
#[cfg(test)]
pub(crate) const TEST: Identity = Identity {
    program: "containerd-wasmtimed",
    runtime: "io.containerd.wasmtimed.v1",
    version: "0",
    engine: "test",
    annotations: &[],
    state_directory: "/run/io.containerd.wasmtime.v1",
    config_file: "/etc/containerd-wasmtimed.toml",
    environment_prefix: "CONTAINERD_WASMTIMED",
};
