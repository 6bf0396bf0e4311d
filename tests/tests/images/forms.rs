//! Every form of wasm image, and where a program is looked for first; the cases are listed in `main.rs`.

use std::fs;

use anyhow::{Context, Result, ensure};
use runwasi_tests::runtime::WasmImage;
use runwasi_tests::{Containers, Image, says};

use crate::fixture;

pub(crate) fn every_form_runs_from_the_content_store(c: &mut Containers) -> Result<()> {
    for form in WasmImage::ALL {
        let (image, text) = (Image::Wasm(form), format!("{form:?}"));
        c.fixture.load(image)?;
        let id = c.id("form");
        c.create_of_image(image, &id, &["/wasmtest.wasm", "echo", &text])?;
        let ran = fixture::start(c, &id).run()?.ok().with_context(|| text.clone())?;
        ensure!(ran.out() == format!("{text}\n"), "{ran}");
        c.delete_container(&id)?;
        c.fixture.becomes_clean()?;
    }
    Ok(())
}

pub(crate) fn import_of_a_wasm_image_needs_its_flags(c: &mut Containers) -> Result<()> {
    let image = Image::Wasm(WasmImage::Artifact);
    let tar = image.tar().to_string_lossy().into_owned();
    let refused = c.fixture.ctr(["image", "import", "--no-unpack", &tar])?.refused()?;
    says(&refused, &["filtered out"], &[])?;
    for flags in [&["--all-platforms"][..], &["--platform", "wasip1/wasm"]] {
        let line = [&["image", "import", "--no-unpack"], flags, &[&tar]].concat();
        c.fixture.ctr(line)?.ok()?;
        let images = c.fixture.ctr(["image", "ls", "-q"])?.ok()?.out();
        ensure!(images.contains(image.name()), "{flags:?}: {images}");
        c.fixture.ctr(["image", "rm", image.name()])?.ok()?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn images_with_the_standard_config_run_by_ctr(c: &mut Containers) -> Result<()> {
    for form in WasmImage::ALL.into_iter().filter(|form| form.has_standard_config()) {
        let image = Image::Wasm(form);
        c.fixture.load(image)?;
        // With an index ctr has to be told which of its images is meant: none is for this machine.
        let platform: &[&str] =
            if form == WasmImage::OciIndex { &["--platform", "wasip1/wasm"] } else { &[] };
        let run = |id: &str, args: &[&str]| {
            let line = [
                &["run", "--rm", "--runtime", c.runtime.name()],
                platform,
                &[image.name(), id],
                args,
            ]
            .concat();
            c.fixture.ctr(line)
        };
        let hello = run(&c.id("hello"), &[])?.ok().with_context(|| format!("{form:?}"))?;
        ensure!(hello.out() == "Hello from wasm!\n", "{form:?}: {hello}");
        // A component of WASI p2 may only be able to say whether it has failed.
        let status = if form == WasmImage::OciComponent { 1 } else { 42 };
        let ended = run(&c.id("exit"), &["/wasmtest.wasm", "exit", &status.to_string()])?
            .status_is(status)?;
        ensure!(ended.err().is_empty(), "{form:?}: {ended}");
        c.fixture.becomes_clean()?;
    }
    Ok(())
}

pub(crate) fn file_of_the_rootfs_comes_before_the_layer(c: &mut Containers) -> Result<()> {
    let salt = fixture::salt(c);
    fixture::put(c, &[("a.wasm", &fixture::exiting(1, &salt))])?;
    let id = c.id("both");
    c.create_of(fixture::NAME, &id, &["/a.wasm"])?;
    // The container's root file system, which was empty until now.
    fs::write(c.fixture.dir().join("empty/a.wasm"), fixture::exiting(2, &salt))?;
    fixture::start(c, &id).run()?.status_is(2)?;
    fs::remove_file(c.fixture.dir().join("empty/a.wasm"))?;
    fixture::start(c, &id).run()?.status_is(1)?;
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}
