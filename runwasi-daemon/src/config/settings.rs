//! The daemon's settings, with their flags, defaults and checks. Keys of the file and environment
//! variables become flags, so that each check and each default stands once.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args};
use runwasi_core::{
    bootstrap::socket::MAX_PATH,
    logging::LogFormat,
    native::setting::{DEFAULT, NativeRuntime},
    settings::{
        OFF, RawSettings, SettingsError, Within, absolute_path, directory_or_off, in_force, to_toml,
    },
};
use serde::{Serialize, Serializer};
use tracing::level_filters::LevelFilter;

use crate::{limits, metrics::address::Address};

/// The longest name below the socket's directory, with the kernel's largest pid (`PID_MAX_LIMIT`).
const LONGEST_PRIVATE_SOCKET: &str = "daemons/4194304.sock";

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

/// The path of a socket, short enough to bind every socket beside it.
pub(super) fn socket(word: &str) -> Result<PathBuf, String> {
    let path = absolute_path(word)?;
    let (Some(directory), Some(name), false) =
        (path.parent(), path.file_name(), word.ends_with('/'))
    else {
        return Err(format!("{word:?} names a directory, not a socket"));
    };
    if directory == Path::new("/") {
        let why = "its directory becomes the daemon's own";
        return Err(format!("{word:?} is in the root directory; {why}"));
    }
    if name == "daemons" || name == "sandboxes" {
        return Err(format!("{word:?} has the name of one of the daemon's directories"));
    }
    let private = directory.join(LONGEST_PRIVATE_SOCKET);
    for path in [&path, &private] {
        let length = path.as_os_str().len();
        if length > MAX_PATH {
            let most = format!("with {length} bytes, at most {MAX_PATH} are possible");
            return Err(format!("a socket would be {path:?} {most}"));
        }
    }
    Ok(path)
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
