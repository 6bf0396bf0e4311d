//! The settings of a node daemon: command line, environment and a TOML file become [`Settings`], or
//! an error that names the place of the wrong value. Nothing is opened before.
//!
//! A flag wins over the environment, the environment over the file, the file over the default; a
//! list replaces a list. Overridden values are checked, too: a wrong line of the file would
//! otherwise wait for the day when the flag is taken away. An empty variable is an empty value, and
//! wrong.

use std::{
    any::TypeId,
    error::Error,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    sync::LazyLock,
};

use clap::{Arg, ArgAction, Args, FromArgMatches, error::ContextKind};
use runwasi_core::{
    regular_file::{ReadError, read_regular},
    settings::{RawSettings, SettingsError},
};

use crate::identity::Identity;

mod settings;

pub use settings::Settings;

/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// The flag that names the file.
pub(crate) const CONFIG: &str = "--config";

/// The keys of settings, by the definitions of their flags.
pub(crate) static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
    let definitions = Settings::augment_args(clap::Command::new(""));
    definitions.get_arguments().filter_map(Key::of).collect()
});

/// An environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Checks the table `[engine]` of settings, and returns it with the values in force.
pub type EngineTable<'a> = &'a dyn Fn(&Settings) -> Result<String, SettingsError>;

/// A key of settings.
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) flag: String,
    /// Its type in the file.
    kind: &'static str,
}

/// A flag and its value: an argument, or a setting of another source.
pub(crate) struct Word {
    /// Place of the value in its source.
    pub(crate) place: String,
    pub(crate) flag: String,
    pub(crate) value: OsString,
}

/// The sources of settings. The engine's table is that of the file.
pub(crate) struct Sources<'a> {
    pub(crate) identity: &'a Identity,
    /// Flags of the command line that have a key, and the one that names the file.
    pub(crate) flags: Vec<Word>,
    pub(crate) environment: Environment<'a>,
    pub(crate) file: SettingsFile,
    pub(crate) engine: EngineTable<'a>,
}

/// A file, and what names it; the default one may be missing.
pub(crate) struct SettingsFile {
    pub(crate) path: PathBuf,
    pub(crate) named_by: Option<String>,
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

impl Word {
    pub(crate) fn new(place: &str, flag: &str, value: impl Into<OsString>) -> Self {
        Self { place: place.to_owned(), flag: flag.to_owned(), value: value.into() }
    }
}

impl Sources<'_> {
    /// The sources with the file that the flag names, or the variable.
    pub(crate) fn with_named_file(self) -> Self {
        let variable = self.identity.variable("config");
        let flag = self.flags.iter().rfind(|word| word.flag == CONFIG);
        let file = match (flag, (self.environment)(&variable)) {
            (Some(Word { flag, value, .. }), _) => SettingsFile::named(value, flag),
            (None, Some(path)) => SettingsFile::named(&path, &variable),
            (None, None) => return self,
        };
        Self { file, ..self }
    }

    /// The settings in force as a file.
    pub(crate) fn printed(&self) -> Result<String, SettingsError> {
        let settings = self.settings()?;
        let table = (self.engine)(&settings)?;
        Ok(format!("{}\n{table}", settings.to_toml()?))
    }

    /// The settings, with a table of the engine that is valid, too.
    pub(crate) fn checked(&self) -> Result<Settings, SettingsError> {
        let settings = self.settings()?;
        (self.engine)(&settings)?;
        Ok(settings)
    }

    /// The settings of all sources.
    pub(crate) fn settings(&self) -> Result<Settings, SettingsError> {
        let variables = self.variables(|_| true)?;
        let mut file = self.file.read()?;
        let table = file.entries.extract_if(.., |entry| entry.key.starts_with("engine."));
        let engine = RawSettings { entries: table.collect() };
        Ok(Settings { engine, ..self.merged(&variables, &words(&file)?)? })
    }

    /// The socket for a request to daemons. No other setting counts: a wrong one must not hide a
    /// daemon that runs, nor fail its probe.
    pub(crate) fn socket(&self) -> Result<PathBuf, SettingsError> {
        let is_socket = |key: &str| key == "socket";
        let variables = self.variables(is_socket)?;
        let is_named = self.flags.iter().chain(&variables).any(|word| word.flag == "--socket");
        // A file that is just being edited is not read if another source names the socket.
        let mut file = if is_named { RawSettings::default() } else { self.file.read()? };
        file.entries.retain(|entry| is_socket(&entry.key));
        Ok(self.merged(&variables, &words(&file)?)?.socket)
    }

