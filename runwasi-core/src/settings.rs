//! Settings of a TOML document, each with its place, deserialized into typed structs.
//!
//! Errors name the place, the key, the value and what is allowed: `FILE:LINE: KEY: …`.

use std::{
    fmt::Display,
    path::{Component, Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error, IntoDeserializer},
};
use serde_path_to_error::Segment;
use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

/// The word for a directory that is not used.
pub const OFF: &str = "off";

/// Keys with their values, in the order of their lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawSettings {
    /// The settings.
    pub entries: Vec<Entry>,
}

/// One key with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key; that of a table's entry is `table.key`.
    pub key: String,
    /// The value.
    pub value: Value,
    place: String,
    /// The elements of an array.
    elements: Vec<Self>,
}

/// A wrong setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct SettingsError {
    /// `FILE:LINE`, with the key if the value is wrong, or a flag, or an environment variable.
    pub place: String,
    /// The value, and what is allowed.
    pub reason: String,
}

/// Numbers within a range. `#[serde(with = "Within::<MIN, MAX>")]` bounds a field.
#[derive(Debug)]
pub struct Within<const MIN: u32, const MAX: u32>;

impl SettingsError {
    /// An error about what stands at a place.
    pub fn new(place: impl Into<String>, reason: impl Display) -> Self {
        Self { place: place.into(), reason: reason.to_string() }
    }
}

impl RawSettings {
    /// Parses a document, which errors call `source`. Tables with a `flat` name become the
    /// entries in them; other tables are values, which no setting has.
    pub fn parse(
        source: &str,
        bytes: &[u8],
        flat: impl Fn(&str) -> bool,
    ) -> Result<Self, SettingsError> {
        let newlines: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').collect();
        let place = |at| format!("{source}:{}", 1 + newlines.partition_point(|line| *line < at));
        let text = str::from_utf8(bytes)
            .map_err(|error| SettingsError::new(place(error.valid_up_to()), "is not UTF-8"))?;
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            SettingsError::new(place(at), error.message())
        })?;
        let entry = |prefix: &str, key: &Spanned<_>, spanned: &Spanned<DeValue<'_>>| {
            let name = format!("{prefix}{}", key.get_ref());
            let entry = |value, at, elements| Entry {
                key: name.clone(),
                value,
                place: place(at),
                elements,
            };
            let at = key.span().start;
            let value = Value::deserialize(spanned.clone().into_deserializer()).map_err(|_| {
                // Nothing else that TOML allows is too much for `Value`.
                let reason = format_args!("{} is beyond 64 bits", &text[spanned.span()]);
                SettingsError::new(format!("{}: {name}", place(at)), reason)
            })?;
            let starts = spanned.get_ref().as_array().into_iter().flatten();
            let starts = starts.map(|element| element.span().start);
            let elements = value.as_array().into_iter().flatten().zip(starts);
            let elements = elements.map(|(value, at)| entry(value.clone(), at, Vec::new()));
            let elements = elements.collect();
            Ok(entry(value, at, elements))
        };
        let entries = table.get_ref().iter().flat_map(|(key, value)| match value.get_ref() {
            DeValue::Table(table) if flat(key.get_ref()) => {
                let prefix = format!("{}.", key.get_ref());
                table.iter().map(|(key, value)| entry(&prefix, key, value)).collect()
            }
            _ => vec![entry("", key, value)],
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()? })
    }

    /// Deserializes a settings struct, with the values of `base` for missing keys. The struct has a
    /// default for each key.
    pub fn read<T: DeserializeOwned + Serialize>(&self, base: &T) -> Result<T, SettingsError> {
        let mut table = in_force(base)?;
        for entry in &self.entries {
            // Alone at first: an error is then known to be about this entry.
            let alone = Table::from_iter([(entry.key.clone(), checked(&entry.value))]);
            serde_path_to_error::deserialize::<_, T>(Value::Table(alone))
                .map_err(|error| entry.at(error.path()).reword(error.inner().message()))?;
            table.insert(entry.key.clone(), entry.value.clone());
        }
        table.try_into().map_err(|error| SettingsError::new("settings", error))
    }
}

/// The values of a settings struct, in the order of its fields.
pub fn in_force(settings: &impl Serialize) -> Result<Table, SettingsError> {
    Table::try_from(settings).map_err(|error| SettingsError::new("settings", error))
}

/// Lines of TOML. `around` a key's line are a comment mark and a comment, if it needs some.
pub fn to_toml(values: Table, around: impl Fn(&str) -> (&'static str, &'static str)) -> String {
    let line = |(key, value): (String, Value)| {
        let (before, after) = around(&key);
        format!("{before}{key} = {value}{after}\n")
    };
    values.into_iter().map(line).collect()
}

impl Entry {
    /// The value of a type (`a string`, `an integer` or `an array of strings`) as a text with its
    /// place. Of an array, each element.
    pub fn texts(&self, wanted: &str) -> Result<Vec<(String, String)>, SettingsError> {
        if self.value.is_array() && wanted == "an array of strings" {
            let texts =
                self.elements.iter().map(|element| element.text("an element is", "a string"));
            return texts.collect();
        }
        Ok(vec![self.text("is", wanted)?])
    }

    fn text(&self, is: &str, wanted: &str) -> Result<(String, String), SettingsError> {
        let kind = kind(&self.value);
        if kind != wanted {
            return Err(self.error(format_args!("{is} {kind}, not {wanted}")));
        }
        let text = self.value.as_str().map_or(self.value.to_string(), str::to_owned);
        Ok((format!("{}: {}", self.place, self.key), text))
    }

