//! The arguments of `oci-image`. Called by `main`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;

use crate::files::{DIRECTORY_MODE, FILE_MODE};
use crate::image::{ImageBuilder, WasmForm};
use crate::layout::write_file;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: oci-image linux --name NAME --output TAR [OPTIONS]
       oci-image wasm --name NAME --output TAR [--image-config [OPTIONS]] MODULE

Writes an OCI image layout as a tar for `ctr image import`. NAME is a full reference.
linux: one layer with the given files, for this machine's architecture.
wasm:  one layer of type application/wasm; the config is the CNCF artifact's, or with --image-config the standard one.

options, those with ... may be repeated:
  --entrypoint WORD ...       --cmd WORD ...           --env NAME=VALUE ...
  --workdir DIR               --user USER
  --file SRC:DEST[:MODE] ...  (linux; octal mode, 644 if absent; directories are created)
  --dir DEST[:MODE] ...       (linux; octal mode, 755 if absent)
";

/// Everything the arguments said, before the form decides what of it is allowed.
#[derive(Default)]
struct Arguments {
    form: Option<String>,
    name: Option<String>,
    output: Option<PathBuf>,
    module: Option<PathBuf>,
    image_config: bool,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    workdir: Option<String>,
    user: Option<String>,
    files: Vec<String>,
    directories: Vec<String>,
    help: bool,
}

/// Does what the arguments (without the program's name) say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<()> {
    let arguments = parse(arguments)?;
    if arguments.help {
        print!("{USAGE}");
        return Ok(());
    }
    let form = arguments.form.clone();
    let tar = match form.as_deref() {
        Some("linux") => linux(&arguments)?,
        Some("wasm") => wasm(&arguments)?,
        Some(other) => bail!("{other:?} is not a form of image; linux and wasm are"),
        None => bail!("no form of image; try --help"),
    };
    let output = arguments.output.context("--output is missing")?;
    write_file(&output, &tar)
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut found = Arguments::default();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("name") => found.name = Some(parser.value()?.string()?),
            Long("output") | Short('o') => found.output = Some(parser.value()?.into()),
            Long("entrypoint") => found.entrypoint.push(parser.value()?.string()?),
            Long("cmd") => found.cmd.push(parser.value()?.string()?),
            Long("env") => found.env.push(parser.value()?.string()?),
            Long("workdir") => found.workdir = Some(parser.value()?.string()?),
            Long("user") => found.user = Some(parser.value()?.string()?),
            Long("file") => found.files.push(parser.value()?.string()?),
            Long("dir") => found.directories.push(parser.value()?.string()?),
            Long("image-config") => found.image_config = true,
            Long("help") | Short('h') => found.help = true,
            Value(value) if found.form.is_none() => found.form = Some(value.string()?),
            Value(value) if found.module.is_none() => found.module = Some(value.into()),
            _ => return Err(argument.unexpected().into()),
        }
    }
    Ok(found)
}

fn builder(arguments: &Arguments) -> Result<ImageBuilder> {
    let name = arguments.name.clone().context("--name is missing")?;
    let mut image = ImageBuilder::new(name)
        .entrypoint(arguments.entrypoint.clone())
        .cmd(arguments.cmd.clone())
        .env(arguments.env.clone());
    if let Some(directory) = &arguments.workdir {
        image = image.workdir(directory);
    }
    if let Some(user) = &arguments.user {
        image = image.user(user);
    }
    Ok(image)
}

fn linux(arguments: &Arguments) -> Result<Vec<u8>> {
    if let Some(module) = &arguments.module {
        bail!("{}: a linux image takes files by --file", module.display());
    }
    if arguments.image_config {
        bail!("--image-config is for the wasm form");
    }
    let mut image = builder(arguments)?;
    for file in &arguments.files {
        let (source, destination, mode) = file_argument(file)?;
        image = image.file(Path::new(source), destination, mode)?;
    }
    for directory in &arguments.directories {
        let (destination, mode) = match directory.split_once(':') {
            Some((destination, mode)) => (destination, octal(mode, directory)?),
            None => (directory.as_str(), DIRECTORY_MODE),
        };
        image = image.directory(destination, mode)?;
    }
    image.linux_tar()
}

fn wasm(arguments: &Arguments) -> Result<Vec<u8>> {
    let module = arguments.module.as_deref().context("MODULE is missing")?;
    if !arguments.files.is_empty() || !arguments.directories.is_empty() {
        bail!("{}: a wasm image holds no other files", module.display());
    }
    let form = match arguments.image_config {
        true => WasmForm::ImageConfig,
        false => WasmForm::Artifact,
    };
    builder(arguments)?.wasm_tar(module, form)
}

/// `SRC:DEST[:MODE]`.
fn file_argument(text: &str) -> Result<(&str, &str, u32)> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(destination), None) => Ok((source, destination, FILE_MODE)),
        (Some(source), Some(destination), Some(mode)) => Ok((source, destination, octal(mode, text)?)),
        _ => bail!("file {text:?} is not SRC:DEST[:MODE]"),
    }
}

fn octal(mode: &str, whole: &str) -> Result<u32> {
    u32::from_str_radix(mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| anyhow!("mode {mode:?} of {whole:?} is not an octal mode"))
}
