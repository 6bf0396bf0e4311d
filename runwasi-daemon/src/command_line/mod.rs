//! The command line of a node daemon: its words become one [`Command`], with the settings that it
//! needs, or an error that names the wrong word. Nothing is opened before.

use std::{ffi::OsString, path::Path, time::Duration};

use clap::error::ErrorKind as Parsed;
use runwasi_core::settings::SettingsError;

use line::{Arguments, Line};
use refusal::refusal;
use subcommands::{
    Ask, AskFor, CacheCommand, Commands, ConfigCommand, DebugCommand, Generated, Targets,
};

use crate::{
    config::{EngineTable, Environment, Settings, SettingsFile, Sources, client_socket},
    identity::Identity,
};

mod line;
mod refusal;
mod start;
pub mod subcommands;

pub use line::definitions;
pub use start::StartFlags;

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

/// Reads a command line and all sources of its settings. `arguments` lack the program's name; the
/// `default_file` may be missing.
pub fn read(
    identity: &Identity,
    arguments: &[OsString],
    environment: Environment<'_>,
    default_file: &Path,
    engine: EngineTable<'_>,
) -> Result<Command, SettingsError> {
    let mut parser = definitions(identity);
    let matches = match parser.try_get_matches_from_mut(arguments) {
        Err(error) if error.kind() == Parsed::DisplayVersion => return Ok(Command::Version),
        Err(error) if error.kind() == Parsed::DisplayHelp => {
            return Ok(Command::Help(error.to_string()));
        }
        parsed => parsed.map_err(|error| refusal(&error, &parser, arguments))?,
    };
    let Line { arguments, flags, patience } = Line::of(&parser, &matches)?;
    let file = SettingsFile { path: default_file.to_owned(), named_by: None };
    let sources = Sources { identity, flags, environment, file, engine };
    meaning(arguments, patience, sources.with_named_file())
}

fn meaning(
    arguments: Arguments,
    patience: Duration,
    mut sources: Sources<'_>,
) -> Result<Command, SettingsError> {
    let ask = |socket, request| Command::Ask(Ask { socket, patience, request });
    Ok(match arguments.command {
        None if arguments.print_config => Command::PrintConfig(sources.printed()?),
        None => Command::Serve(sources.checked()?, arguments.start),
        // The successor would refuse what is wrong here.
        Some(Commands::Ask(AskFor::Reload)) => ask(sources.checked()?.socket, AskFor::Reload),
        Some(Commands::Ask(request)) => ask(sources.socket()?, request),
        Some(Commands::Precompile(targets)) => Command::Precompile(sources.checked()?, targets),
        Some(Commands::Cache(command)) => Command::Cache(sources.settings()?, command),
        Some(Commands::Config(ConfigCommand::Check { file })) => {
            if let Some(file) = file {
                sources.file = SettingsFile::named(&file, "the argument FILE");
            }
            sources.checked()?;
            Command::Checked(format!("{}: valid\n", sources.file.shown()))
        }
        Some(Commands::Debug(DebugCommand::Bundle { output, log_lines })) => {
            // Wrong settings do not keep it from its work.
            let settings = sources.printed().map_err(|error| error.to_string());
            let socket = sources.socket();
            let socket =
                socket.or_else(|_| client_socket(sources.identity, sources.environment))?;
            ask(socket, AskFor::DebugBundle { output, log_lines, settings })
        }
        Some(Commands::Generate(text)) => Command::Generate(text),
    })
}

#[cfg(test)]
pub(crate) mod tests;
