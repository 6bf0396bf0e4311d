//! The command line: the flags of a daemon, and the commands of [`subcommands`]. The same parser takes
//! the values of variables and of the file, as flags.

use std::{error::Error as _, ffi::OsString, slice, time::Duration};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, Error, FromArgMatches, Id, Parser,
    error::{ContextKind, ErrorKind},
    parser::ValueSource,
};
use runwasi_core::settings::SettingsError;

use super::{
    settings::Settings,
    subcommands::{self, Commands},
};
use crate::identity::Identity;

/// The keys of settings, with their flags and their types in the file.
pub(super) const KEYS: [(&str, &str, &str); 11] = [
    ("socket", "--socket", "a string"),
    ("bundle-roots", "--bundle-root", "an array of strings"),
    ("grace", "--grace", "an integer"),
    ("slots", "--slots", "an integer"),
    ("cache", "--cache-dir", "a string"),
    ("cache-size", "--cache-size", "an integer"),
    ("native-runtime", "--native-runtime", "a string"),
    ("log-level", "--log-level", "a string"),
    ("log-format", "--log-format", "a string"),
    ("metrics-address", "--metrics-address", "a string"),
    ("metrics-beyond-loopback", "--metrics-beyond-loopback", "a boolean"),
];

const SOURCES: &str = "Without a command it serves. A flag wins over the environment, the \
    environment over the file.\nAll are checked before anything is served. Paths are absolute, except \
    that of the file.";

#[derive(Debug, Parser)]
#[command(after_help = SOURCES, next_line_help = true)]
#[command(version = "", disable_version_flag = true)]
pub(super) struct Arguments {
    /// TOML file with settings, at most 1 MiB
    #[arg(long, value_name = "FILE")]
    config: Option<OsString>,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Print the settings in force as a file, and leave.
    #[arg(long)]
    pub(super) print_config: bool,
    /// Print the version.
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    /// The flags that are there, with their values.
    #[arg(skip)]
    given: Vec<(String, Vec<OsString>)>,
    #[command(subcommand)]
    pub(super) command: Option<Commands>,
    /// The words of the command.
    #[arg(skip)]
    words: Vec<String>,
    /// Time limit of each answer of a daemon.
    #[arg(skip)]
    pub(super) patience: Duration,
}

/// A setting of another source as a flag, with its place.
pub(super) struct Word {
    pub(super) place: String,
    pub(super) flag: &'static str,
    pub(super) value: String,
}

impl Arguments {
    /// Parses the arguments, which come without the program's name, by [`command`].
    pub(super) fn parse(command: &mut Command, arguments: &[OsString]) -> Result<Self, Error> {
        let matches = command.try_get_matches_from_mut(arguments)?;
        let mut given = given(command, &matches);
        let mut words = Vec::new();
        let mut innermost = &matches;
        let mut definition = &*command;
        while let Some((word, inner)) = innermost.subcommand() {
            words.push(word.to_owned());
            innermost = inner;
            // Always there: a match has its definition.
            let Some(found) = definition.find_subcommand(word) else { break };
            definition = found;
            given.extend(self::given(definition, inner));
        }
        let patience = innermost.try_get_one("patience").ok().flatten().copied();
        let patience = patience.unwrap_or(subcommands::PATIENCE);
        Ok(Self { given, words, patience, ..Self::from_arg_matches(&matches)? })
    }

