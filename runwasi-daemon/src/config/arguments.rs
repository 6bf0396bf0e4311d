//! The command line: flags, and the words `list`, `reload` and `precompile`. The same parser takes
//! the values of variables and of the file, as flags.

use std::{error::Error as _, ffi::OsString, slice};

use clap::{
    ArgAction, Command, CommandFactory, Error, FromArgMatches, Id, Parser,
    error::{ContextKind, ErrorKind},
    parser::ValueSource,
};
use runwasi_core::settings::SettingsError;

use super::settings::Settings;
use crate::identity::Identity;

/// The files and images to precompile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Files and images, in their order.
    pub names: Vec<OsString>,
    /// The gRPC socket of the containerd that has the images.
    pub address: Option<String>,
    /// The namespace they are in.
    pub namespace: Option<String>,
}

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

const USAGE: &str = "{program} [FLAGS]   serve
       {program} list [--config FILE] [--socket PATH]
           print the sandboxes of the daemon, a line each: NAMESPACE GROUP PID SOCKET CONTAINERS
       {program} reload [--config FILE] [--socket PATH]
           replace the daemon: new settings, a new version; sandboxes go on. It needs --guard
       {program} precompile [FLAGS] FILE|IMAGE...
           compile into the cache: wasm, or the wasm in the tar of an image or in containerd's";

const SOURCES: &str = "A flag wins over the environment, the environment over the file. All are \
    checked before anything\nis served. Paths are absolute, except that of the file.";

#[derive(Debug, Parser)]
#[command(after_help = SOURCES, next_line_help = true)]
#[command(version = "", disable_version_flag = true)]
pub(super) struct Arguments {
    /// TOML file with settings, at most 1 MiB
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<OsString>,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Print the settings in force as a file, and leave.
    #[arg(long)]
    pub(super) print_config: bool,
    /// For precompile: containerd's gRPC socket [CONTAINERD_ADDRESS]
    #[arg(long, value_name = "PATH")]
    address: Option<String>,
    /// For precompile: containerd's namespace; Kubernetes' images are in k8s.io [CONTAINERD_NAMESPACE]
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// Print the version.
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[arg(hide = true)]
    words: Vec<OsString>,
    /// The flags that are there, with their values.
    #[arg(skip)]
    given: Vec<(String, Vec<OsString>)>,
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
        let flag = |id: &Id| {
            let long = command.get_arguments().find(|arg| arg.get_id() == id)?.get_long()?;
            Some((format!("--{long}"), matches.get_raw(id.as_str())?.map(OsString::from).collect()))
        };
        let by_line =
            |id: &&Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        let given = matches.ids().filter(by_line).filter_map(flag).collect();
        Ok(Self { given, ..Self::from_arg_matches(&matches)? })
    }

    /// The settings of these arguments and, as far as they set nothing, of the `layers`, the first
    /// of which comes before the second. All values are checked.
    pub(super) fn over(
        &self,
        command: &mut Command,
        arguments: &[OsString],
        layers: [Vec<Word>; 2],
    ) -> Result<Settings, SettingsError> {
        let mut all = Vec::new();
        let mut set: Vec<&str> = self.given.iter().map(|(flag, _)| flag.as_str()).collect();
        for layer in &layers {
            for word in layer {
                let flag = OsString::from(format!("{}={}", word.flag, word.value));
                let checked = Self::parse(command, slice::from_ref(&flag));
                let wrong =
                    |error| SettingsError { place: word.place.clone(), ..refusal(&error, &[]) };
                checked.map_err(wrong)?;
                all.extend(Some(flag).filter(|_| !set.contains(&word.flag)));
            }
            set.extend(layer.iter().map(|word| word.flag));
        }
        all.extend_from_slice(arguments);
        let settings = Self::parse(command, &all).map_err(|error| refusal(&error, &all))?.settings;
        Ok(Settings { of_hosts: self.of_hosts(), ..settings })
    }

    /// `list`, `reload` or `precompile`.
    pub(super) fn command_word(&self) -> Option<&str> {
        self.words.first().and_then(|word| word.to_str())
    }

    pub(super) fn sets(&self, flag: &str) -> bool {
        self.given.iter().any(|(given, _)| given == flag)
    }

    pub(super) fn targets(self) -> Targets {
        let names = self.words.into_iter().skip(1).collect();
        Targets { names, address: self.address, namespace: self.namespace }
    }

    fn of_hosts(&self) -> Vec<OsString> {
        let passed_on = self.given.iter().filter(|(flag, _)| is_of_hosts(flag));
        let pairs = passed_on.flat_map(|(flag, values)| {
            values.iter().flat_map(move |value| [flag.into(), value.clone()])
        });
        pairs.collect()
    }

    /// Checks that flags and words fit together.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        let words: Vec<_> = self.words.iter().map(|word| word.to_str().unwrap_or("")).collect();
        let unexpected = match words[..] {
            [] | ["precompile", ..] | ["list" | "reload"] => None,
            ["list" | "reload", ..] => self.words.get(1),
            _ => self.words.first(),
        };
        if let Some(word) = unexpected {
            return Err(unknown(&format!("{word:?}")));
        }
        for (flag, _) in &self.given {
            let of_images = flag == "--address" || flag == "--namespace";
            let reason = match self.command_word() {
                Some("precompile") if of_images || is_of_hosts(flag) => continue,
                _ if of_images => "is for `precompile`".to_owned(),
                Some("list" | "reload") if flag == "--config" || flag == "--socket" => continue,
                Some(word) => format!("is not for `{word}`"),
                None if flag == "--guard-fd" && self.settings.guard => {
                    "is not for a guard".to_owned()
                }
                None => continue,
            };
            return Err(SettingsError::new(flag, reason));
        }
        match words[..] {
            ["precompile"] => Err(SettingsError::new("precompile", "needs a file or an image")),
            _ => Ok(()),
        }
    }
}

