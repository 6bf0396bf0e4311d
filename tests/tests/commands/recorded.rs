//! What the commands print, for docs/commands.md: `scripts/commands` writes it there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::http::get;
use runwasi_tests::runtime::{daemon_file, target_dir};
use runwasi_tests::server::{APP, serve};
use runwasi_tests::{Command, Containers, Output};

/// The names of the fixture, and those that a reader expects.
struct Names(Vec<(String, &'static str)>);

impl Names {
    fn of(c: &Containers, ids: &[(&str, &'static str)]) -> Self {
        let state = c.fixture.node().dir().to_string_lossy().into_owned();
        let home = c.fixture.dir().to_string_lossy().into_owned();
        let mut all: Vec<_> = ids.iter().map(|(id, name)| ((*id).to_owned(), *name)).collect();
        // The longest first: it may contain another.
        all.extend([
            (state, "/run/io.containerd.wasmtime.v1"),
            (format!("{home}/state"), "/run/containerd"),
            (home, "/run/containerd"),
            (c.fixture.namespace().to_owned(), "default"),
        ]);
        all.sort_by_key(|(name, _)| usize::MAX - name.len());
        Self(all)
    }

    fn replace(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }
}

/// Columns of a table, which other names have moved.
fn aligned(text: &str) -> String {
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    // A line that is no row of the table moves no column.
    let rows_of_table = || rows.iter().filter(|row| row.len() > 1);
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows_of_table().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<&str>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  "));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn record(name: &str, shown: &str, output: &str) -> Result<()> {
    let directory = target_dir().join("commands");
    fs::create_dir_all(&directory)?;
    let text = format!("```console\n$ containerd-wasmtimed {shown}\n{}\n```\n", output.trim_end());
    is_documented(name, &text)?;
    fs::write(directory.join(format!("command-{name}.md")), text).context("target/commands")
}

/// Demands that the document has all columns and keys of an output. Values differ from run to run.
fn is_documented(name: &str, text: &str) -> Result<()> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    let page = fs::read_to_string(page).context("docs/commands.md")?;
    let block =
        page.split_once(&format!("<!-- command-{name}: begin -->")).context(name.to_owned())?;
    let block = block.1.split("<!-- ").next().unwrap_or_default();
    let missing: Vec<_> = marks(text).difference(&marks(block)).cloned().collect();
    ensure!(missing.is_empty(), "docs/commands.md has no {missing:?} in {name}: `make commands`");
    Ok(())
}

/// The header of a table, and the keys of JSON.
fn marks(text: &str) -> BTreeSet<String> {
    let mark = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_header = words.len() > 2
            && !line.contains(|c: char| !c.is_ascii_uppercase() && !"/% ".contains(c));
        let key = line.trim_start().strip_prefix('"').and_then(|line| line.split_once("\": "));
        if is_header { Some(words.join(" ")) } else { key.map(|(key, _)| key.to_owned()) }
    };
    text.lines().filter_map(mark).collect()
}

pub(crate) fn outputs_are_recorded_for_the_documentation(c: &mut Containers) -> Result<()> {
    let (old, server, job) = (c.id("nightly"), c.id("hello"), c.id("report"));
    c.detached_with(&["--memory-limit", "33554432"], &old, &["sleep", "100"])?;
    let mut retired = c.fixture.replace_daemon()?;
    let flags = ["--memory-limit", "67108864", "--cpu-quota", "50000", "--cpu-period", "100000"];
    let address = serve(c, &flags, &server, APP)?;
    c.detached_with(&flags, &job, &["spin"])?;
    c.fixture.ctr(["task", "pause", &old])?.ok()?;
    for _ in 0..25 {
        ensure!(get(address, "/hello")?.status == 200);
    }
    let names = [(&*old, "nightly"), (&*server, "hello"), (&*job, "report")];
    let names = Names::of(c, &names);
    let socket = c.fixture.node().socket().to_string_lossy().into_owned();
    let run = |words: &[&str]| -> Result<Output> {
        Command::new(daemon_file()).args(words).args(["--socket", &socket]).run()?.ok()
    };
    let shown = |words: &[&str]| Ok::<_, anyhow::Error>(names.replace(&run(words)?.out()));
    record("status", "status", &aligned(&shown(&["status"])?))?;
    record("list", "list", &aligned(&shown(&["list"])?))?;
    record("top", "top --batch", &{
        let text = shown(&["top", "--batch", "--interval", "1"])?;
        let (summary, table) = text.split_once('\n').context("a summary")?;
        format!("{summary}\n{}", aligned(table))
    })?;
    record("inspect", "inspect hello", &shown(&["inspect", &server])?)?;
    record("inspect-paused", "inspect nightly", &shown(&["inspect", &old])?)?;
    record("health", "health", &shown(&["health"])?)?;
    let json = shown(&["inspect", &job, "--json"])?;
    record("inspect-json", "inspect report --json", &json)?;
    for id in [&old, &server, &job] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    ensure!(retired.ends(Duration::from_secs(20))? == 0);
    let events = shown(&["events", "--past", "--for", "1"])?;
    record("events", "events --past", &events)?;
    files(c, &names)?;
    c.fixture.becomes_clean()
}

/// The commands that ask no daemon.
fn files(c: &Containers, names: &Names) -> Result<()> {
    let home = c.fixture.dir();
    let none = home.join("none.toml");
    fs::write(&none, "grace = 60\n")?;
    let cache = home.join("cache").to_string_lossy().into_owned();
    let (none, guest) = (none.to_string_lossy().into_owned(), c.runtime.guest_file());
    let guest = guest.to_string_lossy().into_owned();
    let run = |words: &[&str]| -> Result<String> {
        let line = Command::new(daemon_file()).args(words);
        let output = line.args(["--config", &none, "--cache-dir", &cache]).run()?;
        // As at a terminal: the progress comes before the result.
        Ok(names.replace(&format!("{}{}", output.err(), output.out())))
    };
    let compiled = run(&["precompile", &guest])?;
    record("precompile", "precompile wasmtest.wasm", &compiled.replace(&guest, "wasmtest.wasm"))?;
    let list = run(&["cache", "ls"])?;
    record("cache-ls", "cache ls", &aligned(&list))?;
    record("cache-verify", "cache verify", &run(&["cache", "verify"])?)?;
    let prune = run(&["cache", "prune", "--unused-for", "30"])?;
    record("cache-prune", "cache prune --unused-for 30", &prune)?;
    let valid = Command::new(daemon_file()).args(["config", "check", &none]).run()?.ok()?.out();
    let file = "/etc/containerd-wasmtimed.toml";
    record("config-check", "config check", &valid.replace(&none, file))?;
    let place = home.join("none.toml");
    fs::write(&place, "grace = 60\nslots = 0\n")?;
    let wrong = Command::new(daemon_file()).args(["config", "check", &none]).run()?;
    record("config-check-wrong", "config check", &wrong.err().replace(&none, file))?;
    let typo = Command::new(daemon_file()).args(["inspcet"]).run()?;
    record("suggestion", "inspcet hello", &typo.err())?;
    let bundle = home.join("b.tar").to_string_lossy().into_owned();
    let socket = c.fixture.node().socket().to_string_lossy().into_owned();
    let words = ["debug", "bundle", "-o", &bundle, "--socket", &socket];
    Command::new(daemon_file()).args(words).run()?.ok()?;
    let listed = std::process::Command::new("tar").args(["-tf", &bundle]).output()?;
    let name = "containerd-wasmtimed-debug-20251129T104500Z.tar";
    let daemon = c.fixture.node().daemons().first().map(ToString::to_string).unwrap_or_default();
    let listed = String::from_utf8(listed.stdout)?.replace(&daemon, "3141");
    let text = format!("{name}\n$ tar -tf {name}\n{listed}");
    record("debug-bundle", "debug bundle", &text)
}
