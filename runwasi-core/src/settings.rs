//! An engine's settings as somebody has written them: keys and values with their places, not yet understood. Made of the
//! daemon's file and of containerd's runtime options, read by engines, which know the keys.

use std::fmt::{self, Display};

use toml::de::{DeTable, DeValue};

/// Keys with their values, in the order of their lines. The key of a table's entry is `table.key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawSettings {
    source: String,
    entries: Vec<Entry>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Value,
    line: usize,
}

/// The values that settings have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number; beyond 128 bits it is the largest or the smallest of them, and out of every range.
    Integer(i128),
    /// A string.
    Text(String),
    /// A kind of value that no setting has, by its name.
    Other(&'static str),
}

/// What is wrong with a setting, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}:{line}: {reason}")]
pub struct SettingsError {
    /// The file, or what else it was written in.
    pub source_name: String,
    /// Line, from 1.
    pub line: usize,
    /// The key, and what is wrong with it.
    pub reason: String,
}

impl RawSettings {
    /// Takes a whole document apart. Tables in tables are values of no setting.
    pub fn parse(source: &str, text: &str) -> Result<Self, SettingsError> {
        let table = DeTable::parse(text).map_err(|error| SettingsError {
            source_name: source.to_owned(),
            line: line_of(text.as_bytes(), error.span().map_or(text.len(), |span| span.start)),
            reason: error.message().to_owned(),
        })?;
        let mut written = Self { source: source.to_owned(), entries: Vec::new() };
        for (key, value) in table.into_inner() {
            match value.get_ref() {
                DeValue::Table(table) => written.add_table(text, key.get_ref(), table),
                _ => {
                    written.add(text, key.get_ref().to_string(), key.span().start, value.get_ref())
                }
            }
        }
        written.sort();
        Ok(written)
    }

    /// Takes one table of a document whose `text` is known.
    pub fn of_table(source: &str, text: &str, name: &str, table: &DeTable<'_>) -> Self {
        let mut written = Self { source: source.to_owned(), entries: Vec::new() };
        written.add_table(text, name, table);
        written.sort();
        written
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What is set.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// An error in the line of an entry; its text begins with the key.
    pub fn wrong(&self, entry: &Entry, reason: impl Display) -> SettingsError {
        let reason = format!("{}: {reason}", entry.key);
        SettingsError { source_name: self.source.clone(), line: entry.line, reason }
    }

    /// An error for a key that is none.
    pub fn unknown(&self, entry: &Entry, known: &str) -> SettingsError {
        let reason = format!("unknown key {:?}, expected one of {known}", entry.key);
        SettingsError { source_name: self.source.clone(), line: entry.line, reason }
    }

    /// Keeps the entries whose keys are wanted.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.entries.retain(|entry| wanted(&entry.key));
    }

    fn add_table(&mut self, text: &str, name: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            self.add(text, format!("{name}.{}", key.get_ref()), key.span().start, value.get_ref());
        }
    }

    fn add(&mut self, text: &str, key: String, start: usize, value: &DeValue<'_>) {
        self.entries.push(Entry {
            key,
            value: Value::of(value),
            line: line_of(text.as_bytes(), start),
        });
    }

    /// In the order of the lines: who corrects one error after another goes down the file.
    fn sort(&mut self) {
        self.entries.sort_by_key(|entry| entry.line);
    }
}

impl Value {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::Boolean(value) => Self::Boolean(*value),
            DeValue::Integer(integer) => {
                let beyond = if integer.as_str().starts_with('-') { i128::MIN } else { i128::MAX };
                Self::Integer(
                    i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(beyond),
                )
            }
            DeValue::String(text) => Self::Text(text.to_string()),
            other => Self::Other(kind(other)),
        }
    }

    /// The kind of value, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Text(_) => "a string",
            Self::Other(kind) => kind,
        }
    }
}

/// As TOML has it.
impl Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => f.write_str(&quoted(text)),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// The kind of a TOML value, for messages.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A basic string of TOML: in it, quotes, backslashes and control characters are escaped.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                quoted.push_str(&format!("\\u{:04X}", u32::from(control)))
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}

/// The line, from 1, in which this byte is.
pub fn line_of(bytes: &[u8], index: usize) -> usize {
    1 + bytes[..index.min(bytes.len())].iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_table_and_their_line() {
        let written =
            RawSettings::parse("f", "slots = 0x10\n[engine]\n\ngc = false\noptimise = 'none'\n")
                .unwrap();
        let read: Vec<_> = written
            .entries()
            .iter()
            .map(|entry| (entry.key.as_str(), &entry.value, entry.line))
            .collect();
        let [slots, gc, optimise] =
            [Value::Integer(16), Value::Boolean(false), Value::Text("none".into())];
        assert_eq!(
            read,
            [("slots", &slots, 1), ("engine.gc", &gc, 4), ("engine.optimise", &optimise, 5)]
        );
        assert_eq!(written.wrong(&written.entries()[1], "no").to_string(), "f:4: engine.gc: no");
    }

    #[test]
    fn what_is_no_setting_has_a_kind() {
        let written = RawSettings::parse("f", "a = 1.5\nb = []\n[c.d]\ne = 1\n").unwrap();
        let kinds: Vec<_> = written
            .entries()
            .iter()
            .map(|entry| (entry.key.as_str(), entry.value.kind()))
            .collect();
        assert_eq!(kinds, [("a", "a float"), ("b", "an array"), ("c.d", "a table")]);
    }

    #[test]
    fn a_syntax_error_names_its_line() {
        let error = RawSettings::parse("f", "a = 1\nb =\n").unwrap_err().to_string();
        assert!(error.starts_with("f:2: "), "{error}");
    }

    #[test]
    fn numbers_beyond_all_ranges_stay_there() {
        let text = format!("a = {}\nb = -{}", "9".repeat(60), "9".repeat(60));
        let written = RawSettings::parse("f", &text);
        // Whether the parser takes them is its own affair; if it does, they are no small numbers.
        for entry in written.iter().flat_map(RawSettings::entries) {
            assert!(matches!(entry.value, Value::Integer(i128::MAX | i128::MIN)), "{entry:?}");
        }
    }
}
