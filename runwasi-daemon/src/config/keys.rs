//! The keys of the settings, their names in each source, and their defaults.

use std::time::Duration;

/// Where the manager API is, if nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/io.containerd.wasmtime.v1/manager.sock";

/// The file that is read if none is named. It need not be there.
pub const DEFAULT_FILE: &str = "/etc/containerd-wasmtimed.toml";

/// Where bundles may lie: containerd's state directory is below it.
pub const DEFAULT_BUNDLE_ROOT: &str = "/run";

/// How long guests have to end when the daemon leaves.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Where compiled code is kept; the per-pod shims' directory, so that both modes share it.
pub const DEFAULT_CACHE: &str = "/var/cache/runwasi";

/// How much compiled code is kept, in MiB.
pub const DEFAULT_CACHE_SIZE: u32 = 1024;

/// Names the file.
pub const CONFIG_VARIABLE: &str = "CONTAINERD_WASMTIMED_CONFIG";

/// Names the manager socket, for the daemon and for the thin shim.
pub const SOCKET_VARIABLE: &str = "CONTAINERD_WASMTIMED_SOCKET";

/// Names the directories below which bundles may lie, with colons between.
pub const BUNDLE_ROOTS_VARIABLE: &str = "CONTAINERD_WASMTIMED_BUNDLE_ROOTS";

/// The grace in seconds.
pub const GRACE_VARIABLE: &str = "CONTAINERD_WASMTIMED_GRACE";

/// How many guests the engine has room for.
pub const SLOTS_VARIABLE: &str = "CONTAINERD_WASMTIMED_SLOTS";

/// The directory of compiled code, or `off`.
pub const CACHE_VARIABLE: &str = "CONTAINERD_WASMTIMED_CACHE";

/// How much compiled code is kept, in MiB.
pub const CACHE_SIZE_VARIABLE: &str = "CONTAINERD_WASMTIMED_CACHE_SIZE";

/// What is logged.
pub const LOG_LEVEL_VARIABLE: &str = "CONTAINERD_WASMTIMED_LOG_LEVEL";

/// The largest file that is read.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// The table of the file whose keys the engine knows.
pub(super) const ENGINE: &str = "engine";

/// A setting that flags, environment and file have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Socket,
    BundleRoots,
    Grace,
    Slots,
    Cache,
    CacheSize,
    LogLevel,
}

impl Key {
    pub(super) const ALL: [Self; 7] = [
        Self::Socket,
        Self::BundleRoots,
        Self::Grace,
        Self::Slots,
        Self::Cache,
        Self::CacheSize,
        Self::LogLevel,
    ];

    /// Its name in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::BundleRoots => "bundle-roots",
            Self::Grace => "grace",
            Self::Slots => "slots",
            Self::Cache => "cache",
            Self::CacheSize => "cache-size",
            Self::LogLevel => "log-level",
        }
    }

    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Socket => "--socket",
            Self::BundleRoots => "--bundle-root",
            Self::Grace => "--grace",
            Self::Slots => "--slots",
            Self::Cache => "--cache-dir",
            Self::CacheSize => "--cache-size",
            Self::LogLevel => "--log-level",
        }
    }

    pub(super) fn variable(self) -> &'static str {
        match self {
            Self::Socket => SOCKET_VARIABLE,
            Self::BundleRoots => BUNDLE_ROOTS_VARIABLE,
            Self::Grace => GRACE_VARIABLE,
            Self::Slots => SLOTS_VARIABLE,
            Self::Cache => CACHE_VARIABLE,
            Self::CacheSize => CACHE_SIZE_VARIABLE,
            Self::LogLevel => LOG_LEVEL_VARIABLE,
        }
    }

    /// The names of all, as an error lists them.
    pub(super) fn list() -> String {
        Self::ALL.map(Self::name).join(", ") + ", and the table " + ENGINE
    }
}
