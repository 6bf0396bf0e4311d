//! The settings of a node daemon: command line, environment and a TOML file become one
//! [`Command`], or an error that names the place of the wrong value. Nothing is opened before.
//!
//! A flag wins over the environment, the environment over the file, the file over the default; a
//! list replaces a list. Overridden values are checked, too: a wrong line of the file would otherwise
//! wait for the day when the flag is taken away. An empty variable is an empty value, and wrong.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use clap::error::ErrorKind as Parsed;
use runwasi_core::{
    regular_file::{ReadError, read_regular},
    settings::{RawSettings, SettingsError},
};

use arguments::{Arguments, KEYS, Word};
use socket::{Environment, variable};

use crate::identity::Identity;

mod arguments;
mod settings;
mod socket;

pub use arguments::Targets;
pub use settings::Settings;
pub use socket::client_socket;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The meaning of a command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Serve with these settings.
    Serve(Settings),
    /// Print the sandboxes of the daemon at this manager socket.
    List(PathBuf),
    /// Have the daemon at this manager socket replaced by one with the settings of now.
    Reload(PathBuf),
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

/// Reads all sources. `arguments` come without the program's name; the `default_file` may be missing.
pub fn read(
    identity: &Identity,
    arguments: &[OsString],
    environment: Environment<'_>,
    default_file: &Path,
    engine: EngineTable<'_>,
) -> Result<Command, SettingsError> {
    // Built once: each value of the environment and of the file is parsed by it, too.
    let mut parser = arguments::command(identity);
    let line = match Arguments::parse(&mut parser, arguments) {
        Err(error) if error.kind() == Parsed::DisplayVersion => return Ok(Command::Version),
        Err(error) if error.kind() == Parsed::DisplayHelp => {
            return Ok(Command::Help(error.to_string()));
        }
        parsed => parsed.map_err(|error| arguments::refusal(&error, arguments))?,
    };
    line.check()?;
    // A file that is just being edited must not keep others from asking a daemon they can name.
    if line.command_word() == Some("list") && line.sets("--socket") {
        return Ok(Command::List(line.settings.socket));
    }
    let variables = variables(identity, environment)?;
    let mut file = file(identity, line.config.clone(), environment, default_file)?;
    let engine_table = file.entries.extract_if(.., |entry| entry.key.starts_with("engine."));
    let raw_engine = RawSettings { entries: engine_table.collect() };
    let settings = line.over(&mut parser, arguments, [variables, words(&file)?])?;
    let settings = Settings { engine: raw_engine, ..settings };
    settings.check()?;
    let table = engine(&settings)?;
    Ok(match line.command_word() {
        Some("list") => Command::List(settings.socket),
        Some("reload") => Command::Reload(settings.socket),
        Some(_) => Command::Precompile(settings, line.targets()),
        None if line.print_config => {
            Command::PrintConfig(format!("{}\n{table}", settings.to_toml()?))
        }
        None => Command::Serve(settings),
    })
}

fn variables(
    identity: &Identity,
    environment: Environment<'_>,
) -> Result<Vec<Word>, SettingsError> {
    let mut words = Vec::new();
    for (key, flag, _) in KEYS {
        let Some((place, text)) = variable(identity, key, environment)? else { continue };
        let texts = text.split(|character| key == "bundle-roots" && character == ':');
        words.extend(texts.map(|text| Word { place: place.clone(), flag, value: text.to_owned() }));
    }
    Ok(words)
}

/// The keys of the file as flags, which check the values.
fn words(file: &RawSettings) -> Result<Vec<Word>, SettingsError> {
    let mut words = Vec::new();
    for entry in &file.entries {
        let Some(&(_, flag, kind)) = KEYS.iter().find(|(key, ..)| *key == entry.key) else {
            let known = KEYS.map(|(key, ..)| key).join(", ");
            return Err(entry.unknown(&format!("{known}, and the table engine")));
        };
        let texts = entry.texts(kind)?;
        if texts.is_empty() {
            return Err(entry.error("is empty; at least one directory is needed"));
        }
        words.extend(texts.into_iter().map(|(place, value)| Word { place, flag, value }));
    }
    Ok(words)
}

fn file(
    identity: &Identity,
    config: Option<OsString>,
    environment: Environment<'_>,
    default_file: &Path,
) -> Result<RawSettings, SettingsError> {
    let name = identity.variable("config");
    let variable = environment(&name).map(|path| (path, name.as_str()));
    let named = config.map(|path| (path, "--config")).or(variable);
    let (path, named_by) = named.unwrap_or((default_file.into(), "default"));
    let name = Path::new(&path).display().to_string();
    if path.is_empty() {
        return Err(SettingsError::new(named_by, "is empty"));
    }
    let is_missing =
        |error: &io::Error| named_by == "default" && error.kind() == io::ErrorKind::NotFound;
    let reason = match read_regular(Path::new(&path), MAX_BYTES) {
        Ok(bytes) => return RawSettings::parse(&name, &bytes, |table| table == "engine"),
        Err(ReadError::Io(error)) if is_missing(&error) => return Ok(RawSettings::default()),
        Err(ReadError::Io(error)) => format!("{error} (named by {named_by})"),
        Err(ReadError::NotRegular) => format!("not a regular file (named by {named_by})"),
        Err(ReadError::TooLarge { limit }) => format!("larger than {limit} bytes"),
    };
    Err(SettingsError::new(name, reason))
}

#[cfg(test)]
mod tests;
