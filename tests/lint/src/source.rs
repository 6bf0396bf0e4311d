//! The source files of a crate, parsed, and their test code.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use proc_macro2::Span;
use syn::{Attribute, Item, ItemMod, Meta};

/// One file below a crate's `src`.
pub(crate) struct Source {
    /// Relative to the project's root.
    pub(crate) path: PathBuf,
    /// Module path without `crate`; empty for `lib.rs`.
    pub(crate) module: Vec<String>,
    pub(crate) kind: Kind,
    pub(crate) syntax: syn::File,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Library,
    /// `main.rs` and `bin/`: the root of another crate, which no file of the library can import.
    Program,
    /// Declared by `#[cfg(test)] mod name;`, or below such a module.
    Test,
}

impl Source {
    /// Line numbers and lines, without the bodies of `#[cfg(test)] mod name { … }`.
    pub(crate) fn production_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests: Vec<_> = modules_of_tests(&self.syntax).filter_map(lines_of).collect();
        let numbered = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        numbered.filter(move |(number, _)| !tests.iter().any(|lines| lines.contains(number)))
    }
}

/// All sources of the crate in the folder `name` of the project, sorted by path.
pub(crate) fn read_crate(root: &Path, name: &str) -> Result<Vec<Source>> {
    let folder = root.join(name).join("src");
    let mut paths = Vec::new();
    find(&folder, &mut paths)?;
    paths.sort();
    ensure!(!paths.is_empty(), "{} has no Rust sources", folder.display());
    let mut sources = Vec::new();
    for path in paths {
        let source = read(root, &folder, &path);
        sources.push(source.with_context(|| path.display().to_string())?);
    }
    mark_test_files(&mut sources);
    Ok(sources)
}

/// Adds the `.rs` files below `folder`.
fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

fn read(root: &Path, folder: &Path, path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path)?;
    let syntax = syn::parse_file(&text).map_err(|error| {
        let start = error.span().start();
        anyhow::anyhow!("{}:{}: {error}", start.line, start.column + 1)
    })?;
    let module = module_path(path.strip_prefix(folder)?);
    let kind = match module.first().map(String::as_str) {
        Some("main" | "bin") => Kind::Program,
        _ => Kind::Library,
    };
    Ok(Source { path: path.strip_prefix(root)?.to_owned(), module, kind, syntax, text })
}

/// `a/b.rs` and `a/b/mod.rs` are the module `a::b`.
fn module_path(file: &Path) -> Vec<String> {
    let stem = file.with_extension("");
    let mut module: Vec<_> = stem.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module == ["lib"] || module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

fn mark_test_files(sources: &mut [Source]) {
    let mut tests = Vec::new();
    for source in &*sources {
        for declared in modules_of_tests(&source.syntax).filter(|module| module.content.is_none()) {
            tests.push([&source.module[..], &[declared.ident.to_string()]].concat());
        }
    }
    for source in sources {
        if tests.iter().any(|test| source.module.starts_with(test)) {
            source.kind = Kind::Test;
        }
    }
}

fn modules_of_tests(syntax: &syn::File) -> impl Iterator<Item = &ItemMod> {
    let modules = syntax.items.iter().filter_map(|item| match item {
        Item::Mod(module) => Some(module),
        _ => None,
    });
    modules.filter(|module| is_test(&module.attrs))
}

/// The presence of `#[cfg(test)]`.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// From a test module's first attribute to its closing brace.
fn lines_of(module: &ItemMod) -> Option<RangeInclusive<usize>> {
    let line = |span: Span| span.start().line;
    let (braces, _) = module.content.as_ref()?;
    let attribute = module.attrs.first()?;
    Some(line(attribute.pound_token.span)..=line(braces.span.close()))
}

#[cfg(test)]
pub(crate) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A project with one crate named `x`, of these files below its `src`.
    fn project(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        write_crate(root.path(), "x", files);
        root
    }

    pub(crate) fn write_crate(root: &Path, name: &str, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = root.join(name).join("src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    pub(crate) fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        read_crate(project(files).path(), "x").unwrap()
    }

    #[test]
    fn module_paths_follow_the_files() {
        let files = ["lib.rs", "a.rs", "a/b.rs", "a/mod.rs", "a/b/mod.rs"];
        let modules = files.map(|file| module_path(Path::new(file)).join("::"));
        assert_eq!(modules, ["", "a", "a::b", "a", "a::b"]);
    }

    /// The kind of each file, by path.
    fn kinds(files: &[(&str, &str)]) -> Vec<Kind> {
        sources(files).iter().map(|source| source.kind).collect()
    }

    #[test]
    fn files_declared_for_tests_are_left_out() {
        let root = ("lib.rs", "#[cfg(test)] mod checks; mod tests;");
        let files = [("checks.rs", ""), ("checks/a.rs", ""), root, ("tests.rs", "")];
        assert_eq!(kinds(&files), [Kind::Test, Kind::Test, Kind::Library, Kind::Library]);
    }

    #[test]
    fn programs_are_no_part_of_the_library() {
        let files = [("bin/p.rs", ""), ("lib.rs", ""), ("main.rs", "")];
        assert_eq!(kinds(&files), [Kind::Program, Kind::Library, Kind::Program]);
    }

    #[test]
    fn bodies_of_test_modules_are_no_production() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let sources = sources(&[("lib.rs", text)]);
        let lines: Vec<_> = sources[0].production_lines().collect();
        assert_eq!(lines, [(1, "fn a() {}"), (2, ""), (7, "fn c() {}")]);
    }

    #[test]
    fn syntax_errors_name_file_and_line() {
        let project = project(&[("lib.rs", "fn a() {}\nfn {")]);
        let error = format!("{:#}", read_crate(project.path(), "x").err().unwrap());
        assert!(error.contains("x/src/lib.rs: 2:"), "{error}");
    }

    #[test]
    fn crate_without_sources_is_an_error() {
        let project = project(&[("notes.txt", "")]);
        let error = read_crate(project.path(), "x").err().unwrap().to_string();
        assert!(error.ends_with("x/src has no Rust sources"), "{error}");
        assert!(read_crate(project.path(), "y").is_err());
    }
}
