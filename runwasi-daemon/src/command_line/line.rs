//! The words of a command line: the flags of a daemon, and its [`subcommands`].

use std::{ffi::OsString, time::Duration};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Id, Parser,
    parser::ValueSource,
};
use runwasi_core::settings::SettingsError;

use super::{
    refusal::{has_flag, not_for, refusal},
    start::StartFlags,
    subcommands::{self, Commands},
};
use crate::{
    config::{CONFIG, KEYS, Key, Settings, Word},
    identity::Identity,
};

const SOURCES: &str = "Without a command it serves. A flag wins over the environment, the \
    environment over the file.\nAll are checked before anything is served. Paths are absolute, \
    except that of the file.";

#[derive(Debug, Parser)]
#[command(after_help = SOURCES, next_line_help = true)]
#[command(version = "", disable_version_flag = true)]
pub(super) struct Arguments {
    /// TOML file with settings, at most 1 MiB
    #[arg(long, value_name = "FILE")]
    config: Option<OsString>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    pub(super) start: StartFlags,
    /// Print the settings in force as a file, and leave.
    #[arg(long)]
    pub(super) print_config: bool,
    /// Print the version.
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    pub(super) command: Option<Commands>,
}

/// A command line, parsed.
pub(super) struct Line {
    pub(super) arguments: Arguments,
    /// Its flags of settings and of their file, which are for a daemon that a guard starts, too.
    pub(super) flags: Vec<Word>,
    /// Time limit of each answer of a daemon.
    pub(super) patience: Duration,
}

impl Line {
    /// Checks that flags and command fit together.
    pub(super) fn of(parser: &Command, matches: &ArgMatches) -> Result<Self, SettingsError> {
        let arguments = Arguments::from_arg_matches(matches);
        let mut arguments = arguments.map_err(|error| refusal(&error, parser, &[]))?;
        let mut given = given(parser, matches);
        let mut words = Vec::new();
        let mut definition = parser;
        let mut innermost = matches;
        while let Some((word, inner)) = innermost.subcommand() {
            words.push(word);
            // Always there: a match has its definition.
            definition = definition.find_subcommand(word).unwrap_or(definition);
            innermost = inner;
            given.extend(self::given(definition, inner));
        }
        if let Some(word) = given.iter().find(|word| !has_flag(definition, &word.flag)) {
            return Err(not_for(&word.flag, &words.join(" ")));
        }
        if arguments.start.guard && arguments.start.guard_fd.is_some() {
            return Err(SettingsError::new("--guard-fd", "is not for a guard"));
        }
        let has_key = |flag: &str| KEYS.iter().any(|key| key.flag == flag);
        given.retain(|word| word.flag == CONFIG || has_key(&word.flag));
        let pair = |word: &Word| [OsString::from(&word.flag), word.value.clone()];
        arguments.start.of_hosts = given.iter().flat_map(pair).collect();
        let patience = innermost.try_get_one("patience").ok().flatten().copied();
        Ok(Self { arguments, flags: given, patience: patience.unwrap_or(subcommands::PATIENCE) })
    }
}

/// The flags of `definition` that the command line has.
fn given(definition: &Command, matches: &ArgMatches) -> Vec<Word> {
    let words = |id: &Id| {
        let long = definition.get_arguments().find(|arg| arg.get_id() == id)?.get_long()?;
        let flag = format!("--{long}");
        Some(matches.get_raw(id.as_str())?.map(move |value| Word::new(&flag, &flag, value)))
    };
    let by_line = |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(by_line).filter_map(words).flatten().collect()
}

/// The parser, with the names of the daemon in its help and its defaults. Man pages and completions
/// are made of it, too.
pub fn definitions(identity: &Identity) -> Command {
    let Identity { program, runtime, .. } = *identity;
    let about = format!("One wasm host for the whole node, for containerd's runtime {runtime}.");
    let root = Arguments::command().name(program).bin_name(program).no_binary_name(true);
    let root = root.about(about).disable_help_subcommand(true);
    subcommands::with_settings(root.mut_args(|arg| with_names(arg, identity)))
}

/// A flag with its key, its variable and its default in the help.
fn with_names(arg: Arg, identity: &Identity) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let key = KEYS.iter().find(|key| key.flag.strip_prefix("--") == Some(long));
    let names = match key {
        Some(Key { name, .. }) => format!(" [{name}, {}]", identity.variable(name)),
        None if long == "config" => {
            let variable = identity.variable("config");
            format!(" [{variable}] [default: {}, if it exists]", identity.config_file)
        }
        None => String::new(),
    };
    let is_socket = long == "socket";
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let takes_value = arg.get_action().takes_values();
    let arg = arg.allow_hyphen_values(takes_value).help(help + &names);
    if is_socket { arg.default_value(identity.socket().into_os_string()) } else { arg }
}
