//! The binary `runwasi-lint`: checks of the sources and the documentation that neither rustfmt nor
//! clippy has.
//!
//! Prints what it finds, and exits with 1 if a check fails, with 2 if it cannot read the sources.

mod circles;
mod imports;
mod language;
mod messages;
mod references;
mod settings;
mod source;
mod test_programs;

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
usage: runwasi-lint [--list] [--write] [CHECK...]

Run it in the project's root. Without CHECK, all are made:
  circles      files of a crate that import each other, and the lines that import
  language     figures of comments and code lines, with their bounds; --list shows the lines
  references   files, headings and modules that the documentation names and that are not there
  messages     messages that docs/troubleshooting.md quotes and that no program has
  tests        test programs that CONTRIBUTING.md does not list
  settings     docs/settings-reference.md, which is generated from the sources; --write renews it
";

const CRATES: [&str; 3] = ["runwasi-core", "runwasi-wasmtime", "runwasi-daemon"];

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    help: bool,
    list: bool,
    /// Generated documents are written instead of compared.
    write: bool,
    /// All checks if it is empty.
    checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Circles,
    Language,
    References,
    Messages,
    Tests,
    Settings,
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
                Long("write") => options.write = true,
                Value(check) if check == "circles" => options.checks.push(Check::Circles),
                Value(check) if check == "language" => options.checks.push(Check::Language),
                Value(check) if check == "references" => options.checks.push(Check::References),
                Value(check) if check == "messages" => options.checks.push(Check::Messages),
                Value(check) if check == "tests" => options.checks.push(Check::Tests),
                Value(check) if check == "settings" => options.checks.push(Check::Settings),
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
    if options.makes(Check::Messages) {
        passes &= check_messages(root, out)?;
    }
    if options.makes(Check::Tests) {
        passes &= check_tests(root, out)?;
    }
    if options.makes(Check::Settings) {
        passes &= check_settings(root, options.write, out)?;
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

fn check_messages(root: &Path, out: &mut impl Write) -> Result<bool> {
    let unknown = messages::unknown(root)?;
    for messages::Unknown { line, text } in &unknown {
        writeln!(out, "docs/troubleshooting.md:{line}: {text}: in no program")?;
    }
    writeln!(out, "messages   {} that no program has, at most 0", unknown.len())?;
    Ok(unknown.is_empty())
}

fn check_tests(root: &Path, out: &mut impl Write) -> Result<bool> {
    let unlisted = test_programs::unlisted(root)?;
    for program in &unlisted {
        writeln!(out, "{}: not in the tables of CONTRIBUTING.md", program.display())?;
    }
    writeln!(out, "tests      {} programs that are not listed, at most 0", unlisted.len())?;
    Ok(unlisted.is_empty())
}

fn check_settings(root: &Path, write: bool, out: &mut impl Write) -> Result<bool> {
    let outdated = settings::outdated(root)?;
    if let Some(document) = outdated.as_ref().filter(|_| write) {
        settings::write(root, document)?;
        writeln!(out, "settings   the reference was written")?;
        return Ok(true);
    }
    let word = if outdated.is_some() {
        "outdated: run `runwasi-lint --write settings`"
    } else {
        "current"
    };
    writeln!(out, "settings   the reference is {word}")?;
    Ok(outdated.is_none())
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
        write_documents(root.path());
        let mut out = Vec::new();
        let options = Options::parse(arguments.iter().map(OsString::from)).unwrap();
        let passes = run(&options, root.path(), &mut out).unwrap();
        (passes, String::from_utf8(out).unwrap())
    }

    /// The documents that the checks `messages`, `tests` and `settings` read.
    fn write_documents(root: &Path) {
        let settings =
            "//! Settings.\n\nstruct Settings {\n    /// A.\n    #[arg(long)]\n    a: u32,\n}\n";
        let reference = "<!-- settings: begin -->\n\
            ## Of the daemon\n\n| key | flag | default | meaning |\n|---|---|---|---|\n\
            | `a` | `--a` | `1` | A |\n\n\
            ## Of the engine\n\n| key | default | values | meaning |\n|---|---|---|---|\n\
            | `a` | `1` |  | A |\n<!-- settings: end -->\n";
        for (name, text) in [
            ("docs/settings-reference.md", reference),
            ("docs/troubleshooting.md", ""),
            ("CONTRIBUTING.md", ""),
            ("packaging/containerd-wasmtimed.toml", "a = 1\n"),
            ("runwasi-daemon/src/config/settings.rs", settings),
            ("runwasi-daemon/src/command_line/start.rs", ""),
            ("runwasi-wasmtime/src/settings.rs", settings),
        ] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn outdated_reference_fails_and_is_written() {
        let root = tempfile::tempdir().unwrap();
        for name in CRATES {
            write_crate(root.path(), name, &[("lib.rs", "")]);
        }
        write_documents(root.path());
        let example = root.path().join("packaging/containerd-wasmtimed.toml");
        std::fs::write(example, "a = 2\n").unwrap();
        let check = |arguments: &[&str]| {
            let options = Options::parse(arguments.iter().map(OsString::from)).unwrap();
            run(&options, root.path(), &mut Vec::new()).unwrap()
        };
        assert!(!check(&["settings"]));
        assert!(check(&["settings", "--write"]));
        assert!(check(&["settings"]));
    }

    #[test]
    fn clean_project_passes_all_checks() {
        let (passes, out) = checked(&[], "use std::io;\n");
        assert!(passes, "{out}");
        for check in ["circles ", "reasons ", "references ", "messages ", "tests ", "settings "] {
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
