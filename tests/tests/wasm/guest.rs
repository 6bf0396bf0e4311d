//! Entrypoints and files of wasm guests; the cases are listed in `main.rs`.

use std::fs;

use anyhow::{Result, ensure};
use runwasi_tests::Containers;

pub(crate) fn named_export_of_the_image_runs(c: &mut Containers) -> Result<()> {
    let (image, entrypoint) = (c.runtime.image().name(), format!("{}#greet", c.runtime.guest()));
    let id = c.id("greet");
    let out = c
        .fixture
        .ctr(["run", "--rm", "--runtime", c.runtime.name(), image, &id, &entrypoint])?
        .ok()?;
    ensure!(out.out() == "Hello from greet!\n", "{out}");
    Ok(())
}

/// In a volume, so that one container sees what another has written.
pub(crate) fn files_are_written_listed_and_read_back(c: &mut Containers) -> Result<()> {
    let volume = tempfile::tempdir()?;
    let mount = format!("type=bind,src={},dst=/data,options=rbind:rw", volume.path().display());
    let flags = ["--rm", "--mount", &mount];
    c.run_command(&flags, &c.id("write"), &["write", "/data/note", "kept"]).run()?.ok()?;
    ensure!(fs::read_to_string(volume.path().join("note"))? == "kept");
    let listed = c.run_command(&flags, &c.id("ls"), &["ls", "/data"]).run()?.ok()?;
    ensure!(listed.out() == "note\n", "{listed}");
    let read = c.run_command(&flags, &c.id("cat"), &["cat", "/data/note"]).run()?.ok()?;
    ensure!(read.out() == "kept", "{read}");
    c.fixture.becomes_clean()
}

pub(crate) fn read_only_volume_refuses_writes(c: &mut Containers) -> Result<()> {
    let volume = tempfile::tempdir()?;
    let mount = format!("type=bind,src={},dst=/data,options=rbind:ro", volume.path().display());
    let out = c
        .run_command(&["--rm", "--mount", &mount], &c.id("ro"), &["write", "/data/note", "x"])
        .run()?
        .status_is(1)?;
    ensure!(out.err().contains("/data/note"), "{out}");
    ensure!(fs::read_dir(volume.path())?.next().is_none(), "something was written");
    Ok(())
}

pub(crate) fn memory_that_a_guest_allocates_is_there(c: &mut Containers) -> Result<()> {
    let out = c.run(&c.id("alloc"), &["alloc", "64"])?.ok()?;
    ensure!(out.out() == "done\n", "{out}");
    Ok(())
}

/// Preview 1 has none to give; `PWD` is what a guest is told, see the lifecycle suite.
pub(crate) fn guest_without_a_working_directory_begins_at_the_root(
    c: &mut Containers,
) -> Result<()> {
    let out = c.run(&c.id("cwd"), &["cwd"])?.ok()?;
    ensure!(out.out() == "/\n", "{out}");
    Ok(())
}
