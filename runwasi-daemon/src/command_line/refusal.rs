//! The errors of the command line's parser in the words of all errors of settings.

use std::{error::Error as _, ffi::OsString};

use clap::{
    Command, Error,
    error::{ContextKind, ErrorKind},
};
use runwasi_core::settings::SettingsError;

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

/// A flag that a command does not take.
pub(super) fn not_for(flag: &str, words: &str) -> SettingsError {
    SettingsError::new(flag, format_args!("is not for `{words}`"))
}

/// True if a command takes a flag.
pub(super) fn has_flag(definition: &Command, flag: &str) -> bool {
    let long = flag.trim_start_matches('-');
    definition.get_arguments().any(|arg| arg.get_long() == Some(long))
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
