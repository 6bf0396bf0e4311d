//! Messages that the documentation quotes: each must be a text of the programs.
//!
//! Quoted are the first cells of the tables in `docs/troubleshooting.md`, in backticks. What varies
//! stands there as `…`, in capitals or as a path. The rest must be in string literals of the sources, or of the
//! tests for a text of a dependency. A sentence that a program puts together of parts may be found in
//! up to three of them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};

const DOCUMENT: &str = "docs/troubleshooting.md";
/// Folders whose Rust files have texts of the programs, or quote those of dependencies.
const FOLDERS: [&str; 5] =
    ["runwasi-core", "runwasi-wasmtime", "runwasi-daemon", "runwasi-installer", "tests/tests"];
/// Messages of wasmtime that programs pass on, and of containerd.
const OF_OTHERS: [&str; 3] = [
    "The component transitively contains",
    "core module instances",
    "failed to get runtime v2 options: can't unmarshal type",
];
/// Texts that a program puts together of more parts are not told from chance.
const PARTS: usize = 3;

/// A quoted message that no program has.
pub(crate) struct Unknown {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// All messages of the document that are in no source below `root`.
pub(crate) fn unknown(root: &Path) -> Result<Vec<Unknown>> {
    let path = root.join(DOCUMENT);
    let document = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let mut literals: Vec<_> = OF_OTHERS.map(str::to_owned).into();
    for folder in FOLDERS {
        read(&root.join(folder), &mut literals)?;
    }
    let quoted = quoted(&document).into_iter();
    let unknown = quoted.filter(|(_, text)| !is_known(text, &literals));
    Ok(unknown.map(|(line, text)| Unknown { line, text: text.to_owned() }).collect())
}

/// The messages of the document, with their lines.
fn quoted(document: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (index, line) in document.lines().enumerate() {
        let Some(cell) = line.strip_prefix("| ").and_then(|line| line.split(" | ").next()) else {
            continue;
        };
        found.extend(cell.split('`').skip(1).step_by(2).map(|text| (index + 1, text)));
    }
    found
}

/// Adds the string literals of all Rust files below `folder`.
fn read(folder: &Path, literals: &mut Vec<String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, literals)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path);
            let text = text.with_context(|| path.display().to_string())?;
            if let Ok(tokens) = text.parse() {
                collect(tokens, literals);
            }
        }
    }
    Ok(())
}

/// Adds the string literals of these tokens, macros and attributes included. Documentation is none.
fn collect(tokens: TokenStream, literals: &mut Vec<String>) {
    let mut is_doc = false;
    for token in tokens {
        match token {
            TokenTree::Group(group) => collect(group.stream(), literals),
            TokenTree::Ident(word) => is_doc = word == "doc",
            TokenTree::Literal(literal) if !is_doc => {
                let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                literals.extend(text.ok().map(|text| text.value()));
            }
            TokenTree::Literal(_) | TokenTree::Punct(_) => {}
        }
    }
}

/// What does not vary of the message is in the literals.
fn is_known(message: &str, literals: &[String]) -> bool {
    let parts = constant_parts(message);
    parts.iter().all(|part| in_parts(part, literals, PARTS))
}

/// The parts of a message that do not vary, of more than three characters.
fn constant_parts(message: &str) -> Vec<String> {
    let is_variable = |word: &str| {
        let letters = word.trim_matches(|letter: char| !letter.is_alphanumeric());
        let upper = |letter: char| letter.is_ascii_uppercase() || "_:0123456789".contains(letter);
        word.contains(['…', '['])
            || word.starts_with('/')
            || !letters.is_empty() && letters.chars().all(upper)
    };
    let mut parts = vec![String::new()];
    for word in message.split(' ') {
        if is_variable(word) {
            parts.push(String::new());
        } else if let Some(part) = parts.last_mut() {
            part.push_str(if part.is_empty() { "" } else { " " });
            part.push_str(word);
        }
    }
    let trimmed = parts
        .iter()
        .map(|part| part.trim_matches(|letter: char| !letter.is_alphanumeric()).to_owned());
    trimmed.filter(|part| part.len() > 3).collect()
}

/// The text is in one literal, or its words are, one after the other, in `most` of them.
fn in_parts(text: &str, literals: &[String], most: usize) -> bool {
    let is_in = |part: &str| {
        let part = part.trim_matches(|letter: char| !letter.is_alphanumeric());
        literals.iter().any(|literal| literal.contains(part))
    };
    if is_in(text) {
        return true;
    }
    if most == 1 {
        return false;
    }
    let spaces = text.match_indices(' ').map(|(at, _)| at);
    spaces.rev().any(|at| is_in(&text[..at]) && in_parts(text[at..].trim(), literals, most - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(source: &str) -> Vec<String> {
        let mut literals = Vec::new();
        collect(source.parse().unwrap(), &mut literals);
        literals
    }

    #[test]
    fn texts_of_macros_and_attributes_are_literals_and_docs_are_none() {
        let source = "/// Not this.\n#[error(\"no file {0}\")] struct A;\n\
            fn f() { warn!(\"a \\\n    b\"); let c = r\"c\"; }";
        assert_eq!(literals(source), ["no file {0}", "a b", "c"]);
    }

    #[test]
    fn messages_are_the_first_cells_of_tables() {
        let document = "`no`\n| `a b`, `c` | `d` |\n| in the log: `e` | |\n";
        assert_eq!(quoted(document), [(2, "a b"), (2, "c"), (3, "e")]);
    }

    #[test]
    fn what_varies_is_left_out() {
        let parts = constant_parts("FILE:LINE: unknown key …, expected one of N (later)");
        assert_eq!(parts, ["unknown key", "expected one of", "later"]);
    }

    #[test]
    fn message_of_one_or_several_literals_is_known_and_another_is_not() {
        let literals = ["out of {what}: {why}", "linear memories", "too few"].map(str::to_owned);
        assert!(is_known("out of linear memories: …", &literals));
        assert!(is_known("too few", &literals));
        assert!(!is_known("out of tables: …", &literals));
        assert!(!is_known("too many", &literals));
    }

    #[test]
    fn unknown_messages_are_found_with_their_lines() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("docs")).unwrap();
        fs::create_dir_all(root.path().join("runwasi-core/src")).unwrap();
        fs::write(root.path().join(DOCUMENT), "\n| `it is so` | |\n| `it is gone` | |\n").unwrap();
        fs::write(root.path().join("runwasi-core/src/a.rs"), "f(\"it is so\");").unwrap();
        let found = unknown(root.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].line, found[0].text.as_str()), (3, "it is gone"));
    }
}
