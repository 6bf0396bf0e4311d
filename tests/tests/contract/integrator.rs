//! Dependencies of an integrator's crate: the daemon's library without its feature `wasmtime` brings
//! no wasmtime.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;

/// Beginnings of the names of crates that only wasmtime brings.
const ENGINE: [&str; 4] = ["cranelift", "runwasi-wasmtime", "wasm", "wasi"];

/// The crates that a crate depends on, directly or not, with this line in its dependencies. It has
/// the versions of our lock file.
fn crates(dependency: &str) -> Result<Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let dir = tempfile::tempdir()?;
    let manifest = format!(
        "[package]\nname = \"integrator\"\nedition = \"2024\"\n\n[dependencies]\n{}\n",
        dependency.replace("ROOT", &root.display().to_string())
    );
    fs::write(dir.path().join("Cargo.toml"), manifest)?;
    fs::create_dir(dir.path().join("src"))?;
    fs::write(dir.path().join("src/lib.rs"), "")?;
    fs::copy(root.join("Cargo.lock"), dir.path().join("Cargo.lock"))?;
    let cargo = std::env::var_os("CARGO").unwrap_or(OsString::from("cargo"));
    let tree = ["tree", "--offline", "--edges", "normal,build", "--prefix", "none"];
    let tree = Command::new(cargo).current_dir(dir.path()).args(tree).run()?.ok()?;
    let name = |line: &str| Some(line.split_whitespace().next()?.to_owned());
    let names: Vec<_> = tree.out().lines().filter_map(name).collect();
    ensure!(names.first().context("no output")? == "integrator", "{tree}");
    Ok(names)
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
