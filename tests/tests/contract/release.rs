//! What a release promises: crates that can be published, one version of Rust, workflows that run the commands of this
//! repository. What `scripts/dist` writes is the subject of `scripts/test-packages`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;
use serde_json::Value;

/// The crates of the libraries; each other package is of this repository alone.
const PUBLISHED: [&str; 3] = ["runwasi-core", "runwasi-daemon", "runwasi-wasmtime"];

/// The version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> Result<String> {
    let path = root().join(name);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn cargo<const N: usize>(args: [&str; N]) -> Command {
    Command::new(env!("CARGO")).current_dir(&root()).args(args)
}

/// The packages of the workspace, as cargo tells them.
fn packages() -> Result<Vec<Value>> {
    let told = cargo(["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let told: Value = serde_json::from_str(&told.run()?.ok()?.out())?;
    Ok(told["packages"].as_array().context("no packages")?.clone())
}

fn text<'a>(package: &'a Value, field: &str) -> &'a str {
    package[field].as_str().unwrap_or_default()
}

#[test]
fn only_the_libraries_are_published_with_all_that_a_registry_asks_for() -> Result<()> {
    for package in packages()? {
        let name = text(&package, "name");
        let published = package["publish"].is_null();
        ensure!(published == PUBLISHED.contains(&name), "{name}: publish {}", package["publish"]);
        ensure!(!text(&package, "description").is_empty(), "{name} has no description");
        ensure!(text(&package, "license") == "Apache-2.0", "{name} has no licence");
        if published {
            ensure!(text(&package, "readme") == "README.md", "{name} has no README.md");
            ensure!(package["metadata"]["docs"]["rs"].is_object(), "{name}: docs.rs has no word");
        }
    }
    Ok(())
}

#[test]
fn libraries_are_packaged_with_their_sources_and_versions() -> Result<()> {
    let place = tempfile::tempdir()?;
    let target = place.path().display().to_string();
    let mut package = cargo(["package", "--no-verify", "--offline", "--allow-dirty", "--quiet"]);
    for name in PUBLISHED {
        package = package.args(["--package", name]);
    }
    package.args(["--target-dir", &target]).run()?.ok()?;
    for name in PUBLISHED {
        let archive = place.path().join(format!("package/{name}-{VERSION}.crate"));
        let list = Command::new("tar").args(["--list", "--file"]).args([&archive]).run()?.ok()?;
        let list = list.out();
        let files: BTreeSet<_> = list.lines().filter_map(|line| line.split_once('/')).collect();
        for file in ["Cargo.toml", "Cargo.lock", "LICENSE", "README.md", "src/lib.rs"] {
            ensure!(files.iter().any(|(_, found)| *found == file), "{name}: no {file}: {list}");
        }
    }
    Ok(())
}

#[test]
fn one_version_is_that_of_all_libraries_and_of_their_documentation() -> Result<()> {
    for package in packages()?.iter().filter(|package| PUBLISHED.contains(&text(package, "name"))) {
        ensure!(text(package, "version") == VERSION, "{}: {}", package["name"], package["version"]);
    }
    let minor = VERSION.rsplit_once('.').context("no minor version")?.0;
    let requirement = format!("runwasi-daemon = {{ version = \"{minor}\"");
    ensure!(read("docs/embedding.md")?.contains(&requirement), "no {requirement}");
    Ok(())
}

#[test]
fn oldest_rust_is_the_one_that_everything_is_tested_with() -> Result<()> {
    let toolchain = read("rust-toolchain.toml")?;
    for package in packages()? {
        let version = text(&package, "rust_version");
        let channel = format!("channel = \"{version}.0\"");
        ensure!(toolchain.contains(&channel), "{}: {version}: {toolchain}", package["name"]);
    }
    Ok(())
}

#[test]
fn workflows_run_the_commands_of_this_repository_by_pinned_actions() -> Result<()> {
    ensure!(read(".github/workflows/ci.yml")?.contains("- run: .ci/run\n"));
    ensure!(read(".github/workflows/release.yml")?.contains("- run: make dist\n"));
    let image = {
        let toolchain = read("rust-toolchain.toml")?;
        let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \""));
        format!("rust:{}-bookworm", channel.context("no channel")?.trim_end_matches('"'))
    };
    for name in ["ci", "release", "advisories"] {
        let workflow = read(&format!(".github/workflows/{name}.yml"))?;
        ensure!(workflow.contains(&image), "{name}: not in {image}");
        for action in workflow.lines().filter_map(|line| line.split_once("uses: ")) {
            let commit = action.1.split(['@', ' ']).nth(1).unwrap_or_default();
            ensure!(commit.len() == 40, "{name}: {} is not pinned", action.1);
        }
    }
    Ok(())
}