    /// The settings of these arguments and, as far as they set nothing, of the `layers`, the first
    /// of which comes before the second. All values are checked.
    pub(super) fn over(
        &self,
        command: &mut Command,
        arguments: &[OsString],
        layers: &[Vec<Word>; 2],
    ) -> Result<Settings, SettingsError> {
        let mut all = Vec::new();
        let mut set: Vec<&str> = self.given.iter().map(|(flag, _)| flag.as_str()).collect();
        for layer in layers {
            for word in layer {
                let flag = OsString::from(format!("{}={}", word.flag, word.value));
                let checked = Self::parse(command, slice::from_ref(&flag));
                let wrong = |error| SettingsError {
                    place: word.place.clone(),
                    ..refusal(&error, command, &[])
                };
                checked.map_err(wrong)?;
                all.extend(Some(flag).filter(|_| !set.contains(&word.flag)));
            }
            set.extend(layer.iter().map(|word| word.flag));
        }
        match &self.command {
            None => all.extend_from_slice(arguments),
            // Without the command, whose parser has only the flags that it needs.
            Some(_) => all.extend(self.of_hosts_as_words()),
        }
        let parsed = Self::parse(command, &all);
        let settings = parsed.map_err(|error| refusal(&error, command, &all))?.settings;
        Ok(Settings { of_hosts: self.of_hosts(), ..settings })
    }

    /// The place of the value of a flag in the settings that are made of these `layers`.
    pub(super) fn place(&self, flag: &str, layers: &[Vec<Word>; 2]) -> String {
        let by_layers = || layers.iter().flatten().find(|word| word.flag == flag);
        let word = if self.sets(flag) { None } else { by_layers() };
        word.map_or_else(|| flag.to_owned(), |word| word.place.clone())
    }

    pub(super) fn sets(&self, flag: &str) -> bool {
        self.given.iter().any(|(given, _)| given == flag)
    }

    /// The file of settings that is named.
    pub(super) fn config(&self) -> Option<OsString> {
        let (_, values) = self.given.iter().rev().find(|(flag, _)| flag == "--config")?;
        values.first().cloned()
    }

    fn of_hosts(&self) -> Vec<OsString> {
        let pairs = self.host_flags().flat_map(|(flag, value)| [flag.into(), value.clone()]);
        pairs.collect()
    }

    fn of_hosts_as_words(&self) -> impl Iterator<Item = OsString> {
        self.host_flags().map(|(flag, value)| {
            let mut word = OsString::from(format!("{flag}="));
            word.push(value);
            word
        })
    }

    fn host_flags(&self) -> impl Iterator<Item = (&str, &OsString)> {
        let passed_on = self.given.iter().filter(|(flag, _)| is_of_hosts(flag));
        passed_on.flat_map(|(flag, values)| values.iter().map(|value| (flag.as_str(), value)))
    }

    /// Checks that flags and command fit together.
    pub(super) fn check(&self, command: &Command) -> Result<(), SettingsError> {
        if self.words.is_empty() && self.sets("--guard-fd") && self.settings.guard {
            return Err(SettingsError::new("--guard-fd", "is not for a guard"));
        }
        let definition = innermost(command, &self.words);
        match self.given.iter().find(|(flag, _)| !has_flag(definition, flag)) {
            Some((flag, _)) => Err(not_for(flag, &self.words.join(" "))),
            None => Ok(()),
        }
    }
}

/// The flags of `definition` that the command line has, with their values.
fn given(definition: &Command, matches: &ArgMatches) -> Vec<(String, Vec<OsString>)> {
    let flag = |id: &Id| {
        let long = definition.get_arguments().find(|arg| arg.get_id() == id)?.get_long()?;
        Some((format!("--{long}"), matches.get_raw(id.as_str())?.map(OsString::from).collect()))
    };
    let by_line = |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
    matches.ids().filter(by_line).filter_map(flag).collect()
}

fn innermost<'a>(command: &'a Command, words: &[String]) -> &'a Command {
    let inner = |outer: &'a Command, word: &String| outer.find_subcommand(word).unwrap_or(outer);
    words.iter().fold(command, inner)
}

fn has_flag(definition: &Command, flag: &str) -> bool {
    let long = flag.trim_start_matches('-');
    definition.get_arguments().any(|arg| arg.get_long() == Some(long))
}

/// The parser, with the names of the daemon in its help and its defaults.
pub(super) fn command(identity: &Identity) -> Command {
    let Identity { program, runtime, .. } = *identity;
    let about = format!("One wasm host for the whole node, for containerd's runtime {runtime}.");
    let root = Arguments::command().name(program).bin_name(program).no_binary_name(true);
    let root = root.about(about).disable_help_subcommand(true);
    subcommands::with_settings(root.mut_args(|arg| with_names(arg, identity)))
}

