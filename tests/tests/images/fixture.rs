//! Images of a test's own: tiny modules that nobody has compiled before, and the content store's files; used by the cases.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runwasi_image::image::WASM_LAYERS;
use runwasi_image::layout::digest;
use runwasi_image::{ImageBuilder, WasmForm, WasmLayer};
use runwasi_tests::{Command, Containers, Output};

/// The name of every image made here; each fixture has a containerd of its own.
pub(crate) const NAME: &str = "docker.io/library/made:latest";

/// A module in the binary format: `_start` exits with `status`, the export `next` with the status after it. The custom section makes
/// it unlike all others, so that it is in no cache. `status` is below 63.
pub(crate) fn exiting(status: u8, salt: &str) -> Vec<u8> {
    assert!(status < 63, "{status} would take two bytes");
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // Types: (i32) -> () and () -> ().
    section(&mut module, 1, b"\x02\x60\x01\x7f\x00\x60\x00\x00");
    section(&mut module, 2, b"\x01\x16wasi_snapshot_preview1\x09proc_exit\x00\x00");
    section(&mut module, 3, b"\x02\x01\x01");
    section(&mut module, 5, b"\x01\x00\x01");
    section(&mut module, 7, b"\x03\x06_start\x00\x01\x04next\x00\x02\x06memory\x02\x00");
    // No locals; i32.const, call 0, end.
    section(
        &mut module,
        10,
        &[2, 6, 0, 0x41, status, 0x10, 0, 0x0b, 6, 0, 0x41, status + 1, 0x10, 0, 0x0b],
    );
    let custom = [&[4][..], b"salt", salt.as_bytes()].concat();
    section(&mut module, 0, &custom);
    module
}

fn section(module: &mut Vec<u8>, id: u8, content: &[u8]) {
    assert!(content.len() < 128, "the length would take two bytes");
    module.extend([id, u8::try_from(content.len()).unwrap_or(0)]);
    module.extend(content);
}

/// Imports an image with these layers, each a title and its bytes.
pub(crate) fn put(c: &Containers, layers: &[(&str, &[u8])]) -> Result<()> {
    let write = |(title, bytes): &(&str, &[u8])| -> Result<WasmLayer> {
        let file = c.fixture.dir().join(title);
        fs::write(&file, bytes)?;
        Ok(WasmLayer { file, title: (*title).to_owned(), media_type: WASM_LAYERS[0].to_owned() })
    };
    let layers = layers.iter().map(write).collect::<Result<Vec<_>>>()?;
    let tar = c.fixture.dir().join("made.tar");
    fs::write(&tar, ImageBuilder::new(NAME).wasm_tar(&layers, WasmForm::Artifact)?)?;
    c.fixture.import(&tar, true)
}

/// A salt that no other test has.
pub(crate) fn salt(c: &Containers) -> String {
    c.fixture.dir().display().to_string()
}

/// `ctr task start` of a container that was made: attached, so its exit status is the guest's.
pub(crate) fn start(c: &Containers, id: &str) -> Command {
    c.fixture.ctr_command(["task", "start", id])
}

/// Makes a container of [`NAME`], runs it to its end and removes it.
pub(crate) fn run(c: &Containers, id: &str, args: &[&str]) -> Result<Output> {
    c.create_of(NAME, id, args)?;
    let ran = start(c, id).run()?;
    c.delete_container(id)?;
    Ok(ran)
}

/// A container that must not start: what `ctr` says, with nothing left but the container.
pub(crate) fn refused(c: &Containers, image: &str, args: &[&str]) -> Result<String> {
    let id = c.id("refused");
    c.create_of(image, &id, args)?;
    let said = start(c, &id).run()?.refused()?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()?;
    Ok(said)
}

/// The file that containerd keeps these bytes in.
pub(crate) fn blob(c: &Containers, bytes: &[u8]) -> Result<PathBuf> {
    let store = c.fixture.dir().join("r/io.containerd.content.v1.content/blobs/sha256");
    let digest = digest(bytes);
    let file = store.join(digest.strip_prefix("sha256:").context("no digest")?);
    ensure!(file.exists(), "{} is not there", file.display());
    Ok(file)
}

/// Puts other bytes into a file that containerd keeps.
pub(crate) fn damage(file: &Path, bytes: &[u8]) -> Result<()> {
    // Written anew: what has it mapped or open keeps what it has.
    fs::remove_file(file)?;
    Ok(fs::write(file, bytes)?)
}
