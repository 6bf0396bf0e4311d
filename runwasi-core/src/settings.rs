//! Settings of a TOML document, each with its place, deserialized into typed structs.
//!
//! Errors name the place, the key, the value and what is allowed: `FILE:LINE: KEY: …`.

use std::{
    fmt::Display,
    iter,
    path::{Component, Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error, IntoDeserializer},
};
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
    /// The places of an array's elements.
    elements: Vec<String>,
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
        let entry = |prefix: &str, key: &Spanned<_>, value: &Spanned<DeValue<'_>>| {
            let elements = value.get_ref().as_array().into_iter().flatten();
            let elements = elements.map(|element| place(element.span().start)).collect();
            let key_text = format!("{prefix}{}", key.get_ref());
            let place = place(key.span().start);
            match Value::deserialize(value.clone().into_deserializer()) {
                Ok(value) => Ok(Entry { key: key_text, value, place, elements }),
                // Nothing else that TOML allows is too much for `Value`.
                Err(_) => {
                    let reason = format_args!("{} is beyond 64 bits", &text[value.span()]);
                    Err(SettingsError::new(format!("{place}: {key_text}"), reason))
                }
            }
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
            // Alone at first: an error is then known to be about this entry, or this element of it.
            for (value, part) in entry.parts() {
                let alone = Table::from_iter([(entry.key.clone(), value)]);
                alone.try_into::<T>().map_err(|error| part.reword(error.message()))?;
            }
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
        let place = |place: &String| format!("{place}: {}", self.key);
        let element = |(value, at): (&Value, &String)| match value.as_str() {
            Some(text) => Ok((place(at), text.to_owned())),
            None => {
                let reason = format_args!("an element is {}, not a string", kind(value));
                Err(SettingsError::new(place(at), reason))
            }
        };
        match &self.value {
            Value::Array(elements) if wanted == "an array of strings" => {
                elements.iter().zip(&self.elements).map(element).collect()
            }
            value if kind(value) == wanted => {
                let text = value.as_str().map_or(value.to_string(), str::to_owned);
                Ok(vec![(place(&self.place), text)])
            }
            value => Err(self.error(format_args!("is {}, not {wanted}", kind(value)))),
        }
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

    /// Checked parts of the value, each with the entry that an error is about: the value itself, or
    /// of an array an empty one and each element.
    fn parts(&self) -> Vec<(Value, Self)> {
        if !self.value.is_array() {
            return vec![(checked(&self.value), self.clone())];
        }
        let empty = (Value::Array(Vec::new()), self.clone());
        let of_element = |element: Self| (Value::Array(vec![checked(&element.value)]), element);
        iter::once(empty).chain(self.elements().map(of_element)).collect()
    }

    /// The elements of an array, each with its place.
    fn elements(&self) -> impl Iterator<Item = Self> {
        let values = self.value.as_array().into_iter().flatten().zip(&self.elements);
        values.map(|(value, place)| Self {
            key: self.key.clone(),
            value: value.clone(),
            place: place.clone(),
            elements: Vec::new(),
        })
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
