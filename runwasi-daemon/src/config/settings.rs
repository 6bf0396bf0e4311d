//! The settings as the daemon uses them, their defaults, and how they look as a file.

use std::{
    ffi::OsString,
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use runwasi_core::settings::{RawSettings, quoted};
use tracing::level_filters::LevelFilter;

use super::{
    keys::{DEFAULT_BUNDLE_ROOT, DEFAULT_CACHE, DEFAULT_CACHE_SIZE, DEFAULT_GRACE, Key},
    layer::{Layer, OFF},
};
use crate::identity::Identity;

/// How the daemon serves. Paths are absolute, UTF-8, and without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The manager socket; its directory is the state directory.
    pub socket: PathBuf,
    /// A bundle must lie below one of these; at least one.
    pub bundle_roots: Vec<PathBuf>,
    /// How long a leaving daemon waits for its guests, whole seconds.
    pub grace: Duration,
    /// How many guests the engine has room for; `None`: as many as RLIMIT_NOFILE and vm.max_map_count allow.
    pub slots: Option<u32>,
    /// Where compiled code is kept; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// How much of it, in MiB.
    pub cache_size: u32,
    /// The file's table `[engine]`, which the engine understands.
    pub engine: RawSettings,
    /// What is logged.
    pub log_level: LevelFilter,
    /// Where `ready\n` is written when the daemon serves; open when it was checked, and no standard stream.
    pub ready_fd: Option<i32>,
    /// A parent process stays as systemd's main process, and starts hosts with these arguments.
    pub guard: Option<Vec<OsString>>,
    /// Socket to that parent, where this is such a host; open when it was checked.
    pub guard_fd: Option<i32>,
    /// The manager socket, if it was opened by whoever has started this process.
    pub listen_fd: Option<i32>,
}

impl Settings {
    /// The defaults of this daemon.
    pub fn defaults(identity: &Identity) -> Self {
        Self {
            socket: identity.socket(),
            bundle_roots: vec![DEFAULT_BUNDLE_ROOT.into()],
            grace: DEFAULT_GRACE,
            slots: None,
            cache: Some(DEFAULT_CACHE.into()),
            cache_size: DEFAULT_CACHE_SIZE,
            engine: RawSettings::default(),
            log_level: LevelFilter::INFO,
            ready_fd: None,
            guard: None,
            guard_fd: None,
            listen_fd: None,
        }
    }
}

impl Settings {
    /// What the sources said, over the defaults.
    pub(super) fn of(identity: &Identity, layer: Layer) -> Self {
        let default = Self::defaults(identity);
        Self {
            socket: layer.socket.unwrap_or(default.socket),
            bundle_roots: layer.bundle_roots.unwrap_or(default.bundle_roots),
            grace: layer.grace.unwrap_or(default.grace),
            slots: layer.slots.or(default.slots),
            cache: layer.cache.unwrap_or(default.cache),
            cache_size: layer.cache_size.unwrap_or(default.cache_size),
            engine: layer.engine.unwrap_or_default(),
            log_level: layer.log_level.unwrap_or(default.log_level),
            ..default
        }
    }

    /// A file that says the same; what no key of the file can say (`--ready-fd`, `--guard`, …) is left out, and the table of the engine,
    /// which is added by who knows it.
    pub fn to_toml(&self) -> String {
        let roots: Vec<String> = self.bundle_roots.iter().map(|root| quoted_path(root)).collect();
        let cache = self.cache.as_deref().map_or_else(|| quoted(OFF), quoted_path);
        let slots = match self.slots {
            Some(slots) => entry(Key::Slots, slots),
            None => "# slots: as many as RLIMIT_NOFILE and vm.max_map_count allow\n".to_owned(),
        };
        [
            entry(Key::Socket, quoted_path(&self.socket)),
            entry(Key::BundleRoots, format_args!("[{}]", roots.join(", "))),
            entry(Key::Grace, format_args!("{} # seconds", self.grace.as_secs())),
            slots,
            entry(Key::Cache, cache),
            entry(Key::CacheSize, format_args!("{} # MiB", self.cache_size)),
            entry(Key::LogLevel, quoted(&self.log_level.to_string())),
        ]
        .concat()
    }
}

fn entry(key: Key, value: impl Display) -> String {
    format!("{} = {value}\n", key.name())
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}
