//! Test programs of the workspace: each has a row in a table of `CONTRIBUTING.md`, by which it is run
//! alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folders with test programs: a file or a folder with a `main.rs` is one.
const FOLDERS: [&str; 5] = [
    "examples/tests",
    "runwasi-core/tests",
    "runwasi-wasmtime/tests",
    "tests/image/tests",
    "tests/tests",
];

/// The test programs without a row, by their paths below `root`.
pub(crate) fn unlisted(root: &Path) -> Result<Vec<PathBuf>> {
    let document = root.join("CONTRIBUTING.md");
    let text =
        fs::read_to_string(&document).with_context(|| format!("read {}", document.display()))?;
    let mut unlisted = Vec::new();
    for folder in FOLDERS {
        // A folder that is not there has no programs.
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = entry?.path();
            let is_file = path.extension().is_some_and(|extension| extension == "rs");
            let is_program = is_file || path.join("main.rs").exists();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if is_program && !text.contains(&format!("`--test {name}`")) {
                unlisted.push(path.strip_prefix(root)?.to_owned());
            }
        }
    }
    unlisted.sort();
    Ok(unlisted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_without_a_row_is_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("CONTRIBUTING.md", "| `a` | the first | `--test a` |\n");
        write("tests/tests/a.rs", "");
        write("tests/tests/a/case.rs", "");
        write("tests/tests/b/main.rs", "");
        write("runwasi-core/tests/ab.rs", "");
        write("runwasi-core/tests/fixtures/data", "");
        let found = unlisted(root.path()).unwrap();
        assert_eq!(found, [Path::new("runwasi-core/tests/ab.rs"), Path::new("tests/tests/b")]);
    }
}