/// A flag with its key, its variable and its default in the help.
fn with_names(arg: Arg, identity: &Identity) -> Arg {
    let Some(long) = arg.get_long() else { return arg };
    let key = KEYS.iter().find(|(_, flag, _)| flag.strip_prefix("--") == Some(long));
    let names = match key {
        Some((key, ..)) => format!(" [{key}, {}]", identity.variable(key)),
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

/// The flags that a guard passes on to the daemons it starts.
fn is_of_hosts(flag: &str) -> bool {
    flag == "--config" || KEYS.iter().any(|(_, known, _)| *known == flag)
}

fn not_for(flag: &str, words: &str) -> SettingsError {
    SettingsError::new(flag, format_args!("is not for `{words}`"))
}

fn unknown(word: &str, nearest: &str) -> SettingsError {
    SettingsError::new(word, format_args!("unknown; {nearest}--help shows what there is"))
}

/// The nearest known word.
fn nearest(error: &Error) -> String {
    let similar = error.get(ContextKind::SuggestedArg);
    let similar = similar.or_else(|| error.get(ContextKind::SuggestedSubcommand));
    if let Some(similar) = similar {
        return format!("did you mean {similar}? ");
    }
    let elsewhere = error.get(ContextKind::Suggested).map(ToString::to_string);
    // The other text is about words that begin with a hyphen.
    let elsewhere = elsewhere.filter(|text| text.ends_with("exists"));
    elsewhere.map(|text| format!("{text}; ")).unwrap_or_default()
}

/// The parser's error in the words of all errors of settings.
pub(super) fn refusal(error: &Error, command: &Command, arguments: &[OsString]) -> SettingsError {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    // The name of the value comes after the flag.
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split(' ').next().unwrap_or_default();
    match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(reason)) => SettingsError::new(flag, reason),
        (ErrorKind::UnknownArgument, _) => unknown_argument(error, command, arguments, &argument),
        (ErrorKind::InvalidSubcommand, _) => {
            let word = context(ContextKind::InvalidSubcommand);
            unknown(&format!("{word:?}"), &nearest(error))
        }
        (ErrorKind::MissingSubcommand, _) => {
            let reason = format!("needs one of {}", context(ContextKind::ValidSubcommand));
            // It comes with the words before it.
            let word = context(ContextKind::InvalidSubcommand);
            SettingsError::new(word.rsplit(' ').next().unwrap_or_default(), reason)
        }
        (ErrorKind::MissingRequiredArgument, _) => {
            SettingsError::new(argument, "is missing; --help shows what there is")
        }
        (ErrorKind::ArgumentConflict, _) => SettingsError::new(flag, "is given twice"),
        (ErrorKind::TooManyValues, _) => {
            let place = format!("unexpected argument for option '{flag}'");
            SettingsError::new(place, format_args!("{:?}", context(ContextKind::InvalidValue)))
        }
        (ErrorKind::InvalidUtf8, _) => {
            let at = arguments.iter().position(|word| word.to_str().is_none()).unwrap_or_default();
            let flag = arguments[at.saturating_sub(1)].to_string_lossy();
            SettingsError::new(flag, format_args!("{:?} is not UTF-8", arguments[at]))
        }
        _ => SettingsError::new(flag, "needs a value"),
    }
}

fn unknown_argument(
    error: &Error,
    command: &Command,
    arguments: &[OsString],
    argument: &str,
) -> SettingsError {
    if !argument.starts_with('-') {
        return unknown(&format!("{argument:?}"), &nearest(error));
    }
    let flag = argument.split(['=', ' ']).next().unwrap_or_default();
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    let word = words.find(|word| command.find_subcommand(word).is_some());
    match word {
        // A flag of the daemon that this command does not take.
        Some(word) if has_flag(command, flag) => not_for(flag, word),
        _ => unknown(flag, &nearest(error)),
    }
}
