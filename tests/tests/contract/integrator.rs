//! An integrator's crate: the daemon's library without its feature `wasmtime` brings no wasmtime, and
//! the tutorial makes the example of an interpreter.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;

/// Beginnings of the names of crates that only wasmtime brings.
const ENGINE: [&str; 4] = ["cranelift", "runwasi-wasmtime", "wasm", "wasi"];

/// The crates that a crate depends on, directly or not, with this line in its dependencies.
fn crates(dependency: &str) -> Result<Vec<String>> {
    let name = |line: &String| Some(line.split_whitespace().next()?.to_owned());
    let names: Vec<_> = tree(dependency, &[])?.iter().filter_map(name).collect();
    ensure!(names.first().context("no output")? == "integrator", "{names:?}");
    Ok(names)
}

/// The same as cargo tells them, name and version, the crate itself first. It has the versions of our
/// lock file.
fn tree(dependencies: &str, options: &[&str]) -> Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let dir = tempfile::tempdir()?;
    let manifest = format!(
        "[package]\nname = \"integrator\"\nedition = \"2024\"\n\n[dependencies]\n{}\n",
        dependencies.replace("ROOT", &root.display().to_string())
    );
    fs::write(dir.path().join("Cargo.toml"), manifest)?;
    fs::create_dir(dir.path().join("src"))?;
    fs::write(dir.path().join("src/lib.rs"), "")?;
    fs::copy(root.join("Cargo.lock"), dir.path().join("Cargo.lock"))?;
    told(dir.path(), options)
}

/// What `cargo tree` tells of the crate in a directory.
fn told(directory: &Path, options: &[&str]) -> Result<Vec<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or(OsString::from("cargo"));
    let tree = ["tree", "--offline", "--edges", "normal,build", "--prefix", "none"];
    let tree = Command::new(cargo).current_dir(directory).args(tree).args(options).run()?.ok()?;
    let crates = tree.out();
    let words = crates.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    Ok(words.map(|words| words.join(" ")).collect())
}

fn of_engine(names: &[String]) -> Vec<&String> {
    names.iter().filter(|name| ENGINE.iter().any(|start| name.starts_with(start))).collect()
}

#[test]
fn daemon_library_without_its_feature_brings_no_wasmtime() -> Result<()> {
    let without = "runwasi-daemon = { path = 'ROOT/runwasi-daemon', default-features = false }";
    let names = crates(without)?;
    ensure!(names.iter().any(|name| name == "runwasi-core"), "{names:?}");
    ensure!(of_engine(&names).is_empty(), "{:?}", of_engine(&names));
    // With the feature the same look finds it.
    let names = crates("runwasi-daemon = { path = 'ROOT/runwasi-daemon' }")?;
    ensure!(of_engine(&names).iter().any(|name| *name == "wasmtime"), "{names:?}");
    Ok(())
}

#[test]
fn framework_brings_no_wasmtime() -> Result<()> {
    let names = crates("runwasi-core = { path = 'ROOT/runwasi-core', features = ['testing'] }")?;
    ensure!(names.iter().any(|name| name == "tokio"), "{names:?}");
    ensure!(of_engine(&names).is_empty(), "{:?}", of_engine(&names));
    Ok(())
}

#[test]
fn dependencies_of_the_tutorial_are_those_of_the_example() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("docs/embedding.md"))?;
    let (_, block) = text.split_once("```toml\n[dependencies]\n").context("no block")?;
    let (block, _) = block.split_once("```").context("a block without an end")?;
    let depth = ["--depth", "1"];
    let tutorial = tree(&block.replace("RUNWASI", "ROOT"), &depth)?;
    let example = told(&root.join("examples/shim-wasmi"), &depth)?;
    ensure!(tutorial[1..] == example[1..] && example.len() > 8, "{tutorial:?}, {example:?}");
    Ok(())
}

/// The files that the blocks of the tutorial make, in the order of the text.
fn made_by(tutorial: &str) -> Result<BTreeMap<&str, String>> {
    let mut files = BTreeMap::<_, String>::new();
    for block in tutorial.split("```rust\n// ").skip(1) {
        let (file, rest) = block.split_once('\n').context("a block without a file")?;
        let (text, _) = rest.split_once("```").context("a block without an end")?;
        files.entry(file).or_default().push_str(text);
    }
    Ok(files)
}

/// The lines that the compiler sees, and the comments among them.
fn lines(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("//!")).collect()
}

#[test]
fn blocks_of_the_tutorial_are_the_example_in_250_lines() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let example = root.join("examples/shim-wasmi");
    let text = fs::read_to_string(root.join("docs/embedding.md"))?;
    let (_, tutorial) = text.split_once("\n## An engine of your own\n").context("the section")?;
    let files = made_by(tutorial)?;
    let mut plain = 0;
    for file in files.keys().copied().chain(["src/wasi.rs"]) {
        let ours = fs::read_to_string(example.join(file))?;
        let is_made = files.get(file).is_none_or(|made| lines(made) == lines(&ours));
        ensure!(is_made, "{file} is another one in docs/embedding.md");
        plain += lines(&ours).iter().filter(|line| !line.trim_start().starts_with("//")).count();
    }
    ensure!(files.len() == 5, "{:?}", files.keys());
    ensure!(plain <= 250, "{plain} plain lines");
    Ok(())
}
