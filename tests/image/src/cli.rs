//! The arguments of `oci-image`. Called by `main`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use lexopt::prelude::*;

use crate::files::{DIRECTORY_MODE, FILE_MODE};
use crate::image::{ImageBuilder, WASM_LAYERS, WasmForm, WasmLayer};
use crate::layout::write_file;

/// What `--help` prints.
pub const USAGE: &str = "\
usage: oci-image linux --name NAME --output TAR [OPTIONS]
       oci-image wasm --name NAME --output TAR [--image-config [OPTIONS]] [--layer-type TYPE] MODULE[:TITLE]...

Writes an OCI image layout as a tar for `ctr image import`. NAME is a full reference.
linux: one layer with the given files, for this machine's architecture.
wasm:  a layer for each module or component; its title is the file's name, if none is given. The config is the CNCF
       artifact's, or with --image-config the standard one. TYPE is application/wasm, if absent,
       application/vnd.wasm.content.layer.v1+wasm or application/vnd.bytecodealliance.wasm.component.layer.v0+wasm.

options, those with ... may be repeated:
  --index                     puts an index that names the platform around the manifest
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
    modules: Vec<String>,
    image_config: bool,
    layer_type: Option<String>,
    index: bool,
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
            Long("layer-type") => found.layer_type = Some(parser.value()?.string()?),
            Long("index") => found.index = true,
            Long("help") | Short('h') => found.help = true,
            Value(value) if found.form.is_none() => found.form = Some(value.string()?),
            Value(value) => found.modules.push(value.string()?),
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
    if arguments.index {
        image = image.indexed();
    }
    if let Some(directory) = &arguments.workdir {
        image = image.workdir(directory);
    }
    if let Some(user) = &arguments.user {
        image = image.user(user);
    }
    Ok(image)
}

fn linux(arguments: &Arguments) -> Result<Vec<u8>> {
    if let Some(module) = arguments.modules.first() {
        bail!("{module}: a linux image takes files by --file");
    }
    if arguments.image_config {
        bail!("--image-config is for the wasm form");
    }
    if arguments.layer_type.is_some() {
        bail!("--layer-type is for the wasm form");
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
    let first = arguments.modules.first().context("MODULE is missing")?;
    if !arguments.files.is_empty() || !arguments.directories.is_empty() {
        bail!("{first}: a wasm image holds no other files");
    }
    let layers = arguments
        .modules
        .iter()
        .map(|module| wasm_layer(module, arguments))
        .collect::<Result<Vec<_>>>()?;
    let form = match arguments.image_config {
        true => WasmForm::ImageConfig,
        false => WasmForm::Artifact,
    };
    builder(arguments)?.wasm_tar(&layers, form)
}

/// `MODULE[:TITLE]`.
fn wasm_layer(text: &str, arguments: &Arguments) -> Result<WasmLayer> {
    let (file, title) =
        text.split_once(':').map_or((text, None), |(file, title)| (file, Some(title)));
    let file = PathBuf::from(file);
    let name = || Some(file.file_name()?.to_str()?.to_owned());
    let title = title.map(str::to_owned).or_else(name).filter(|title| !title.is_empty());
    let title = title.with_context(|| format!("module {text:?} has no title"))?;
    let media_type = arguments.layer_type.clone().unwrap_or_else(|| WASM_LAYERS[0].to_owned());
    Ok(WasmLayer { file, title, media_type })
}

/// `SRC:DEST[:MODE]`.
fn file_argument(text: &str) -> Result<(&str, &str, u32)> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(source), Some(destination), None) => Ok((source, destination, FILE_MODE)),
        (Some(source), Some(destination), Some(mode)) => {
            Ok((source, destination, octal(mode, text)?))
        }
        _ => bail!("file {text:?} is not SRC:DEST[:MODE]"),
    }
}

fn octal(mode: &str, whole: &str) -> Result<u32> {
    u32::from_str_radix(mode, 8)
        .ok()
        .filter(|mode| *mode <= 0o7777)
        .ok_or_else(|| anyhow!("mode {mode:?} of {whole:?} is not an octal mode"))
}
