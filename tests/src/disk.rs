//! File systems in a file, by loop.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::Command;

/// Makes an ext4 with a journal in a new sparse file of that size, and mounts it with `loop` and further options. The
/// caller unmounts it.
pub fn mount_ext4(file: &Path, size: u64, at: &Path, options: &[&str]) -> Result<()> {
    fs::create_dir_all(at)?;
    fs::File::create(file)?.set_len(size)?;
    Command::new("mkfs.ext4").args(["-q", "-F"]).args([file]).run()?.ok()?;
    let options = [&["loop"], options].concat().join(",");
    Command::new("mount").args(["-o", &options]).args([file, at]).run()?.ok()?;
    Ok(())
}
