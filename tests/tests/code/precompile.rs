//! `containerd-wasmtimed precompile`; the cases are listed in `main.rs`.

use std::fs;

use anyhow::{Result, ensure};
use runwasi_tests::runtime::{WasmImage, daemon_file};
use runwasi_tests::{Command, Image, says};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use crate::fixture::Fixture;
use crate::modules::{large, printing};

/// With an empty file of settings instead of the machine's own.
fn precompile(b: &Fixture, targets: &[&str]) -> Result<Command> {
    let place = b.cache.to_string_lossy().into_owned();
    let flags = ["precompile", "--config", &b.options("")?, "--cache-dir", &place];
    Ok(Command::new(daemon_file()).args(flags).args(targets))
}

pub(crate) fn precompiled_file_and_image_need_no_compiler_when_they_start(
    b: &mut Fixture,
) -> Result<()> {
    b.module("new.wat", large(200))?;
    let file = b.fixture.dir().join("rootfs/new.wat").to_string_lossy().into_owned();
    let tar = b.runtime.image().tar().to_string_lossy().into_owned();
    let out = precompile(b, &[&file, &tar])?.run()?.ok()?;
    ensure!(out.out().contains(" compiled, 0 kept"), "{out}");
    says(&out.err(), &["new.wat", "wasmtest.tar:blobs/"], &["compiled"])?;
    let out = precompile(b, &[&file, &tar])?.run()?.ok()?;
    ensure!(out.out().starts_with("0 compiled, "), "{out}");
    let packed = b.fixture.dir().join("packed.tar.zst");
    fs::write(&packed, compress_to_vec(&*fs::read(&tar)?, CompressionLevel::Fastest))?;
    let out = precompile(b, &[&packed.to_string_lossy()])?.run()?.ok()?;
    ensure!(out.out().starts_with("0 compiled, ") && !out.out().contains(" 0 kept"), "{out}");
    b.runs("new.wat")?;
    let out = b.run(&b.id("image"), &["echo", "hi"])?.ok()?;
    ensure!(out.out() == "hi\n", "{out}");
    let log = b.log();
    ensure!(!log.contains("msg=compiling path="), "something was compiled once more");
    b.fixture.becomes_clean()
}

pub(crate) fn precompiled_images_of_containerd_need_no_compiler_either(
    b: &mut Fixture,
) -> Result<()> {
    b.fixture.load(Image::Wasm(WasmImage::Artifact))?;
    let (address, namespace) =
        (b.fixture.address().to_string_lossy().into_owned(), b.fixture.namespace().to_owned());
    let containerd = ["--address", &address, "--namespace", &namespace];
    // One with the guest in a gzipped tar, one with the guest as a layer.
    for image in [b.runtime.image(), Image::Wasm(WasmImage::Artifact)] {
        let out = precompile(b, &[&containerd[..], &[image.name()]].concat())?.run()?.ok()?;
        ensure!(out.err().contains(image.name()), "{out}");
    }
    let out = b.run(&b.id("image"), &["echo", "hi"])?.ok()?;
    ensure!(out.out() == "hi\n", "{out}");
    ensure!(!b.log().contains("msg=compiling path="), "something was compiled once more");
    let out = precompile(b, &[&containerd[..], &["example.com/absent:1"]].concat())?
        .run()?
        .status_is(1)?;
    says(&out.err(), &["example.com/absent:1"], &["no image"])?;
    let out = precompile(b, &["--address", "/absent.sock", "example.com/absent:1"])?
        .run()?
        .status_is(1)?;
    says(&out.err(), &["example.com/absent:1", "/absent.sock"], &[])?;
    b.fixture.becomes_clean()
}

pub(crate) fn precompiling_what_is_no_wasm_names_it_and_does_the_rest(
    b: &mut Fixture,
) -> Result<()> {
    b.module("good.wat", printing("", ""))?;
    b.module("bad.wat", "(module (func (oops)))")?;
    b.module("text", "nothing of the kind")?;
    let files = ["good.wat", "bad.wat", "text", "absent.wasm"]
        .map(|name| b.fixture.dir().join("rootfs").join(name).to_string_lossy().into_owned());
    let out = precompile(b, &files.each_ref().map(String::as_str))?.run()?.status_is(1)?;
    ensure!(out.out().starts_with("1 compiled, 0 kept"), "{out}");
    says(&out.err(), &["bad.wat", "oops", "/text", "absent.wasm"], &["no such file"])?;
    let (status, seen) = precompile(b, &[&files[0]])?.spawn_at_terminal()?.wait()?;
    ensure!(status == 0, "status {status}: {seen}");
    says(&seen, &["good.wat", "0 compiled, 1 kept"], &["kept"])
}
