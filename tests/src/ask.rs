//! A command of the daemon's program, for the daemons of a fixture; called by tests.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::command::{Command, Output};
use crate::containers::Containers;
use crate::runtime::daemon_file;

/// `containerd-wasmtimed WORDS --socket …`.
pub fn command(c: &Containers, words: &[&str]) -> Command {
    let socket = c.fixture.node().socket();
    Command::new(daemon_file()).args(words).args(["--socket", &socket.to_string_lossy()])
}

/// What it prints; it has to succeed without a word on stderr.
pub fn text(c: &Containers, words: &[&str]) -> Result<String> {
    let output = command(c, words).run()?.ok()?;
    ensure!(output.stderr.is_empty(), "{output}");
    Ok(output.out())
}

/// The JSON it prints.
pub fn json(c: &Containers, words: &[&str]) -> Result<Value> {
    parsed(&command(c, words).run()?.ok()?)
}

/// The JSON of an output.
pub fn parsed(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("no JSON: {output}"))
}

/// The line of a table that has this word.
pub fn line<'a>(table: &'a str, word: &str) -> Result<Vec<&'a str>> {
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.find(|words| words.contains(&word)).with_context(|| format!("no {word} in {table}"))
}
