//! The keys of the settings, their names in each source, and their defaults.

use std::time::Duration;

use crate::identity::Identity;

/// Where bundles may lie: containerd's state directory is below it.
pub const DEFAULT_BUNDLE_ROOT: &str = "/run";

/// How long guests have to end when the daemon leaves.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Where compiled code is kept; the per-pod shims' directory, so that both modes share it.
pub const DEFAULT_CACHE: &str = "/var/cache/runwasi";

/// How much compiled code is kept, in MiB.
pub const DEFAULT_CACHE_SIZE: u32 = 1024;

/// The key of the variable that names the file.
pub(super) const CONFIG: &str = "config";

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

    pub(super) fn variable(self, identity: &Identity) -> &'static str {
        variable(identity, self.name())
    }

    /// The names of all, as an error lists them.
    pub(super) fn list() -> String {
        Self::ALL.map(Self::name).join(", ") + ", and the table " + ENGINE
    }
}

/// The environment variable of a key.
// Leaked: it is named in errors like a flag, and read once, at the start of a process.
pub(super) fn variable(identity: &Identity, key: &str) -> &'static str {
    identity.variable(key).leak()
}
