//! Blocks of the documentation that programs read: settings, manifests and answers must parse, and scripts
//! of the shell must be scripts. Commands of the first container are run by `scripts/test-packages`, links
//! are checked by `make docs`, texts of messages by `runwasi-lint`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_tests::Command;
use serde::Deserialize;

/// A fenced block, with its language and its place.
struct Block {
    place: String,
    language: String,
    text: String,
}

/// The blocks of all pages.
fn blocks() -> Result<Vec<Block>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    for folder in ["docs", "docs/design"] {
        let entries = fs::read_dir(root.join(folder))?;
        let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
        pages.extend(paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    let mut found = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
        found.extend(blocks_of(&page, &text));
    }
    Ok(found)
}

fn blocks_of(page: &Path, text: &str) -> Vec<Block> {
    let mut found: Vec<Block> = Vec::new();
    let mut inside = false;
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if inside => inside = false,
            Some(language) => {
                inside = true;
                let place = format!("{}:{}", page.display(), index + 1);
                found.push(Block { place, language: language.to_owned(), text: String::new() });
            }
            None if inside => {
                if let Some(block) = found.last_mut() {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
            }
            None => {}
        }
    }
    found
}

/// The blocks of a language, of which there are some.
fn in_language(language: &str) -> Result<Vec<Block>> {
    let blocks = blocks()?.into_iter().filter(|block| block.language == language);
    let blocks: Vec<_> = blocks.collect();
    ensure!(!blocks.is_empty(), "no block of {language}");
    Ok(blocks)
}

#[test]
fn toml_of_the_documentation_can_be_read() -> Result<()> {
    for Block { place, text, .. } in in_language("toml")? {
        toml::from_str::<toml::Table>(&text).with_context(|| place)?;
    }
    Ok(())
}

/// Without them the CRI keeps a pod's annotations to itself.
#[test]
fn every_table_of_a_runtime_hands_the_annotations_of_pods_over() -> Result<()> {
    let wanted = toml::Value::from(vec!["io.runwasi.*"]);
    let mut tables = 0;
    for Block { place, text, .. } in in_language("toml")? {
        let table: toml::Table = toml::from_str(&text)?;
        let plugins = table.get("plugins").and_then(toml::Value::as_table);
        for (_, cri) in plugins.into_iter().flatten() {
            let runtimes = cri.get("containerd").and_then(|part| part.get("runtimes"));
            let Some(runtimes) = runtimes.and_then(toml::Value::as_table) else { continue };
            for (name, runtime) in runtimes.iter().filter(|(name, _)| *name != "runc") {
                ensure!(runtime.get("pod_annotations") == Some(&wanted), "{place}: {name}");
                tables += 1;
            }
        }
    }
    ensure!(tables >= 4, "only {tables} tables of runtimes");
    Ok(())
}

#[test]
fn json_of_the_documentation_can_be_read() -> Result<()> {
    for Block { place, text, .. } in in_language("json")? {
        serde_json::from_str::<serde_json::Value>(&text).with_context(|| place)?;
    }
    Ok(())
}

#[test]
fn yaml_of_the_documentation_can_be_read() -> Result<()> {
    for Block { place, text, .. } in in_language("yaml")? {
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            serde_yaml_ng::Value::deserialize(document).with_context(|| place.clone())?;
        }
    }
    Ok(())
}

#[test]
fn scripts_of_the_documentation_are_scripts() -> Result<()> {
    let place = tempfile::tempdir()?;
    let file = place.path().join("block.sh");
    for Block { place, text, .. } in in_language("sh run")? {
        fs::write(&file, text)?;
        Command::new("bash").args(["-n"]).args([&file]).run()?.ok().with_context(|| place)?;
    }
    Ok(())
}

#[test]
fn performance_page_is_made_of_the_rows_of_a_bench() -> Result<()> {
    let place = tempfile::tempdir()?;
    let results = place.path().join("results.json");
    let row = |runtime: &str, value: f64, goal: f64| {
        serde_json::json!({
            "name": "ctr_run_median", "runtime": runtime, "value": value, "unit": "ms",
            "goal": goal, "bound": "<=", "met": value <= goal, "of": null,
        })
    };
    let rows = serde_json::json!({
        "machine": { "line": "2 CPUs" },
        "rows": [row("wasmtime", 50.25, 60.0), row("runc", 101.0, 60.0)],
        "targets": [],
    });
    fs::write(&results, serde_json::to_string_pretty(&rows)?)?;
    let plots = place.path().join("plots");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/performance");
    let printed = Command::new(script).args([&results, &plots]).run()?.ok()?.out();
    let line = "| `ctr_run_median` | ms | 50.25 |  | **101** |  |  | <= 60 |  |";
    ensure!(printed.lines().any(|printed| printed == line), "{printed}");
    ensure!(printed.contains("(plots/starts.svg)"), "{printed}");
    let plot = fs::read_to_string(plots.join("starts.svg"))?;
    ensure!(plot.contains(">runc</text>") && plot.contains(">101</text>"), "{plot}");
    Ok(())
}
