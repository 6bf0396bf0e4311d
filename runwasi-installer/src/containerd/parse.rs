//! A file of containerd's configuration, reduced to what a decision needs, with lines.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::Error;

/// Names under which `disabled_plugins` switches the CRI off.
const CRI: [&str; 4] = [
    "cri",
    "io.containerd.grpc.v1.cri",
    "io.containerd.cri.v1.runtime",
    "io.containerd.cri.v1.images",
];

/// What a file says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Config {
    /// Whether it says anything.
    pub(crate) empty: bool,
    /// `version`, and its line.
    pub(crate) version: Option<(i64, usize)>,
    /// Entries of `imports`, and their lines.
    pub(crate) imports: Vec<(String, usize)>,
    /// Tables of runtimes, by plugin and name, and their lines.
    pub(crate) runtimes: Vec<(String, String, usize)>,
    /// The plugins it configures.
    pub(crate) plugins: Vec<String>,
    /// The line that switches the CRI off.
    pub(crate) cri_disabled: Option<usize>,
    /// containerd's state directory.
    pub(crate) state: Option<String>,
    /// containerd's socket.
    pub(crate) socket: Option<String>,
}

/// Reads a file's text; an error names its line.
pub(crate) fn parse(file: &str, text: &str) -> Result<Config, Error> {
    let document = DeTable::parse(text).map_err(|error| {
        let line = line(text, &error.span().unwrap_or_default());
        Error::config(file, line, format!("not TOML: {}", error.message()))
    })?;
    let table = document.get_ref();
    let wrong = |value: &Spanned<DeValue<'_>>, wanted: &str| {
        Err(Error::config(file, line(text, &value.span()), format!("is not {wanted}")))
    };
    let mut config = Config { empty: table.is_empty(), ..Config::default() };
    if let Some(value) = get(table, "version") {
        let DeValue::Integer(number) = value.get_ref() else { return wrong(value, "a number") };
        let number = i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(-1);
        config.version = Some((number, line(text, &value.span())));
    }
    if let Some(value) = get(table, "imports") {
        let Some(entries) = strings(value) else { return wrong(value, "a list of strings") };
        config.imports = lines(text, entries);
    }
    if let Some(value) = get(table, "disabled_plugins") {
        let Some(entries) = strings(value) else { return wrong(value, "a list of strings") };
        let found = entries.into_iter().find(|(name, _)| CRI.contains(&name.as_str()));
        config.cri_disabled = found.map(|(_, span)| line(text, &span));
    }
    config.state = get(table, "state").and_then(string);
    config.socket = socket(table);
    if let Some(plugins) = get(table, "plugins").and_then(inner) {
        config.plugins = plugins.keys().map(|name| name.get_ref().to_string()).collect();
        config.runtimes = plugins
            .iter()
            .flat_map(|(plugin, value)| runtimes(text, plugin.get_ref(), value))
            .collect();
    }
    Ok(config)
}

/// The line of a place, from 1 on.
pub(crate) fn line(text: &str, span: &Range<usize>) -> usize {
    let before = text.as_bytes().iter().take(span.start);
    before.filter(|byte| **byte == b'\n').count() + 1
}

fn lines(text: &str, entries: Vec<(String, Range<usize>)>) -> Vec<(String, usize)> {
    entries.into_iter().map(|(entry, span)| (entry, line(text, &span))).collect()
}

/// Names in `containerd.runtimes` of a plugin's table.
fn runtimes(
    text: &str,
    plugin: &str,
    value: &Spanned<DeValue<'_>>,
) -> Vec<(String, String, usize)> {
    let table = inner(value).and_then(|plugin| inner(get(plugin, "containerd")?));
    let table = table.and_then(|containerd| inner(get(containerd, "runtimes")?));
    let entries = table.into_iter().flat_map(|table| table.keys());
    let entry = |name: &Spanned<_>| (plugin.to_owned(), name_of(name), line(text, &name.span()));
    entries.map(entry).collect()
}

fn name_of(name: &Spanned<toml::de::DeString<'_>>) -> String {
    name.get_ref().to_string()
}

/// Where containerd listens; from version 4 on it is a setting of a plugin.
fn socket(table: &DeTable<'_>) -> Option<String> {
    let address = |table| get(table, "address").and_then(string);
    let plugin = || inner(get(inner(get(table, "plugins")?)?, "io.containerd.server.v1.grpc")?);
    get(table, "grpc").and_then(inner).and_then(address).or_else(|| plugin().and_then(address))
}

fn get<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
}

fn inner<'t, 'i>(value: &'t Spanned<DeValue<'i>>) -> Option<&'t DeTable<'i>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

fn string(value: &Spanned<DeValue<'_>>) -> Option<String> {
    match value.get_ref() {
        DeValue::String(text) => Some(text.to_string()),
        _ => None,
    }
}

fn strings(value: &Spanned<DeValue<'_>>) -> Option<Vec<(String, Range<usize>)>> {
    let DeValue::Array(entries) = value.get_ref() else { return None };
    entries.iter().map(|entry| Some((string(entry)?, entry.span()))).collect()
}
