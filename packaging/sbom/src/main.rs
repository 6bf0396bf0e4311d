//! The binary `runwasi-sbom`: the software bill of materials of a release, as a CycloneDX document.
//!
//! Reads cargo's metadata from standard input and checksums from `Cargo.lock`, and prints all crates
//! that the given packages of the workspace are made of. The same input gives the same bytes.

mod document;
mod graph;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use lexopt::prelude::*;

use crate::graph::Graph;

const USAGE: &str = "\
usage: cargo metadata --format-version 1 --locked --filter-platform TARGET |
           runwasi-sbom --lock Cargo.lock --time 2026-01-31T12:00:00Z PACKAGE...
";

#[derive(Debug, Default)]
struct Options {
    help: bool,
    lock: PathBuf,
    /// Time of the release, as the document has it.
    time: String,
    /// Packages of the workspace whose programs are released.
    packages: Vec<String>,
}

fn main() -> ExitCode {
    let options = Options::parse(std::env::args_os().skip(1));
    match options.and_then(|options| run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With stderr closed there is no place left for the message.
            drop(writeln!(io::stderr(), "runwasi-sbom: {error:#}"));
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
                Long("lock") => options.lock = parser.value()?.into(),
                Long("time") => options.time = parser.value()?.string()?,
                Value(package) => options.packages.push(package.string()?),
                _ => return Err(argument.unexpected().into()),
            }
        }
        let complete = options.help || !options.packages.is_empty() && !options.time.is_empty();
        ensure!(complete, "a time and a package are needed\n{USAGE}");
        Ok(options)
    }
}

fn run(options: &Options) -> Result<()> {
    if options.help {
        io::stdout().write_all(USAGE.as_bytes())?;
        return Ok(());
    }
    let mut metadata = String::new();
    io::stdin().read_to_string(&mut metadata).context("standard input")?;
    let lock = std::fs::read_to_string(&options.lock);
    let lock = lock.with_context(|| options.lock.display().to_string())?;
    let graph = Graph::read(&metadata, &lock)?;
    let document = document::document(&graph, &options.packages, &options.time)?;
    writeln!(io::stdout(), "{document:#}")?;
    Ok(())
}