    /// The values of the variables of some keys.
    fn variables(&self, is_asked: impl Fn(&str) -> bool) -> Result<Vec<Word>, SettingsError> {
        let mut words = Vec::new();
        for Key { name, flag, kind } in KEYS.iter().filter(|key| is_asked(&key.name)) {
            let variable = variable(self.identity, name, self.environment)?;
            let Some((place, text)) = variable else { continue };
            let texts = text.split(|character| kind.starts_with("an array") && character == ':');
            words.extend(texts.map(|text| Word::new(&place, flag, text)));
        }
        Ok(words)
    }

    /// The settings of flags, variables and file, of which an earlier one wins. All are checked.
    fn merged(&self, variables: &[Word], file: &[Word]) -> Result<Settings, SettingsError> {
        let socket = self.identity.socket().into_os_string();
        let parser = clap::Command::new("").no_binary_name(true);
        let mut parser =
            Settings::augment_args(parser).mut_arg("socket", |flag| flag.default_value(socket));
        for word in variables.iter().chain(file) {
            let of_word = |error| SettingsError { place: word.place.clone(), ..error };
            parsed(&mut parser, &[word]).map_err(of_word)?;
        }
        let mut in_force: Vec<&Word> = Vec::new();
        for source in [file, variables, &self.flags] {
            in_force.retain(|set| source.iter().all(|word| word.flag != set.flag));
            in_force.extend(source);
        }
        in_force.retain(|word| word.flag != CONFIG);
        let settings = parsed(&mut parser, &in_force)?;
        let address = in_force.iter().find(|word| word.flag == "--metrics-address");
        let place = address.map_or("--metrics-address", |word| &word.place);
        settings.check_metrics_address().map_err(|reason| SettingsError::new(place, reason))?;
        Ok(settings)
    }
}

impl SettingsFile {
    pub(crate) fn named(path: &OsStr, named_by: &str) -> Self {
        Self { path: path.into(), named_by: Some(named_by.to_owned()) }
    }

    fn read(&self) -> Result<RawSettings, SettingsError> {
        let name = self.path.display().to_string();
        let named_by = self.named_by.as_deref().unwrap_or("default");
        if name.is_empty() {
            return Err(SettingsError::new(named_by, "is empty"));
        }
        let may_be_missing = self.named_by.is_none();
        let reason = match read_regular(&self.path, MAX_BYTES) {
            Ok(bytes) => return RawSettings::parse(&name, &bytes, |table| table == "engine"),
            Err(ReadError::Io(error))
                if may_be_missing && error.kind() == io::ErrorKind::NotFound =>
            {
                return Ok(RawSettings::default());
            }
            Err(ReadError::Io(error)) => format!("{error} (named by {named_by})"),
            Err(ReadError::NotRegular) => format!("not a regular file (named by {named_by})"),
            Err(ReadError::TooLarge { limit }) => format!("larger than {limit} bytes"),
        };
        Err(SettingsError::new(name, reason))
    }

    /// Its name, for a message.
    pub(crate) fn shown(&self) -> String {
        let is_absent = self.named_by.is_none() && matches!(self.path.try_exists(), Ok(false));
        let note = if is_absent { " (absent, so the defaults)" } else { "" };
        format!("{}{note}", self.path.display())
    }
}

/// The manager socket for clients, which read no file: that of the variable, else the default.
pub fn client_socket(
    identity: &Identity,
    environment: Environment<'_>,
) -> Result<PathBuf, SettingsError> {
    let Some((name, path)) = variable(identity, "socket", environment)? else {
        return Ok(identity.socket());
    };
    settings::socket(&path).map_err(|reason| SettingsError::new(name, reason))
}

/// The variable of a key, if it is set, and its text: settings go into messages to containerd.
fn variable(
    identity: &Identity,
    key: &str,
    environment: Environment<'_>,
) -> Result<Option<(String, String)>, SettingsError> {
    let name = identity.variable(key);
    match environment(&name).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some((name, text))),
        Some(Err(value)) => Err(SettingsError::new(name, format_args!("{value:?} is not UTF-8"))),
    }
}

/// The keys of a file as flags, which check the values.
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

/// The settings of words, with the defaults of the others.
fn parsed(parser: &mut clap::Command, words: &[&Word]) -> Result<Settings, SettingsError> {
    let arguments = words.iter().map(|word| {
        let mut argument = OsString::from(format!("{}=", word.flag));
        argument.push(&word.value);
        argument
    });
    let matches = parser.try_get_matches_from_mut(arguments);
    let settings = matches.and_then(|matches| Settings::from_arg_matches(&matches));
    settings.map_err(|error| {
        let flag = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
        // Without a reason the value is right, and stands before a command and after it.
        let reason = error.source().map_or("is given twice".to_owned(), ToString::to_string);
        SettingsError::new(flag.split(' ').next().unwrap_or_default(), reason)
    })
}

#[cfg(test)]
pub(crate) mod tests;
