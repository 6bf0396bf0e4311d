//! References of the documentation to files of the repository: each must lead to one.
//!
//! Read are Markdown files and the heads (`//!`) of Rust files. A reference is a relative link, with
//! the heading after its `#`, or a name in backticks that looks like a file: a path below an entry
//! of the root, or a name that ends with `.rs`. Examples in fences are left out. The head of a
//! `lib.rs` also has to name every module that the file declares, and the first cells of its table
//! no others.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use syn::Item;

use crate::source::{Source, is_test};

/// Folders that are not the repository's: products, and the history.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// A reference without its file, heading or module.
pub(crate) struct Dangling {
    path: PathBuf,
    line: usize,
    reference: String,
    missing: &'static str,
}

/// All references of the project below `root` that lead nowhere, by file and line.
pub(crate) fn dangling(root: &Path, crates: &[Vec<Source>]) -> Result<Vec<Dangling>> {
    let tree = Tree::read(root)?;
    let mut found = Vec::new();
    for path in &tree.files {
        let is_rust = match path.extension().and_then(|extension| extension.to_str()) {
            Some("md") => false,
            Some("rs") => true,
            _ => continue,
        };
        let text = tree.text(path)?;
        let lines = if is_rust { head(&text) } else { prose(&text) };
        for (line, text) in lines {
            for (reference, missing) in tree.dangling_in(path, text)? {
                found.push(Dangling { path: path.clone(), line, reference, missing });
            }
        }
    }
    found.extend(crates.iter().flatten().flat_map(wrong_modules));
    Ok(found)
}

/// The modules of a `lib.rs` that its head does not name, and those in its table that are none.
fn wrong_modules(source: &Source) -> Vec<Dangling> {
    if !source.path.ends_with("src/lib.rs") {
        return Vec::new();
    }
    let dangling = |line, reference: &str, missing| Dangling {
        path: source.path.clone(),
        line,
        reference: reference.to_owned(),
        missing,
    };
    let modules = source.syntax.items.iter().filter_map(|item| match item {
        Item::Mod(module) if !is_test(&module.attrs) => Some(module.ident.clone()),
        _ => None,
    });
    let modules: Vec<_> = modules.collect();
    let head: Vec<_> = source.production_lines().filter(|(_, line)| is_head(line)).collect();
    let named: Vec<_> = head.iter().flat_map(|(_, line)| in_backticks(line)).collect();
    let unnamed = modules.iter().filter(|module| !named.iter().any(|name| *module == name));
    let unnamed = unnamed.map(|module| {
        let line = module.span().start().line;
        dangling(line, &module.to_string(), "name of this module in the head of the file")
    });
    let rows = head.iter().filter_map(|(line, text)| {
        let cells = text.strip_prefix("//! |")?;
        Some((*line, cells.split('|').next()?))
    });
    let listed = rows.flat_map(|(line, cell)| in_backticks(cell).map(move |name| (line, name)));
    let others = listed.filter(|(_, name)| !modules.iter().any(|module| module == name));
    let others = others.map(|(line, name)| dangling(line, name, "module"));
    unnamed.chain(others).collect()
}

/// The files of the repository, relative to its root.
struct Tree {
    root: PathBuf,
    files: BTreeSet<PathBuf>,
}

impl Tree {
    fn read(root: &Path) -> Result<Self> {
        let mut tree = Self { root: root.to_owned(), files: BTreeSet::new() };
        tree.add(Path::new(""))?;
        Ok(tree)
    }

    fn add(&mut self, folder: &Path) -> Result<()> {
        let path = self.root.join(folder);
        for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if !entry.file_type()?.is_dir() {
                self.files.insert(path);
            } else if !LEFT_OUT.iter().any(|name| entry.file_name() == *name) {
                self.add(&path)?;
            }
        }
        Ok(())
    }

    fn text(&self, path: &Path) -> Result<String> {
        fs::read_to_string(self.root.join(path)).with_context(|| path.display().to_string())
    }

    /// The presence of a file, or of a folder with files.
    fn has(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file.starts_with(path))
    }

    /// The references of one line that lead nowhere, with what is missing.
    fn dangling_in(&self, path: &Path, line: &str) -> Result<Vec<(String, &'static str)>> {
        let mut found = Vec::new();
        for link in links(line) {
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = match target {
                "" => path.to_owned(),
                target => beside(path, target),
            };
            if !self.has(&file) {
                found.push((link.to_owned(), "file"));
            } else if !heading.is_empty() && !has_heading(&self.text(&file)?, heading) {
                found.push((link.to_owned(), "heading"));
            }
        }
        for name in in_backticks(line).filter(|name| self.is_missing(name)) {
            found.push((name.to_owned(), "file"));
        }
        Ok(found)
    }

    /// A name that looks like a file of the repository, without one.
    fn is_missing(&self, name: &str) -> bool {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-/".contains(letter);
        let path = Path::new(name);
        if !name.chars().all(plain) || path.is_absolute() {
            return false;
        }
        match name.split_once('/') {
            Some((first, _)) if self.has(Path::new(first)) => !self.has(path),
            _ if path.extension().is_some_and(|extension| extension == "rs") => {
                !self.files.iter().any(|file| file.ends_with(path))
            }
            _ => false,
        }
    }
}

