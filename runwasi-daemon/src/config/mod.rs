//! The settings of `containerd-wasmtimed`: command line, environment and a TOML file become one
//! [`Command`], or an error that names the place of the wrong value. Nothing is opened before.
//!
//! A flag wins over the environment, the environment over the file, the file over the default; a
//! list replaces a list. Overridden values are checked, too: a wrong line of the file would otherwise
//! wait for the day when the flag is taken away. An empty variable is an empty value, and wrong.

use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use clap::error::ErrorKind as Parsed;
use runwasi_core::{
    settings::{RawSettings, SettingsError},
    sys,
};
use serde::{Deserialize, Serialize};

use arguments::{Arguments, KEYS, Word};

mod arguments;
mod settings;

pub use arguments::Targets;
pub use settings::{DEFAULT_SOCKET, Settings};

/// The file that is read if no other one is named. It may be missing.
const DEFAULT_FILE: &str = "/etc/containerd-wasmtimed.toml";

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

const CONFIG_VARIABLE: &str = "CONTAINERD_WASMTIMED_CONFIG";

/// The meaning of a command line.
#[derive(Clone, Debug, PartialEq)]
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
    /// Print this file, which [`read`] makes the same settings of.
    PrintConfig(String),
    /// Print the version.
    Version,
    /// Print this help.
    Help(String),
}

/// Checks the table `[engine]` of settings, and returns it with the values in force.
pub type EngineTable<'a> = &'a dyn Fn(&Settings) -> Result<String, SettingsError>;

/// An environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Reads all sources. `arguments` come without the program's name.
pub fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment<'_>,
    engine: EngineTable<'_>,
) -> Result<Command, SettingsError> {
    read_from(
        &arguments.into_iter().collect::<Vec<_>>(),
        environment,
        Path::new(DEFAULT_FILE),
        engine,
    )
}

/// The manager socket for clients, which read no file: that of the variable, else the default.
pub fn client_socket(environment: Environment<'_>) -> Result<PathBuf, SettingsError> {
    let Some((name, socket)) = variable("socket", environment)? else {
        return Ok(DEFAULT_SOCKET.into());
    };
    settings::socket(&socket).map_err(|reason| SettingsError::new(name, reason))
}

/// The keys of the file, by the types of their values. What the values may be, their flags check.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    socket: Option<String>,
    bundle_roots: Option<Vec<String>>,
    grace: Option<i64>,
    slots: Option<i64>,
    cache: Option<String>,
    cache_size: Option<i64>,
    log_level: Option<String>,
}

fn read_from(
    arguments: &[OsString],
    environment: Environment<'_>,
    default_file: &Path,
    engine: EngineTable<'_>,
) -> Result<Command, SettingsError> {
    let line = match Arguments::parse(arguments) {
        Err(error) if error.kind() == Parsed::DisplayVersion => return Ok(Command::Version),
        Err(error) if error.kind() == Parsed::DisplayHelp => {
            return Ok(Command::Help(error.to_string()));
        }
        parsed => parsed.map_err(|error| arguments::refusal(&error, arguments))?,
    };
    line.check()?;
    // A file that is just being edited must not keep others from asking a daemon they can name.
    if line.command_word() == Some("list") && line.sets("--socket") {
        return Ok(Command::List { socket: line.settings.socket });
    }
    let variables = variables(environment)?;
    let mut file = file(line.config.clone(), environment, default_file)?;
    let engine_table = file.entries.extract_if(.., |entry| entry.key.starts_with("engine."));
    let raw_engine = RawSettings { entries: engine_table.collect() };
    let settings = line.over(arguments, [variables, words(&file)?])?;
    let settings = Settings { engine: raw_engine, ..settings };
    let table = engine(&settings)?;
    Ok(match line.command_word() {
        Some("list") => Command::List { socket: settings.socket },
        Some("reload") => Command::Reload { socket: settings.socket },
        Some(_) => Command::Precompile(settings, line.targets()),
        None if line.print_config => {
            Command::PrintConfig(format!("{}\n{table}", settings.to_toml()?))
        }
        None => Command::Serve(settings),
    })
}

/// The variable of a key, if it is set, and its text: settings go into messages to containerd.
fn variable(
    key: &str,
    environment: Environment<'_>,
) -> Result<Option<(String, String)>, SettingsError> {
    let name = format!("CONTAINERD_WASMTIMED_{}", key.to_uppercase().replace('-', "_"));
    match environment(&name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some((name, text))),
        Some(Err(value)) => Err(SettingsError::new(name, format_args!("{value:?} is not UTF-8"))),
    }
}

fn variables(environment: Environment<'_>) -> Result<Vec<Word>, SettingsError> {
    let mut words = Vec::new();
    for (key, flag) in KEYS {
        let Some((place, text)) = variable(key, environment)? else { continue };
        let texts = text.split(|character| key == "bundle-roots" && character == ':');
        words.extend(texts.map(|text| Word { place: place.clone(), flag, value: text.to_owned() }));
    }
    Ok(words)
}

/// The keys of the file as flags.
fn words(file: &RawSettings) -> Result<Vec<Word>, SettingsError> {
    file.read(&File::default()).map_err(|error| match error.reason.starts_with("unknown key") {
        true => SettingsError { reason: error.reason + ", and the table engine", ..error },
        false => error,
    })?;
    let words = file.entries.iter().flat_map(|entry| {
        let flag = KEYS.iter().find(|(key, _)| *key == entry.key).map_or("", |(_, flag)| flag);
        entry.texts().into_iter().map(move |(place, value)| Word { place, flag, value })
    });
    Ok(words.collect())
}

fn file(
    config: Option<OsString>,
    environment: Environment<'_>,
    default_file: &Path,
) -> Result<RawSettings, SettingsError> {
    let variable = environment(CONFIG_VARIABLE).map(|path| (path, CONFIG_VARIABLE));
    let named = config.map(|path| (path, "--config")).or(variable);
    let (path, named_by) = named.unwrap_or((default_file.into(), "default"));
    let name = Path::new(&path).display().to_string();
    if path.is_empty() {
        return Err(SettingsError::new(named_by, "is empty"));
    }
    match sys::read_regular(Path::new(&path), MAX_BYTES) {
        Ok(bytes) => RawSettings::parse(&name, &bytes, |table| table == "engine"),
        Err(error) if named_by == "default" && error.kind() == ErrorKind::NotFound => {
            Ok(RawSettings::default())
        }
        Err(error) if error.kind() == ErrorKind::FileTooLarge => {
            Err(SettingsError::new(name, format_args!("larger than {MAX_BYTES} bytes")))
        }
        Err(error) => Err(SettingsError::new(name, format_args!("{error} (named by {named_by})"))),
    }
}

#[cfg(test)]
mod tests;
