//! The binary `runwasi-lint`: checks of the sources and the documentation that neither rustfmt nor
//! clippy has.
//!
//! Prints what it finds, and exits with 1 if a check fails, with 2 if it cannot read the sources.

mod circles;
mod imports;
mod language;
mod references;
mod source;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::circles::circles;
use crate::language::{Figure, Language};
use crate::references::dangling;
use crate::source::{Source, read_crate};

const USAGE: &str = "\
usage: runwasi-lint [--list] [CHECK...]

Run it in the project's root. Without CHECK, all are made:
  circles      files of a crate that import each other, and the lines that import
  language     figures of comments and code lines, with their bounds; --list shows the lines
  references   files, headings and modules that the documentation names and that are not there
";

const CRATES: [&str; 3] = ["runwasi-core", "runwasi-wasmtime", "runwasi-daemon"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    help: bool,
    list: bool,
    /// All checks if it is empty.
    checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Circles,
    Language,
    References,
}

fn main() -> ExitCode {
    let options = Options::parse(std::env::args_os().skip(1));
    let passes = options.and_then(|options| run(&options, Path::new("."), &mut io::stdout()));
    match passes {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // With stderr closed there is no place left for the message.
            drop(writeln!(io::stderr(), "runwasi-lint: {error:#}"));
            ExitCode::from(2)
        }
    }
}

impl Options {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("help") | Short('h') => options.help = true,
                Long("list") => options.list = true,
                Value(check) if check == "circles" => options.checks.push(Check::Circles),
                Value(check) if check == "language" => options.checks.push(Check::Language),
                Value(check) if check == "references" => options.checks.push(Check::References),
                Value(other) => bail!("{other:?} is not a check\n{USAGE}"),
                _ => return Err(argument.unexpected().into()),
            }
        }
        Ok(options)
    }

    fn makes(&self, check: Check) -> bool {
        self.checks.is_empty() || self.checks.contains(&check)
    }
}

/// Makes the checks; true if all pass.
fn run(options: &Options, root: &Path, out: &mut impl Write) -> Result<bool> {
    if options.help {
        out.write_all(USAGE.as_bytes())?;
        return Ok(true);
    }
    let crates = CRATES.into_iter().map(|name| read_crate(root, name));
    let crates = crates.collect::<Result<Vec<_>>>()?;
    let mut passes = true;
    if options.makes(Check::Circles) {
        passes &= check_circles(&crates, out)?;
    }
    if options.makes(Check::Language) {
        passes &= check_language(&crates, options.list, out)?;
    }
    if options.makes(Check::References) {
        passes &= check_references(root, &crates, out)?;
    }
    Ok(passes)
}

fn check_circles(crates: &[Vec<Source>], out: &mut impl Write) -> Result<bool> {
    let circles: Vec<_> = crates.iter().flat_map(|sources| circles(sources)).collect();
    for circle in &circles {
        write!(out, "{circle}")?;
    }
    writeln!(out, "circles    {}, at most 0", circles.len())?;
    Ok(circles.is_empty())
}

fn check_language(crates: &[Vec<Source>], list: bool, out: &mut impl Write) -> Result<bool> {
    let language = Language::of(crates.iter().flatten());
    if list {
        for offence in &language.offences {
            writeln!(out, "{offence}")?;
        }
    }
    let figures = language.figures();
    for figure in &figures {
        writeln!(out, "{figure}")?;
    }
    let kept = figures.iter().all(Figure::is_kept);
    if !kept && !list {
        writeln!(out, "`runwasi-lint --list language` shows the lines")?;
    }
    Ok(kept)
}

fn check_references(root: &Path, crates: &[Vec<Source>], out: &mut impl Write) -> Result<bool> {
    let found = dangling(root, crates)?;
    for dangling in &found {
        writeln!(out, "{dangling}")?;
    }
    writeln!(out, "references {} that lead nowhere, at most 0", found.len())?;
    Ok(found.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::write_crate;

    const CLEAN: &str = "//! Root of the crate: `a`, `b`.\n\n// A reason.\nmod a;\nmod b;\n";

    /// The result and the output for a project whose last crate has this text in `a.rs`.
    fn checked(arguments: &[&str], text: &str) -> (bool, String) {
        let root = tempfile::tempdir().unwrap();
        let files = [("lib.rs", CLEAN), ("a.rs", ""), ("b.rs", "use crate::a::A;\n")];
        for name in CRATES {
            write_crate(root.path(), name, &files);
        }
        write_crate(root.path(), CRATES[2], &[("a.rs", text)]);
        let mut out = Vec::new();
        let options = Options::parse(arguments.iter().map(OsString::from)).unwrap();
        let passes = run(&options, root.path(), &mut out).unwrap();
        (passes, String::from_utf8(out).unwrap())
    }

    #[test]
    fn clean_project_passes_all_checks() {
        let (passes, out) = checked(&[], "use std::io;\n");
        assert!(passes, "{out}");
        for check in ["circles ", "reasons ", "references "] {
            assert!(out.contains(check), "{out}");
        }
    }

    #[test]
    fn circle_in_the_last_crate_fails() {
        let (passes, out) = checked(&["circles"], "use crate::b::B;\n");
        assert!(!passes && out.contains("runwasi-daemon/src/a.rs:1: crate::b::B"), "{out}");
        assert!(checked(&["language"], "use crate::b::B;\n").0);
    }

    #[test]
    fn broken_figure_fails_and_the_list_shows_the_line() {
        let (passes, out) = checked(&["language", "--list"], "// Nobody knows.\n");
        let line = "runwasi-daemon/src/a.rs:1: word: // Nobody knows.";
        assert!(!passes && out.contains(line), "{out}");
        assert!(checked(&["circles"], "// Nobody knows.\n").0);
    }

    #[test]
    fn name_of_a_missing_file_fails() {
        let (passes, out) = checked(&["references"], "//! See `gone.rs`.\n");
        assert!(!passes && out.contains("runwasi-daemon/src/a.rs:1: gone.rs: no file"), "{out}");
        assert!(checked(&["circles", "language"], "//! See `gone.rs`.\n").0);
    }

    #[test]
    fn unknown_checks_and_other_folders_are_errors() {
        assert!(Options::parse(["circle".into()]).is_err());
        assert!(Options::parse(["--lists".into()]).is_err());
        let empty = tempfile::tempdir().unwrap();
        let error = run(&Options::default(), empty.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().ends_with("runwasi-core/src"), "{error}");
    }
}
