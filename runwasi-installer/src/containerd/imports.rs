//! The files that a configuration imports, in the order in which containerd merges them.

use std::path::Path;

use super::parse::{Config, parse};
use crate::Error;
use crate::root::Root;

/// The name of a file of our own in an imported directory.
pub(crate) const DROP_IN: &str = "runwasi.toml";

/// A file of the configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Its path on the host.
    pub(crate) file: String,
    /// What it says.
    pub(crate) config: Config,
}

/// The file and all it imports. `text` gives what counts of a file.
pub(crate) fn load(
    root: &Root,
    main: &str,
    text: impl Fn(&str, &str) -> Result<String, Error>,
) -> Result<Vec<Loaded>, Error> {
    let mut loaded: Vec<Loaded> = Vec::new();
    let mut pending = vec![main.to_owned()];
    while !pending.is_empty() {
        let file = pending.remove(0);
        if loaded.iter().any(|one| one.file == file) {
            continue;
        }
        // One that is named and not there is an error of containerd, which does not run then.
        let Some(whole) = root.read_text(&file)? else { continue };
        let text = text(&file, &whole)?;
        let config = parse(&file, &text)?;
        for (pattern, line) in &config.imports {
            pending.extend(files(root, &file, pattern, *line)?);
        }
        loaded.push(Loaded { file, config });
    }
    Ok(loaded)
}

/// The directory of an import that takes a file `runwasi.toml`.
pub(crate) fn directory(file: &str, config: &Config) -> Option<String> {
    let of = |pattern: &str| {
        let (directory, names) = split(file, pattern)?;
        (!wild(&directory) && wild(&names) && matches(&names, DROP_IN)).then_some(directory)
    };
    config.imports.iter().find_map(|(pattern, _)| of(pattern))
}

fn files(root: &Root, file: &str, pattern: &str, line: usize) -> Result<Vec<String>, Error> {
    let unknown =
        || Error::config(file, line, format!("cannot tell what the import {pattern:?} names"));
    let (directory, names) = split(file, pattern).ok_or_else(unknown)?;
    if wild(&directory) || names.contains(['[', '\\']) {
        return Err(unknown());
    }
    if !wild(&names) {
        return Ok(vec![format!("{directory}/{names}")]);
    }
    let all = root.list(&directory)?;
    let ours = all.into_iter().filter(|name| matches(&names, name));
    Ok(ours.map(|name| format!("{directory}/{name}")).collect())
}

/// Directory and last part of an import; a relative one is relative to the file.
fn split(file: &str, pattern: &str) -> Option<(String, String)> {
    let whole = Path::new(file).parent()?.join(pattern);
    let directory = whole.parent()?.to_str()?.trim_end_matches('/').to_owned();
    Some((directory, whole.file_name()?.to_str()?.to_owned()))
}

fn wild(part: &str) -> bool {
    part.contains(['*', '?', '[', '\\'])
}

/// Go's `filepath.Match`, for `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => name.is_empty(),
        Some('*') => {
            let rest = letters.as_str();
            (0..=name.len())
                .filter(|at| name.is_char_boundary(*at))
                .any(|at| matches(rest, &name[at..]))
        }
        Some(letter) => {
            let mut others = name.chars();
            let other = others.next();
            other.is_some_and(|other| letter == '?' || letter == other)
                && matches(letters.as_str(), others.as_str())
        }
    }
}
