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

/// Name of the source of the default file.
const DEFAULT: &str = "default";

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
    let config = line.config().map(|file| (file, "--config".to_owned()));
    let sources = Sources { identity, environment, config, default_file };
    let command = line.command.clone();
    Reader { line, parser, arguments, sources, engine }.read(command)
}

/// The definitions of the command line, for man pages and completions.
pub fn definitions(identity: &Identity) -> clap::Command {
    arguments::command(identity)
}

/// A command line that is parsed, and the other sources of its settings.
struct Reader<'a> {
    line: Arguments,
    parser: clap::Command,
    /// The command line as it was given.
    arguments: &'a [OsString],
    sources: Sources<'a>,
    engine: EngineTable<'a>,
}

impl Reader<'_> {
    fn read(mut self, command: Option<Commands>) -> Result<Command, SettingsError> {
        Ok(match command {
            None if self.line.print_config => Command::PrintConfig(self.printed()?),
            None => Command::Serve(self.checked()?),
            Some(Commands::Ask(AskFor::Reload)) => {
                // The successor would refuse what is wrong here.
                let socket = self.checked()?.socket;
                self.ask(socket, AskFor::Reload)
            }
            Some(Commands::Ask(request)) => {
                let socket = self.socket()?;
                self.ask(socket, request)
            }
            Some(Commands::Precompile(targets)) => Command::Precompile(self.checked()?, targets),
            Some(Commands::Cache(command)) => Command::Cache(self.settings()?, command),
            Some(Commands::Config(ConfigCommand::Check { file })) => {
                let named = file.map(|file| (file, "the argument FILE".to_owned()));
                self.sources.config = named.or(self.sources.config);
                self.checked()?;
                Command::Checked(format!("{}: valid\n", self.sources.shown()))
            }
            Some(Commands::Debug(DebugCommand::Bundle { output, log_lines })) => {
                // Wrong settings do not keep it from its work.
                let settings = self.printed().map_err(|error| error.to_string());
                let Sources { identity, environment, .. } = self.sources;
                let socket = self.socket().or_else(|_| client_socket(identity, environment))?;
                self.ask(socket, AskFor::DebugBundle { output, log_lines, settings })
            }
            Some(Commands::Generate(text)) => Command::Generate(text),
        })
    }

    fn ask(&self, socket: PathBuf, request: AskFor) -> Command {
        Command::Ask(Ask { socket, patience: self.line.patience, request })
    }

    /// The socket for a request to daemons.
    fn socket(&mut self) -> Result<PathBuf, SettingsError> {
        // A file that is just being edited must not keep others from asking a daemon they can name.
        if self.line.sets("--socket") {
            return Ok(self.over(&[Vec::new(), Vec::new()])?.socket);
        }
        Ok(self.settings()?.socket)
    }

    /// The settings in force as a file.
    fn printed(&mut self) -> Result<String, SettingsError> {
        let settings = self.settings()?;
        let table = (self.engine)(&settings)?;
        Ok(format!("{}\n{table}", settings.to_toml()?))
    }

    /// The settings, with a table of the engine that is valid, too.
    fn checked(&mut self) -> Result<Settings, SettingsError> {
        let settings = self.settings()?;
        (self.engine)(&settings)?;
        Ok(settings)
    }

    /// The settings of all sources.
    fn settings(&mut self) -> Result<Settings, SettingsError> {
        let variables = self.sources.variables()?;
        let mut file = self.sources.file()?;
        let engine_table = file.entries.extract_if(.., |entry| entry.key.starts_with("engine."));
        let raw_engine = RawSettings { entries: engine_table.collect() };
        let layers = [variables, words(&file)?];
        let settings = self.over(&layers)?;
        let place = || self.line.place("--metrics-address", &layers);
        let wrong = |reason| SettingsError::new(place(), reason);
        settings.check_metrics_address().map_err(wrong)?;
        Ok(Settings { engine: raw_engine, ..settings })
    }

    fn over(&mut self, layers: &[Vec<Word>; 2]) -> Result<Settings, SettingsError> {
        self.line.over(&mut self.parser, self.arguments, layers)
    }
}

/// The sources of settings besides the command line.
struct Sources<'a> {
    identity: &'a Identity,
    environment: Environment<'a>,
    /// The file that the command line names, and what names it.
    config: Option<(OsString, String)>,
    default_file: &'a Path,
}

impl Sources<'_> {
    fn variables(&self) -> Result<Vec<Word>, SettingsError> {
        let mut words = Vec::new();
        for (key, flag, _) in KEYS {
            let variable = variable(self.identity, key, self.environment)?;
            let Some((place, text)) = variable else { continue };
            let texts = text.split(|character| key == "bundle-roots" && character == ':');
            let word = |text: &str| Word { place: place.clone(), flag, value: text.to_owned() };
            words.extend(texts.map(word));
        }
        Ok(words)
    }

    fn file(&self) -> Result<RawSettings, SettingsError> {
        let (path, named_by) = self.named();
        let name = path.display().to_string();
        if name.is_empty() {
            return Err(SettingsError::new(named_by, "is empty"));
        }
        let is_missing =
            |error: &io::Error| named_by == DEFAULT && error.kind() == io::ErrorKind::NotFound;
        let reason = match read_regular(&path, MAX_BYTES) {
            Ok(bytes) => return RawSettings::parse(&name, &bytes, |table| table == "engine"),
            Err(ReadError::Io(error)) if is_missing(&error) => return Ok(RawSettings::default()),
            Err(ReadError::Io(error)) => format!("{error} (named by {named_by})"),
            Err(ReadError::NotRegular) => format!("not a regular file (named by {named_by})"),
            Err(ReadError::TooLarge { limit }) => format!("larger than {limit} bytes"),
        };
        Err(SettingsError::new(name, reason))
    }

    /// The file, and what names it.
    fn named(&self) -> (PathBuf, String) {
        let name = self.identity.variable("config");
        let variable = || Some(((self.environment)(&name)?, name));
        match self.config.clone().or_else(variable) {
            Some((file, named_by)) => (file.into(), named_by),
            None => (self.default_file.to_owned(), DEFAULT.to_owned()),
        }
    }

    /// Name of the file, for a message.
    fn shown(&self) -> String {
        let (path, named_by) = self.named();
        let absent = named_by == DEFAULT && !path.exists();
        let note = if absent { " (absent, so the defaults)" } else { "" };
        format!("{}{note}", path.display())
    }
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

#[cfg(test)]
mod tests;
