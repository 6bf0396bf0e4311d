//! The settings of `containerd-wasmtimed`: command line, environment and a TOML file become one [`Command`], or an
//! error that names where the wrong value stands. Called by the daemon's `main` before it opens anything; the thin shim
//! asks only for [`client_socket`].
//!
//! | flag | key of the file | environment variable | unit | default |
//! |---|---|---|---|---|
//! | `--config FILE` | | `CONTAINERD_WASMTIMED_CONFIG` | path | `/etc/containerd-wasmtimed.toml`, if it is there |
//! | `--socket PATH` | `socket` | `CONTAINERD_WASMTIMED_SOCKET` | absolute path | [`Identity::socket`] |
//! | `--bundle-root DIR` ... | `bundle-roots`, array | `CONTAINERD_WASMTIMED_BUNDLE_ROOTS`, `:` between | absolute paths | [`DEFAULT_BUNDLE_ROOT`] |
//! | `--grace SECONDS` | `grace`, integer | `CONTAINERD_WASMTIMED_GRACE` | seconds, 0 to 3600 | [`DEFAULT_GRACE`] |
//! | `--slots N` | `slots`, integer | `CONTAINERD_WASMTIMED_SLOTS` | guests, 1 to 100000 | by the system's limits |
//! | `--cache-dir DIR\|off` | `cache` | `CONTAINERD_WASMTIMED_CACHE` | absolute path or `off` | [`DEFAULT_CACHE`] |
//! | `--cache-size MIB` | `cache-size`, integer | `CONTAINERD_WASMTIMED_CACHE_SIZE` | MiB, 1 to 1048576 | [`DEFAULT_CACHE_SIZE`] |
//! | | `[engine]`, table | | what the engine knows | the engine's |
//! | `--log-level L` | `log-level` | `CONTAINERD_WASMTIMED_LOG_LEVEL` | error, warn, info, debug, trace | info |
//! | `--ready-fd N` | | | open fd, 3 or more | none |
//! | `--listen-fd N` | | | open fd, 3 or more | none |
//! | `--guard` | | | | off |
//! | `--guard-fd N` | | | open fd, 3 or more | none |
//!
//! A flag wins over the environment, the environment over the file, the file over the default; a list replaces a list,
//! nothing is merged. What is overridden must be right, too: a wrong line of the file would otherwise wait for the day
//! when somebody takes a flag away. An empty variable is an empty value, and wrong.
//!
//! ```text
//! arguments ─▶ Line ──┐
//! environment ─▶ Layer ┼─▶ merged, over the defaults ─▶ Settings
//! file ─▶ Layer ──────┘
//! ```

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use runwasi_core::settings::{RawSettings, SettingsError};

use arguments::{Asked, Line};
use file::Named;
use keys::Key;
use layer::Layer;

use crate::identity::Identity;

mod arguments;
mod error;
mod file;
mod keys;
mod layer;
mod settings;

pub use arguments::{Targets, help};
pub use error::ConfigError;
pub use keys::{DEFAULT_BUNDLE_ROOT, DEFAULT_CACHE, DEFAULT_CACHE_SIZE, DEFAULT_GRACE};
pub use settings::Settings;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Serve with these settings.
    Serve(Settings),
    /// Print the sandboxes of the daemon at this manager socket.
    List {
        /// Its path, absolute.
        socket: PathBuf,
    },
    /// Have the daemon at this manager socket replaced by one with the settings of now.
    Reload {
        /// Its path, absolute.
        socket: PathBuf,
    },
    /// Compile into the cache of these settings.
    Precompile(Settings, Targets),
    /// Print the settings: TOML that [`read`] makes the same settings of.
    PrintConfig(String),
    /// Print the version.
    Version,
    /// Print [`help`].
    Help,
}

/// What an engine makes of the table `[engine]`: the whole table, with every key, or what is wrong with it.
pub type EngineTable<'a> = &'a dyn Fn(&RawSettings) -> Result<String, SettingsError>;

/// Reads all sources. `arguments` come without the program's name.
pub fn read(
    identity: &Identity,
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
    engine: EngineTable<'_>,
) -> Result<Command, ConfigError> {
    let default_file = Path::new(identity.config_file);
    read_from(identity, arguments.into_iter().collect(), &environment, default_file, engine)
}

/// The manager socket as clients find it, who read no file: the variable's, else the default.
pub fn client_socket(
    identity: &Identity,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<PathBuf, ConfigError> {
    let mut layer = Layer::default();
    layer.set_variable(identity, Key::Socket, &environment)?;
    Ok(Settings::of(identity, layer).socket)
}

fn read_from(
    identity: &Identity,
    arguments: Vec<OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    default_file: &Path,
    engine: EngineTable<'_>,
) -> Result<Command, ConfigError> {
    let line = match arguments::parse(arguments)? {
        Asked::Version => return Ok(Command::Version),
        Asked::Help => return Ok(Command::Help),
        Asked::Settings(line) => *line,
    };
    // A file that somebody is just editing must not keep others from asking a daemon they can name.
    if let (true, Some(socket)) = (line.list, &line.layer.socket) {
        return Ok(Command::List { socket: socket.clone() });
    }
    let variables = Layer::from_environment(identity, environment)?;
    let config_variable = keys::variable(identity, keys::CONFIG);
    let file = match (&line.config, environment(config_variable)) {
        (Some(path), _) => file::load(Named { path, by: "--config" })?,
        (None, Some(path)) => file::load(Named { path: &path, by: config_variable })?,
        (None, None) => {
            file::load_if_there(Named { path: default_file.as_os_str(), by: "default" })?
        }
    };
    let table = engine(file.engine.as_ref().unwrap_or(&RawSettings::default()))?;
    Ok(command(identity, line, variables, file, &table))
}

fn command(
    identity: &Identity,
    line: Line,
    variables: Layer,
    file: Layer,
    engine: &str,
) -> Command {
    let merged = line.layer.or(variables).or(file);
    let settings = Settings {
        ready_fd: line.ready_fd,
        guard: line.guard.then_some(line.of_hosts),
        guard_fd: line.guard_fd,
        listen_fd: line.listen_fd,
        ..Settings::of(identity, merged)
    };
    if line.reload {
        Command::Reload { socket: settings.socket }
    } else if line.list {
        Command::List { socket: settings.socket }
    } else if line.print {
        Command::PrintConfig(format!("{}\n{engine}", settings.to_toml()))
    } else if let Some(targets) = line.precompile {
        Command::Precompile(settings, targets)
    } else {
        Command::Serve(settings)
    }
}

#[cfg(test)]
mod tests;
