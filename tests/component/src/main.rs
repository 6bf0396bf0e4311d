//! The binary `wasm-component`: makes the component of a preview 1 module, or the binary of a text. Called by
//! `scripts/guests`.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use lexopt::prelude::*;
use runwasi_component::{Adapter, assemble, wrap};

const USAGE: &str = "\
usage: wasm-component FORM INPUT OUTPUT

FORM says what becomes of INPUT, a module of wasm or of its text:
  module     the same module as a binary
  command    a component that runs the module's _start; preview 1 becomes WASI 0.2
  reactor    a component with the exports that the module's bindings declare
  proxy      the same with no more of WASI than an HTTP handler has: no files, sockets, environment
";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell if stderr is closed as well.
            drop(writeln!(std::io::stderr(), "wasm-component: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut words = Vec::new();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") | Short('h') => {
                return std::io::stdout().write_all(USAGE.as_bytes()).context("cannot print");
            }
            Value(value) => words.push(value),
            _ => return Err(argument.unexpected().into()),
        }
    }
    let Ok([form, input, output]) = <[OsString; 3]>::try_from(words) else {
        bail!("three arguments are needed\n{USAGE}");
    };
    let (input, output) = (PathBuf::from(input), PathBuf::from(output));
    let bytes =
        std::fs::read(&input).with_context(|| format!("cannot read {}", input.display()))?;
    let made = match form.to_str() {
        Some("module") => assemble(&bytes),
        Some("command") => wrap(&bytes, Adapter::Command),
        Some("reactor") => wrap(&bytes, Adapter::Reactor),
        Some("proxy") => wrap(&bytes, Adapter::Proxy),
        _ => bail!("{form:?} is not a form\n{USAGE}"),
    };
    let made = made.with_context(|| input.display().to_string())?;
    std::fs::write(&output, made).with_context(|| format!("cannot write {}", output.display()))
}