/// The path of a link in the file `path`.
fn beside(path: &Path, link: &str) -> PathBuf {
    let mut target = path.parent().unwrap_or(Path::new("")).to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(target.pop()),
            Component::CurDir => {}
            part => target.push(part),
        }
    }
    target
}

/// Numbered lines of a Markdown text outside its fences.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line));
        }
    }
    lines
}

/// Numbered lines of the head of a Rust text.
fn head(text: &str) -> Vec<(usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered.filter(|(_, line)| is_head(line)).collect()
}

fn is_head(line: &str) -> bool {
    line.starts_with("//!")
}

/// The targets of links that are files: neither addresses nor paths of Rust.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let inline = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    let targets = inline.chain(definition.map(|(_, target)| target));
    targets.filter(|target| !target.contains(':') && target.contains(['/', '.', '#']))
}

fn in_backticks(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The presence of a heading with this name in links.
fn has_heading(text: &str, wanted: &str) -> bool {
    let headings = prose(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| link_name(line.trim_start_matches('#'))).any(|name| name == wanted)
}

/// The name of a heading in links: small letters, and `-` for spaces.
fn link_name(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    let letters = heading.trim().chars().filter(kept).flat_map(char::to_lowercase);
    letters.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

impl Display for Dangling {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { path, line, reference, missing } = self;
        write!(f, "{}:{line}: {reference}: no {missing}", path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::{sources, write_crate};

    /// The dangling references of a project with these files below `x/src`, and one `README.md`
    /// at its root.
    fn found(readme: &str, files: &[(&str, &str)]) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("README.md"), readme).unwrap();
        write_crate(root.path(), "x", files);
        let found = dangling(root.path(), &[]).unwrap();
        found.iter().map(Dangling::to_string).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn names_that_lead_to_files_and_folders_pass() {
        let readme = "`x/src/a.rs`, `x/src`, `x/`, `a.rs`, `src/a.rs`, [a](x/src/a.rs), [b][b]\n\
            # The `a` file, again\n[own](#the-a-file-again), [it](README.md#the-a-file-again)\n\
            [b]: x/src/a.rs\n";
        assert_eq!(found(readme, &[("a.rs", "//! `a.rs`; [up](../../README.md).\n")]), NONE);
    }

    #[test]
    fn names_of_missing_files_are_found_with_their_lines() {
        let readme = "\n`x/src/b.rs` and `c.rs`\n[d](x/d.md)\n[e]: e.md\n";
        let rust = "//! As `x/y`.\n//! [f](../f.md)\nfn f() {} // `z.rs`\n";
        let expected = [
            "README.md:2: x/src/b.rs: no file",
            "README.md:2: c.rs: no file",
            "README.md:3: x/d.md: no file",
            "README.md:4: e.md: no file",
            "x/src/a.rs:1: x/y: no file",
            "x/src/a.rs:2: ../f.md: no file",
        ];
        assert_eq!(found(readme, &[("a.rs", rust)]), expected);
    }

    #[test]
    fn missing_headings_are_found() {
        let expected = ["README.md:1: #c: no heading", "README.md:1: README.md#d: no heading"];
        assert_eq!(found("[c](#c) [d](README.md#d)\n```\n# c\n```\n# b\n", &[]), expected);
    }

    #[test]
    fn other_names_addresses_and_examples_are_no_references() {
        let readme = "`/etc/hosts`, `pkg/io.go`, `x/<name>.rs`, `config.toml`, `a/b`, `--x/y`\n\
            [a](https://example.com/a.md#b) [b](crate::b)\n```\n`x/none.rs`\n```\n";
        assert_eq!(found(readme, &[("a.rs", "")]), NONE);
    }

    #[test]
    fn files_of_targets_and_history_are_not_read() {
        let root = tempfile::tempdir().unwrap();
        for folder in LEFT_OUT {
            write_crate(root.path(), folder, &[("a.rs", "//! `none.rs`\n")]);
        }
        assert!(dangling(root.path(), &[]).unwrap().is_empty());
    }

    #[test]
    fn head_of_lib_names_all_modules_and_its_table_no_others() {
        let text = "//! | module | `e` |\n//! | `a`, [`b`] | `f` |\n//! | `d` | |\n\n\
            mod a;\npub mod b;\nmod c;\n#[cfg(test)]\nmod tests;\n";
        let files = [("lib.rs", text), ("a.rs", "mod d;"), ("b.rs", ""), ("c.rs", "")];
        let found: Vec<_> = sources(&files).iter().flat_map(wrong_modules).collect();
        let found: Vec<_> = found.iter().map(Dangling::to_string).collect();
        let expected = [
            "x/src/lib.rs:7: c: no name of this module in the head of the file",
            "x/src/lib.rs:3: d: no module",
        ];
        assert_eq!(found, expected);
    }
}
