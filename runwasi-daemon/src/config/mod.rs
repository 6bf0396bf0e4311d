//! The settings of a node daemon: command line, environment and a TOML file become one
//! [`Command`], or an error that names the place of the wrong value. Nothing is opened before.
//!
//! A flag wins over the environment, the environment over the file, the file over the default; a
//! list replaces a list. Overridden values are checked, too: a wrong line of the file would
//! otherwise wait for the day when the flag is taken away. An empty variable is an empty value, and
//! wrong.

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

use arguments::{KEYS, Key, Line, Word};
use socket::{Environment, variable};

use crate::{
    identity::Identity,
    subcommands::{
        Ask, AskFor, CacheCommand, Commands, ConfigCommand, DebugCommand, Generated, Targets,
    },
};

mod arguments;
mod settings;
mod socket;

pub use settings::{Settings, StartFlags};
pub use socket::client_socket;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Name of the source of the default file.
const DEFAULT: &str = "default";

/// The meaning of a command line.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Serve with these settings.
    Serve(Settings, StartFlags),
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

/// Reads all sources. `arguments` lack the program's name; the `default_file` may be missing.
pub fn read(
    identity: &Identity,
    arguments: &[OsString],
    environment: Environment<'_>,
    default_file: &Path,
    engine: EngineTable<'_>,
) -> Result<Command, SettingsError> {
    // Built once: each value of the environment and of the file is parsed by it, too.
    let mut parser = arguments::command(identity);
    let matches = match parser.try_get_matches_from_mut(arguments) {
        Err(error) if error.kind() == Parsed::DisplayVersion => return Ok(Command::Version),
        Err(error) if error.kind() == Parsed::DisplayHelp => {
            return Ok(Command::Help(error.to_string()));
        }
        parsed => parsed.map_err(|error| arguments::refusal(&error, &parser, arguments))?,
    };
    let line = Line::of(&parser, &matches)?;
    let named = line.value("--config").map(|file| (file.clone(), "--config".to_owned()));
    let variable = identity.variable("config");
    let named = named.or_else(|| Some((environment(&variable)?, variable)));
    let (path, named_by) = named.unwrap_or_else(|| (default_file.into(), DEFAULT.to_owned()));
    let file = SettingsFile { path: path.into(), named_by };
    Reader { line, parser, identity, environment, file, engine }.read()
}

/// The definitions of the command line, for man pages and completions.
pub fn definitions(identity: &Identity) -> clap::Command {
    arguments::command(identity)
}

/// The sources of settings.
struct Reader<'a> {
    line: Line,
    parser: clap::Command,
    identity: &'a Identity,
    environment: Environment<'a>,
    file: SettingsFile,
    engine: EngineTable<'a>,
}

/// A file, and what names it.
struct SettingsFile {
    path: PathBuf,
    named_by: String,
}

impl Reader<'_> {
    fn read(mut self) -> Result<Command, SettingsError> {
        Ok(match self.line.arguments.command.take() {
            None if self.line.arguments.print_config => Command::PrintConfig(self.printed()?),
            None => Command::Serve(self.checked()?, self.line.arguments.start),
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
                if let Some(file) = file {
                    let named_by = "the argument FILE".to_owned();
                    self.file = SettingsFile { path: file.into(), named_by };
                }
                self.checked()?;
                Command::Checked(format!("{}: valid\n", self.file.shown()))
            }
            Some(Commands::Debug(DebugCommand::Bundle { output, log_lines })) => {
                // Wrong settings do not keep it from its work.
                let settings = self.printed().map_err(|error| error.to_string());
                let socket = self.socket();
                let socket = socket.or_else(|_| client_socket(self.identity, self.environment))?;
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
        // No other setting counts: a wrong one must not hide a daemon that runs, nor fail its
        // probe. And a file that is just being edited is not read if another source names the
        // socket.
        let is_socket = |key: &str| key == "socket";
        let variables = self.variables(is_socket)?;
        let is_named = self.line.value("--socket").is_some() || !variables.is_empty();
        let mut file = if is_named { RawSettings::default() } else { self.file.read()? };
        file.entries.retain(|entry| is_socket(&entry.key));
        Ok(self.line.over(&mut self.parser, &[variables, words(&file)?])?.socket)
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
        let variables = self.variables(|_| true)?;
        let mut file = self.file.read()?;
        let table = file.entries.extract_if(.., |entry| entry.key.starts_with("engine."));
        let engine = RawSettings { entries: table.collect() };
        let settings = self.line.over(&mut self.parser, &[variables, words(&file)?])?;
        Ok(Settings { engine, ..settings })
    }

    /// The values of the variables of some keys, as flags.
    fn variables(&self, is_asked: impl Fn(&str) -> bool) -> Result<Vec<Word>, SettingsError> {
        let mut words = Vec::new();
        for Key { name, flag, .. } in KEYS.iter().filter(|key| is_asked(&key.name)) {
            let variable = variable(self.identity, name, self.environment)?;
            let Some((place, text)) = variable else { continue };
            let texts = text.split(|character| *name == "bundle-roots" && character == ':');
            words.extend(texts.map(|text| Word::new(&place, flag, text)));
        }
        Ok(words)
    }
}

impl SettingsFile {
    fn read(&self) -> Result<RawSettings, SettingsError> {
        let Self { path, named_by } = self;
        let name = path.display().to_string();
        if name.is_empty() {
            return Err(SettingsError::new(named_by, "is empty"));
        }
        let is_missing =
            |error: &io::Error| named_by == DEFAULT && error.kind() == io::ErrorKind::NotFound;
        let reason = match read_regular(path, MAX_BYTES) {
            Ok(bytes) => return RawSettings::parse(&name, &bytes, |table| table == "engine"),
            Err(ReadError::Io(error)) if is_missing(&error) => return Ok(RawSettings::default()),
            Err(ReadError::Io(error)) => format!("{error} (named by {named_by})"),
            Err(ReadError::NotRegular) => format!("not a regular file (named by {named_by})"),
            Err(ReadError::TooLarge { limit }) => format!("larger than {limit} bytes"),
        };
        Err(SettingsError::new(name, reason))
    }

    /// Its name, for a message.
    fn shown(&self) -> String {
        let is_absent = self.named_by == DEFAULT && !self.path.exists();
        let note = if is_absent { " (absent, so the defaults)" } else { "" };
        format!("{}{note}", self.path.display())
    }
}

/// The keys of the file as flags, which check the values.
fn words(file: &RawSettings) -> Result<Vec<Word>, SettingsError> {
    let mut words = Vec::new();
    for entry in &file.entries {
        let Some(Key { flag, kind, .. }) = KEYS.iter().find(|key| key.name == entry.key) else {
            let known = KEYS.iter().map(|key| &*key.name).collect::<Vec<_>>().join(", ");
            return Err(entry.unknown(&format!("{known}, and the table engine")));
        };
        let texts = entry.texts(kind)?;
        if texts.is_empty() {
            return Err(entry.error("is empty; at least one directory is needed"));
        }
        words.extend(texts.into_iter().map(|(place, text)| Word::new(&place, flag, text)));
    }
    Ok(words)
}

#[cfg(test)]
mod tests;
