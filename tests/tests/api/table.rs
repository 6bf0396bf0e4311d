//! The table "field and effect" of `docs/config-json.md`, compared with the fields of the OCI
//! runtime spec and with the tests.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::Spec;

use crate::{fields, schema};

const ACCEPTED: &str = "api::fields_without_a_meaning_for_a_guest_change_nothing";
const REFUSED: &str = "api::wrong_values_are_invalid_arguments";

/// A row: its fields, as `linux.seccomp`, its word, and its tests.
#[derive(Debug)]
struct Row {
    fields: Vec<String>,
    word: String,
    tests: Vec<String>,
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn rows() -> Result<Vec<Row>> {
    let text = fs::read_to_string(project().join("docs/config-json.md"))?;
    let mut rows = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [fields, word, effect, tests] = cells[..] else {
            anyhow::bail!("not four cells: {line}");
        };
        ensure!(!effect.is_empty() && !word.is_empty(), "an empty cell: {line}");
        rows.push(Row { fields: quoted(fields), word: word.to_owned(), tests: quoted(tests) });
    }
    Ok(rows)
}

/// True if a row of the table is about this field or one that contains it.
fn is_covered(rows: &[Row], field: &str) -> bool {
    let contains = |name: &String| {
        field
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    rows.iter().any(|row| row.fields.iter().any(contains))
}

/// As in the table, of a JSON pointer.
fn name_of(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// All Rust files below a directory.
fn sources(directory: &Path) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            text += &sources(&path)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path)?;
        }
    }
    Ok(text)
}

/// A case of a suite, as `files::CASE`, or a test of a file, as `bundle::hooks::TEST`.
fn exists(test: &str) -> Result<bool> {
    let (place, name) = test.rsplit_once("::").context("no path")?;
    let suite = project().join("tests/tests").join(place);
    if suite.is_dir() {
        let list = fs::read_to_string(suite.join("main.rs"))?;
        let is_listed = list.split_whitespace().any(|word| word.trim_end_matches(';') == name);
        if is_listed {
            return Ok(sources(&suite)?.contains(&format!("fn {name}(")));
        }
    }
    let file = project().join("runwasi-core/src").join(place.replace("::", "/") + ".rs");
    let text = fs::read_to_string(&file).with_context(|| format!("{test}: {}", file.display()))?;
    Ok(text.contains(&format!("fn {name}(")))
}

#[test]
fn every_field_of_the_spec_is_in_the_table() -> Result<()> {
    let rows = rows()?;
    let all = schema::fields::<Spec>()?;
    for known in ["process.args", "linux.resources.cpu.shares", "mounts.options", "hooks.poststop"]
    {
        ensure!(all.contains(known), "{known} is not found in the spec's types");
    }
    // A field is there itself, or all of its fields are.
    let has_fields = |field: &&String| all.iter().any(|one| one.starts_with(&format!("{field}.")));
    let missing: Vec<_> =
        all.iter().filter(|field| !has_fields(field) && !is_covered(&rows, field)).collect();
    ensure!(missing.is_empty(), "not in docs/config-json.md: {missing:#?}");
    Ok(())
}

#[test]
fn every_field_of_the_table_is_one_of_the_spec_and_there_once() -> Result<()> {
    let all = schema::fields::<Spec>()?;
    let mut seen = BTreeSet::new();
    for row in rows()? {
        for field in &row.fields {
            // A row can be about some values of a field: `linux.sysctl, net.*`.
            if all.contains(field) {
                seen.insert((field.clone(), row.fields.len(), row.word.clone()));
            }
        }
        ensure!(row.fields.first().is_some_and(|first| all.contains(first)), "unknown: {row:?}");
        let words = ["honoured", "accepted", "refused"];
        ensure!(words.iter().any(|word| row.word.starts_with(word)), "{row:?}");
    }
    ensure!(seen.len() > 50, "only {} fields in the table", seen.len());
    Ok(())
}

#[test]
fn every_row_of_the_table_names_tests_that_exist() -> Result<()> {
    for row in rows()? {
        ensure!(!row.tests.is_empty(), "no test: {row:?}");
        for test in &row.tests {
            ensure!(exists(test)?, "{test} is no test: {row:?}");
        }
    }
    Ok(())
}

/// True if a test sets this field, one that contains it, or one in it.
fn is_set(field: &str, cases: &[(&'static str, serde_json::Value)]) -> bool {
    cases.iter().any(|(pointer, value)| {
        let name = name_of(pointer);
        match field.strip_prefix(&name) {
            Some("") => true,
            Some(rest) => rest.starts_with('.') && contains(value, &rest[1..]),
            None => false,
        }
    })
}

/// True if a value has this field, in any element of its lists.
fn contains(value: &serde_json::Value, field: &str) -> bool {
    if let Some(elements) = value.as_array() {
        return elements.iter().any(|element| contains(element, field));
    }
    let (first, rest) = field.split_once('.').unwrap_or((field, ""));
    value.get(first).is_some_and(|inner| rest.is_empty() || contains(inner, rest))
}

#[test]
fn fields_of_accepted_and_refused_rows_are_set_by_their_tests() -> Result<()> {
    let refused: Vec<_> =
        fields::refused().into_iter().map(|(pointer, value, _)| (pointer, value)).collect();
    let accepted = fields::without_meaning();
    for row in rows()? {
        for (test, cases) in [(ACCEPTED, &accepted), (REFUSED, &refused)] {
            if !row.tests.iter().any(|named| named == test) {
                continue;
            }
            for field in &row.fields {
                let first = row.fields.first() == Some(field);
                let is_field = first || field.contains('.');
                ensure!(!is_field || is_set(field, cases), "{test} does not set {field}");
            }
        }
    }
    Ok(())
}