    /// An error about the value.
    pub fn error(&self, reason: impl Display) -> SettingsError {
        SettingsError::new(format!("{}: {}", self.place, self.key), reason)
    }

    /// An error about the key, which is not among the `known` ones: a list, empty for an engine
    /// without settings.
    pub fn unknown(&self, known: &str) -> SettingsError {
        let key = &self.key;
        let reason = match known {
            "" => format!("unknown key {key:?}, the engine has no settings"),
            known => format!("unknown key {key:?}, expected one of {known}"),
        };
        SettingsError::new(&self.place, reason)
    }

    /// The part of an entry that a path leads to: an element of its array, or all of it.
    fn at(&self, path: &serde_path_to_error::Path) -> &Self {
        match path.iter().nth(1) {
            Some(Segment::Seq { index }) => self.elements.get(*index).unwrap_or(self),
            _ => self,
        }
    }

    /// An error of `serde` in the words of all errors of settings.
    fn reword(&self, message: &str) -> SettingsError {
        let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
        let known = expected.trim_start_matches("one of ").replace('`', "");
        if found.starts_with("unknown field") {
            self.unknown(&known)
        } else if found.starts_with("unknown variant") {
            self.error(format_args!("{} is none of {known}", self.value))
        } else if found.starts_with("invalid type") {
            let expected = match expected {
                "i64" => "an integer",
                "string only" => "a string",
                "a sequence" => "an array",
                other => other,
            };
            self.error(format_args!("is {}, not {expected}", kind(&self.value)))
        } else {
            self.error(message)
        }
    }
}

impl<const MIN: u32, const MAX: u32> Within<MIN, MAX> {
    /// Parses a word. An error names the range, and the unit after it.
    pub fn parse(word: &str, unit: &str) -> Result<u32, String> {
        let wrong = |_| format!("{word:?} is not a whole number between {MIN} and {MAX}{unit}");
        Self::check(word.parse().map_err(wrong)?, unit)
    }

    fn check(wide: i128, unit: &str) -> Result<u32, String> {
        let number = u32::try_from(wide).ok().filter(|number| (MIN..=MAX).contains(number));
        number.ok_or_else(|| format!("{wide} is not between {MIN} and {MAX}{unit}"))
    }

    /// Deserializes a number, or one that may be absent.
    pub fn deserialize<'de, T: From<u32>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        let number = Self::check(i64::deserialize(from)?.into(), "");
        number.map(T::from).map_err(D::Error::custom)
    }

    /// Serializes a number as it is.
    pub fn serialize<S: Serializer>(value: &impl Serialize, to: S) -> Result<S::Ok, S::Error> {
        value.serialize(to)
    }
}

/// A value to check. No setting is a date or a table, nor a float, which stands for them: a string
/// field would take a date, and an enum a table.
fn checked(value: &Value) -> Value {
    match value {
        Value::Array(elements) => Value::Array(elements.iter().map(checked).collect()),
        Value::Datetime(_) | Value::Table(_) => Value::Float(0.0),
        other => other.clone(),
    }
}

fn kind(value: &Value) -> String {
    match value.type_str() {
        "datetime" => "a date or time".to_owned(),
        kind @ ("integer" | "array") => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

/// Checks an absolute directory, or [`OFF`] for no directory.
pub fn directory_or_off(text: &str) -> Result<Option<PathBuf>, String> {
    let path = (text != OFF).then(|| absolute_path(text)).transpose();
    path.map_err(|reason| format!("{reason}; {OFF:?} is for no directory"))
}

/// Serializes a directory, or [`OFF`].
pub fn or_off<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_deref().unwrap_or(Path::new(OFF)).serialize(serializer)
}

/// Checks an absolute path, and removes what means nothing in it (`//`, `/./`, a slash at the end).
pub fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if text.is_empty() {
        Err("is empty".to_owned())
    } else if text.contains('\0') {
        Err(format!("{text:?} contains a NUL byte"))
    } else if !path.is_absolute() {
        Err(format!("{text:?} is not an absolute path"))
    } else if path.components().any(|part| part == Component::ParentDir) {
        Err(format!("{text:?} contains \"..\", and what is before it may be a link"))
    } else {
        Ok(path.components().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_table_their_kind_and_their_line() {
        let text = "b = 1.5\na = 0x10\nc = []\n[e]\n\ng = false\nf = 'none'\n[x.y]\nz = 1";
        let raw = RawSettings::parse("f", text.as_bytes(), |_| true).unwrap();
        let shown = |entry: &Entry| format!("{}", entry.error(kind(&entry.value)));
        let shown: Vec<_> = raw.entries.iter().map(shown).collect();
        let wanted = "f:1: b: a float, f:2: a: an integer, f:3: c: an array, f:6: e.g: a boolean, \
            f:7: e.f: a string, f:8: x.y: a table";
        assert_eq!(shown.join(", "), wanted);
        let error = RawSettings::parse("f", b"a = 1\nb =\n", |_| true).unwrap_err().to_string();
        assert!(error.starts_with("f:2: "), "{error}");
    }

    #[test]
    fn unknown_key_is_told_with_the_known_ones_or_that_there_is_no_key() {
        #[derive(Debug, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        let raw = RawSettings::parse("f", b"[engine]\nx = 1", |_| true).unwrap();
        let no_settings = "f:2: unknown key \"engine.x\", the engine has no settings";
        assert_eq!(raw.read(&Nothing {}).unwrap_err().to_string(), no_settings);
        assert_eq!(raw.entries[0].unknown("").to_string(), no_settings);
        let some = "f:2: unknown key \"engine.x\", expected one of a, b";
        assert_eq!(raw.entries[0].unknown("a, b").to_string(), some);
    }
}
