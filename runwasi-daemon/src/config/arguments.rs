//! The command line: the flags of a daemon, and its [`subcommands`]. The same parser takes the
//! values of variables and of the file, as flags.

use std::{any::TypeId, error::Error as _, ffi::OsString, sync::LazyLock, time::Duration};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, Error, FromArgMatches, Id, Parser,
    error::{ContextKind, ErrorKind},
    parser::ValueSource,
};
use runwasi_core::settings::SettingsError;

use super::settings::{Settings, StartFlags};
use crate::{
    identity::Identity,
    subcommands::{self, Commands},
};

/// The keys of settings, by the definitions of their flags.
pub(super) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let definitions = Settings::augment_args(Command::new(""));
    definitions.get_arguments().filter_map(Key::of).collect()
});

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

/// A key of settings.
pub(super) struct Key {
    pub(super) name: String,
    pub(super) flag: String,
    /// Its type in the file.
    pub(super) kind: &'static str,
}

/// A command line, parsed.
pub(super) struct Line {
    pub(super) arguments: Arguments,
    /// Its flags, those of its command included.
    given: Vec<Word>,
    /// Time limit of each answer of a daemon.
    pub(super) patience: Duration,
}

/// A flag and its value: an argument, or a setting of another source.
pub(super) struct Word {
    /// Place of the value in its source.
    place: String,
    flag: String,
    value: OsString,
}

impl Key {
    fn of(flag: &Arg) -> Option<Self> {
        let kind = match flag.get_value_parser().type_id() {
            _ if matches!(flag.get_action(), ArgAction::Append) => "an array of strings",
            id if id == TypeId::of::<u32>() => "an integer",
            id if id == TypeId::of::<bool>() => "a boolean",
            _ => "a string",
        };
        let name = flag.get_id().as_str().replace('_', "-");
        Some(Self { name, flag: format!("--{}", flag.get_long()?), kind })
    }
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
        let pair = |word: &Word| [OsString::from(&word.flag), word.value.clone()];
        arguments.start.of_hosts = of_hosts(&given).flat_map(pair).collect();
        let patience = innermost.try_get_one("patience").ok().flatten().copied();
        Ok(Self { arguments, given, patience: patience.unwrap_or(subcommands::PATIENCE) })
    }

    /// The settings of this line and, as far as it sets nothing, of the `layers`, of which an
    /// earlier one wins. All values are checked.
    pub(super) fn over(
        &self,
        parser: &mut Command,
        layers: &[Vec<Word>],
    ) -> Result<Settings, SettingsError> {
        let mut in_force: Vec<&Word> = of_hosts(&self.given).collect();
        for layer in layers {
            for word in layer {
                let wrong = |error| SettingsError { place: word.place.clone(), ..error };
                settings(parser, &[word.argument()]).map_err(wrong)?;
            }
            let is_set = |word: &Word| in_force.iter().any(|set| set.flag == word.flag);
            let further: Vec<_> = layer.iter().filter(|word| !is_set(word)).collect();
            in_force.extend(further);
        }
        let all: Vec<_> = in_force.iter().map(|word| word.argument()).collect();
        let merged = settings(parser, &all)?;
        let address = in_force.iter().find(|word| word.flag == "--metrics-address");
        let place = address.map_or("--metrics-address", |word| &word.place);
        merged.check_metrics_address().map_err(|reason| SettingsError::new(place, reason))?;
        Ok(merged)
    }

    /// The value of a flag; the last one of the line.
    pub(super) fn value(&self, flag: &str) -> Option<&OsString> {
        self.given.iter().rfind(|word| word.flag == flag).map(|word| &word.value)
    }
}

impl Word {
    pub(super) fn new(place: &str, flag: &str, value: impl Into<OsString>) -> Self {
        Self { place: place.to_owned(), flag: flag.to_owned(), value: value.into() }
    }

    fn argument(&self) -> OsString {
        let mut argument = OsString::from(format!("{}=", self.flag));
        argument.push(&self.value);
        argument
    }
}

/// The settings of flags, with the defaults of the others.
fn settings(parser: &mut Command, flags: &[OsString]) -> Result<Settings, SettingsError> {
    let matches = parser.try_get_matches_from_mut(flags);
    let settings = matches.and_then(|matches| Settings::from_arg_matches(&matches));
    settings.map_err(|error| refusal(&error, parser, flags))
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

/// The flags that a guard passes on to the daemons it starts.
fn of_hosts(given: &[Word]) -> impl Iterator<Item = &Word> {
    let is_key = |flag: &str| KEYS.iter().any(|key| key.flag == flag);
    given.iter().filter(move |word| word.flag == "--config" || is_key(&word.flag))
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
