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
use subcommands::{
    Ask, AskFor, CacheCommand, Commands, ConfigCommand, DebugCommand, Generated, Targets,
};

use crate::identity::Identity;

mod arguments;
mod settings;
mod socket;
pub mod subcommands;

pub use settings::Settings;
pub use socket::client_socket;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The meaning of a command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Serve with these settings.
    Serve(Settings),
    /// Ask the daemons of the node.
    Ask(Ask),
    /// Compile into the cache of these settings.
    Precompile(Settings, Targets),
    /// See or clean the cache of these settings.
    Cache(Settings, CacheCommand),
    /// Print this file, which [`read`] makes the same settings of.
    PrintConfig(String),
    /// The settings are valid. Print this.
    Checked(String),
    /// Make a text of the definitions of the command line.
    Generate(Generated),
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
        parsed => parsed.map_err(|error| arguments::refusal(&error, &parser, arguments))?,
    };
    line.check(&parser)?;
    let config = line.config().map(|file| (file, "--config"));
    let sources = Sources { identity, environment, config, default_file };
    Ok(match line.command.clone() {
        None => {
            let settings = settings(&line, &mut parser, arguments, sources)?;
            let table = engine(&settings)?;
            if line.print_config {
                Command::PrintConfig(format!("{}\n{table}", settings.to_toml()?))
            } else {
                Command::Serve(settings)
            }
        }
        Some(Commands::Ask(AskFor::Reload)) => {
            let settings = settings(&line, &mut parser, arguments, sources)?;
            // The successor would refuse what is wrong here.
            engine(&settings)?;
            let patience = line.patience;
            Command::Ask(Ask { socket: settings.socket, patience, request: AskFor::Reload })
        }
        Some(Commands::Ask(request)) => {
            let socket = socket(&line, &mut parser, arguments, sources)?;
            Command::Ask(Ask { socket, patience: line.patience, request })
        }
        Some(Commands::Precompile(targets)) => {
            let settings = settings(&line, &mut parser, arguments, sources)?;
            engine(&settings)?;
            Command::Precompile(settings, targets)
        }
        Some(Commands::Cache(command)) => {
            Command::Cache(settings(&line, &mut parser, arguments, sources)?, command)
        }
        Some(Commands::Config(ConfigCommand::Check { file })) => {
            let config = file.map(|file| (file, "the argument FILE")).or(sources.config);
            let sources = Sources { config, ..sources };
            let shown = sources.shown();
            engine(&settings(&line, &mut parser, arguments, sources)?)?;
            Command::Checked(format!("{shown}: valid\n"))
        }
        Some(Commands::Debug(command)) => {
            debug(&line, command, &mut parser, (arguments, sources), engine)?
        }
        Some(Commands::Generate(text)) => Command::Generate(text),
    })
}

/// The sources of settings besides the command line.
#[derive(Clone)]
struct Sources<'a> {
    identity: &'a Identity,
    environment: Environment<'a>,
    /// The file that the command line names, and what names it.
    config: Option<(OsString, &'static str)>,
    default_file: &'a Path,
}

impl Sources<'_> {
    /// Name of the file, for a message.
    fn shown(&self) -> String {
        let variable = || (self.environment)(&self.identity.variable("config"));
        let config = self.config.clone().map(|(file, _)| file);
        match config.or_else(variable) {
            Some(file) => Path::new(&file).display().to_string(),
            None if self.default_file.exists() => self.default_file.display().to_string(),
            None => format!("{} (absent, so the defaults)", self.default_file.display()),
        }
    }
}

/// The settings of all sources.
fn settings(
    line: &Arguments,
    parser: &mut clap::Command,
    arguments: &[OsString],
    sources: Sources<'_>,
) -> Result<Settings, SettingsError> {
    let Sources { identity, environment, config, default_file } = sources;
    let variables = variables(identity, environment)?;
    let mut file = file(identity, config, environment, default_file)?;
    let engine_table = file.entries.extract_if(.., |entry| entry.key.starts_with("engine."));
    let raw_engine = RawSettings { entries: engine_table.collect() };
    let layers = [variables, words(&file)?];
    let settings = line.over(parser, arguments, &layers)?;
    let wrong = |reason| SettingsError::new(line.place("--metrics-address", &layers), reason);
    settings.check_metrics_address().map_err(wrong)?;
    Ok(Settings { engine: raw_engine, ..settings })
}

/// The socket for a request to daemons.
fn socket(
    line: &Arguments,
    parser: &mut clap::Command,
    arguments: &[OsString],
    sources: Sources<'_>,
) -> Result<PathBuf, SettingsError> {
    // A file that is just being edited must not keep others from asking a daemon they can name.
    if line.sets("--socket") {
        return Ok(line.over(parser, arguments, &[Vec::new(), Vec::new()])?.socket);
    }
    Ok(settings(line, parser, arguments, sources)?.socket)
}

/// The command `debug bundle`, which wrong settings do not keep from its work.
fn debug(
    line: &Arguments,
    DebugCommand::Bundle { output, log_lines }: DebugCommand,
    parser: &mut clap::Command,
    (arguments, sources): (&[OsString], Sources<'_>),
    engine: EngineTable<'_>,
) -> Result<Command, SettingsError> {
    let read = settings(line, parser, arguments, sources.clone());
    let printed = read.and_then(|settings| {
        let table = engine(&settings)?;
        Ok(format!("{}\n{table}", settings.to_toml()?))
    });
    let client = || client_socket(sources.identity, sources.environment);
    let socket = socket(line, parser, arguments, sources.clone()).or_else(|_| client())?;
    let settings = printed.map_err(|error| error.to_string());
    let request = AskFor::DebugBundle { output, log_lines, settings };
    Ok(Command::Ask(Ask { socket, patience: line.patience, request }))
}

/// The definitions of the command line, for man pages and completions.
pub fn definitions(identity: &Identity) -> clap::Command {
    arguments::command(identity)
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
    config: Option<(OsString, &str)>,
    environment: Environment<'_>,
    default_file: &Path,
) -> Result<RawSettings, SettingsError> {
    let name = identity.variable("config");
    let variable = environment(&name).map(|path| (path, name.as_str()));
    let (path, named_by) = config.or(variable).unwrap_or((default_file.into(), "default"));
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