/// The parser, with the names of the daemon in its help and its defaults.
pub(super) fn command(identity: &Identity) -> Command {
    let Identity { program, runtime, config_file, .. } = identity;
    let about = format!("One wasm host for the whole node, for containerd's runtime {runtime}.");
    let command = Arguments::command().no_binary_name(true).about(about);
    command.override_usage(USAGE.replace("{program}", program)).mut_args(|arg| {
        let Some(long) = arg.get_long() else { return arg };
        let key = KEYS.iter().find(|(_, flag, _)| flag.strip_prefix("--") == Some(long));
        let names = match key {
            Some((key, ..)) => format!(" [{key}, {}]", identity.variable(key)),
            None if long == "config" => {
                let variable = identity.variable("config");
                format!(" [{variable}] [default: {config_file}, if it exists]")
            }
            None => String::new(),
        };
        let is_socket = long == "socket";
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let takes_value = arg.get_action().takes_values();
        let arg = arg.allow_hyphen_values(takes_value).help(help + &names);
        if is_socket { arg.default_value(identity.socket().into_os_string()) } else { arg }
    })
}

/// The flags that a guard passes on to the daemons it starts.
fn is_of_hosts(flag: &str) -> bool {
    flag == "--config" || KEYS.iter().any(|(_, known, _)| *known == flag)
}

fn unknown(word: &str) -> SettingsError {
    SettingsError::new(word, "unknown; --help shows what there is")
}

/// The parser's error in the words of all errors of settings.
pub(super) fn refusal(error: &Error, arguments: &[OsString]) -> SettingsError {
    let context = |kind| error.get(kind).map(ToString::to_string).unwrap_or_default();
    // The name of the value comes after the flag.
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split(' ').next().unwrap_or_default();
    match (error.kind(), error.source()) {
        (ErrorKind::ValueValidation, Some(reason)) => SettingsError::new(flag, reason),
        (ErrorKind::UnknownArgument, _) => unknown(flag),
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
