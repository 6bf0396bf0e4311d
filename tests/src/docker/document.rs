//! What `docs/docker.md` tells a reader to write into files: the fixture and its cases use the
//! same.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The text of the first block of this language that has these words.
pub fn block(language: &str, words: &str) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/docker.md");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let begin = format!("\n```{language}\n");
    let mut blocks = text.split(&begin).skip(1).filter_map(|rest| rest.split("```").next());
    let found = blocks.find(|block| block.contains(words));
    Ok(found.with_context(|| format!("{}: no {language} with {words}", file.display()))?.to_owned())
}
