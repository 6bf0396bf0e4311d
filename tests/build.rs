//! Run by cargo: writes down which guests there are, for the suite `each_guest`, where a guest without a test fails to compile.

use std::fmt::Write;
use std::path::Path;
use std::{env, fs, io};

/// Their sources: a folder with a manifest, a text, or a list for `pip download`.
const GUESTS: &str = "guests";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={GUESTS}");
    let mut names = Vec::new();
    for entry in fs::read_dir(GUESTS)? {
        let path = entry?.path();
        let source = |kind: &str| path.extension().is_some_and(|extension| extension == kind);
        if path.join("Cargo.toml").exists() || source("wat") || source("txt") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    let mut text =
        String::from("/// Hands the names of all guests to a macro.\nmacro_rules! each_guest {\n");
    let list = names.join(" ");
    write!(text, "    ($with:ident) => {{ $with! {{ {list} }} }};\n}}\n")
        .map_err(io::Error::other)?;
    let directory =
        env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo says where to write"))?;
    fs::write(Path::new(&directory).join("each_guest.rs"), text)
}
