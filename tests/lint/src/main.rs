//! The binary `runwasi-lint`: checks of the production sources that neither rustfmt nor clippy has.
//! Prints what it finds, and exits with 1 if a check fails, with 2 if it cannot read the sources.

mod circles;
mod imports;
mod language;
mod source;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::prelude::*;

use crate::circles::circles;
use crate::language::{Figure, Language};
use crate::source::{Source, read_crate};

const USAGE: &str = "\
usage: runwasi-lint [--list] [CHECK...]

Run it in the project's root. Without CHECK, both are made:
  circles    files of a crate that import each other, and the lines that import
  language   figures of comments and code lines, with their bounds; --list shows the lines
";

const CRATES: [&str; 3] = ["runwasi-core", "runwasi-wasmtime", "runwasi-daemon"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    help: bool,
    list: bool,
    circles: bool,
    language: bool,
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
                Value(check) if check == "circles" => options.circles = true,
                Value(check) if check == "language" => options.language = true,
                Value(other) => bail!("{other:?} is not a check\n{USAGE}"),
                _ => return Err(argument.unexpected().into()),
            }
        }
        if !options.circles && !options.language {
            options.circles = true;
            options.language = true;
        }
        Ok(options)
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
    if options.circles {
        passes &= check_circles(&crates, out)?;
    }
    if options.language {
        passes &= check_language(&crates, options.list, out)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::tests::write_crate;

    const CLEAN: &str = "//! Root of the crate.\n\n// A reason.\nmod a;\nmod b;\n";

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
    fn clean_project_passes_both_checks() {
        let (passes, out) = checked(&[], "use std::io;\n");
        assert!(passes, "{out}");
        assert!(out.contains("circles ") && out.contains("reasons "), "{out}");
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
    fn unknown_checks_and_other_folders_are_errors() {
        assert!(Options::parse(["circle".into()]).is_err());
        assert!(Options::parse(["--lists".into()]).is_err());
        let empty = tempfile::tempdir().unwrap();
        let error = run(&Options::default(), empty.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().ends_with("runwasi-core/src"), "{error}");
    }
}
