//! The daemon's settings, with their flags, defaults and checks. Keys of the file and environment
//! variables become flags, so that each check and each default stands once.

use std::{
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args};
use runwasi_core::{
    logging::LogFormat,
    native::setting::{DEFAULT, NativeRuntime},
    settings::{
        OFF, RawSettings, SettingsError, Within, absolute_path, directory_or_off, in_force, to_toml,
    },
};
use serde::{Serialize, Serializer};
use tracing::level_filters::LevelFilter;

use super::socket::socket;
use crate::{limits, metrics::address::Address};

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// The daemon's settings. Paths are absolute, UTF-8, and without `..`.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Settings {
    /// Manager socket; its directory is the daemon's own. Thin shims know the variable only.
    // Its default is that of the identity.
    #[arg(long, value_name = "PATH", value_parser = socket, required = false)]
    pub socket: PathBuf,
    /// Directory that bundles must lie below; may be repeated.
    #[arg(long = "bundle-root", value_name = "DIR", value_parser = absolute_path)]
    #[arg(default_value = "/run")]
    pub bundle_roots: Vec<PathBuf>,
    /// Time that guests have to end when the daemon leaves, 0 to 3600.
    #[arg(long, value_name = "SECONDS", default_value = "30")]
    #[arg(value_parser = |word: &str| Within::<0, 3600>::parse(word, " (seconds)"))]
    pub grace: u32,
    /// Guests that there is room for, 1 to 100000; by default as many as the system's limits allow.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = |word: &str| Within::<1, 100_000>::parse(word, ""))]
    pub slots: Option<u32>,
    /// Directory of compiled code, or `off`.
    #[arg(long = "cache-dir", value_name = "DIR", value_parser = cache)]
    #[arg(default_value = "/var/cache/runwasi")]
    pub cache: PathBuf,
    /// Size of compiled code, 1 to 1048576; the longest unused goes first.
    #[arg(long, value_name = "MIB", default_value = "1024")]
    #[arg(value_parser = |word: &str| Within::<1, 1_048_576>::parse(word, " (MiB)"))]
    pub cache_size: u32,
    /// Program that runs native containers: its path, its name on PATH, or `off`.
    #[arg(long, value_name = "PROGRAM", value_parser = NativeRuntime::parse)]
    #[arg(default_value = DEFAULT)]
    pub native_runtime: NativeRuntime,
    /// Messages that are logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", value_parser = log_level, default_value = "info")]
    #[serde(serialize_with = "show")]
    pub log_level: LevelFilter,
    /// Form of the log: text (to the journal with fields, if stderr is the journal) or json.
    #[arg(long, value_name = "FORMAT", value_parser = LogFormat::parse, default_value = "text")]
    pub log_format: LogFormat,
    /// Where metrics are served: `IP:PORT` of the loopback device, the path of a socket, or `off`.
    #[arg(long, value_name = "ADDRESS", value_parser = Address::parse, default_value = OFF)]
    pub metrics_address: Address,
    /// Allow an address of metrics that other machines may reach: true or false.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, default_value = "false")]
    #[arg(value_parser = boolean)]
    pub metrics_beyond_loopback: bool,
    /// The file's table `[engine]`; the engine knows its keys.
    #[arg(skip)]
    #[serde(skip)]
    pub engine: RawSettings,
}

/// Flags of one start, which are no keys of a file.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct StartFlags {
    /// Write "ready" to this open descriptor (3 or more) and close it, when serving.
    #[arg(long, value_name = "N", value_parser = open_fd)]
    pub ready_fd: Option<i32>,
    /// Take this open descriptor (3 or more) as the manager socket, listening.
    #[arg(long, value_name = "N", value_parser = open_fd)]
    pub listen_fd: Option<i32>,
    /// Leave a small parent process, for systemd.
    #[arg(long)]
    pub guard: bool,
    /// Report to the guard by this open descriptor (3 or more); guards add this flag.
    #[arg(long, value_name = "N", value_parser = open_fd)]
    pub guard_fd: Option<i32>,
    /// The flags that a guard passes on to the daemons it starts.
    #[arg(skip)]
    pub of_hosts: Vec<OsString>,
}

impl Settings {
    /// Where compiled code is kept, if at all.
    pub fn cache(&self) -> Option<&Path> {
        Some(&*self.cache).filter(|path| path.as_os_str() != OFF)
    }

    /// The number of slots in force.
    pub fn slots_in_force(&self) -> u32 {
        self.slots.unwrap_or_else(limits::slots)
    }

    /// Checks `metrics-address`, which depends on other settings.
    pub(super) fn check_metrics_address(&self) -> Result<(), String> {
        match &self.metrics_address {
            Address::Ip(address) if !is_local(*address) && !self.metrics_beyond_loopback => {
                Err(format!(
                    "{address} may be reached by other machines, which read the metrics without a \
                     password; if that is wanted, set metrics-beyond-loopback = true"
                ))
            }
            Address::Unix(path) if *path == self.socket => {
                Err(format!("{path:?} is the manager socket"))
            }
            _ => Ok(()),
        }
    }

    /// A file with the values in force, without the table of the engine.
    pub fn to_toml(&self) -> Result<String, SettingsError> {
        let values = in_force(&Self { slots: Some(self.slots_in_force()), ..self.clone() })?;
        Ok(to_toml(values, |key| match key {
            "slots" if self.slots.is_none() => ("# ", " # by RLIMIT_NOFILE and vm.max_map_count"),
            "grace" => ("", " # seconds"),
            "cache-size" => ("", " # MiB"),
            _ => ("", ""),
        }))
    }
}

fn is_local(address: SocketAddr) -> bool {
    // An IPv4 address may be written as one of IPv6.
    address.ip().to_canonical().is_loopback()
}

fn boolean(word: &str) -> Result<bool, String> {
    word.parse().map_err(|_| format!("{word:?} is neither true nor false"))
}

fn cache(word: &str) -> Result<PathBuf, String> {
    Ok(directory_or_off(word)?.unwrap_or_else(|| OFF.into()))
}

fn log_level(word: &str) -> Result<LevelFilter, String> {
    let level = word.parse().ok().filter(|_| LEVELS.contains(&word));
    level.ok_or_else(|| format!("{word:?} is none of {}", LEVELS.join(", ")))
}

fn show<S: Serializer>(level: &LevelFilter, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(level)
}

/// A descriptor that is open now, before any is opened here: a wrong number could later be that of
/// a connection, and `ready` would go to a stranger. A standard stream must not be closed.
fn open_fd(word: &str) -> Result<i32, String> {
    let fd = Within::<0, { i32::MAX.unsigned_abs() }>::parse(word, "")?.cast_signed();
    if fd < 3 {
        return Err(format!("{fd} is a standard stream; 3 or more is needed"));
    }
    let open = Path::new("/proc/self/fd").join(fd.to_string()).symlink_metadata();
    open.map(|_| fd).map_err(|_| format!("{fd} is not open"))
}
