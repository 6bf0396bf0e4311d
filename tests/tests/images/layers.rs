//! Which layer of an image runs, and what is read of it; the cases are listed in `main.rs`.

use std::fs;

use anyhow::{Result, ensure};
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Containers, Output};

use crate::bed;

pub(crate) fn name_chooses_among_several_layers(c: &mut Containers) -> Result<()> {
    let salt = bed::salt(c);
    bed::put(
        c,
        &[("three.wasm", &bed::exiting(3, &salt)), ("seven.wasm", &bed::exiting(7, &salt))],
    )?;
    for (name, status) in [("/three.wasm", 3), ("/seven.wasm", 7), ("seven.wasm", 7)] {
        bed::run(c, &c.id("one"), &[name])?.status_is(status)?;
    }
    c.bed.becomes_clean()
}

pub(crate) fn only_layer_runs_whatever_it_is_called(c: &mut Containers) -> Result<()> {
    bed::put(c, &[("three.wasm", &bed::exiting(3, &bed::salt(c)))])?;
    for name in ["/three.wasm", "/usr/bin/other", "some words"] {
        bed::run(c, &c.id("only"), &[name])?.status_is(3)?;
    }
    c.bed.becomes_clean()
}

pub(crate) fn exec_runs_another_layer(c: &mut Containers) -> Result<()> {
    let (id, _) = sleeper_and_seven(c)?;
    exec(c, &id, "seven", "/seven.wasm")?.status_is(7)?;
    // The init's own program once more.
    let echo = ["/wasmtest.wasm", "echo", "again"];
    let out = c.exec_command(&[], &id, "echo", &echo).run()?.ok()?;
    ensure!(out.out() == "again\n", "{out}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.bed.becomes_clean()
}

pub(crate) fn function_of_a_layer_is_called(c: &mut Containers) -> Result<()> {
    bed::put(c, &[("three.wasm", &bed::exiting(3, &bed::salt(c)))])?;
    bed::run(c, &c.id("next"), &["/three.wasm#next"])?.status_is(4)?;
    let said = bed::refused(c, bed::NAME, &["/three.wasm#no-such"])?;
    runwasi_tests::says(&said, &["no-such", bed::NAME, "three.wasm"], &[])?;
    c.bed.becomes_clean()
}

pub(crate) fn compiled_layer_is_not_read_again(c: &mut Containers) -> Result<()> {
    let module = bed::exiting(5, &bed::salt(c));
    bed::put(c, &[("five.wasm", &module)])?;
    bed::run(c, &c.id("first"), &["/five.wasm"])?.status_is(5)?;
    fs::remove_file(bed::blob(c, &module)?)?;
    bed::run(c, &c.id("second"), &["/five.wasm"])?.status_is(5)?;
    c.bed.becomes_clean()
}

/// A container whose init sleeps, of an image that has another layer besides.
pub(crate) fn sleeper_and_seven(c: &Containers) -> Result<(String, Vec<u8>)> {
    let guest = fs::read(target_dir().join("guests/wasmtest.wasm"))?;
    let seven = bed::exiting(7, &bed::salt(c));
    bed::put(c, &[("wasmtest.wasm", &guest), ("seven.wasm", &seven)])?;
    let id = c.id("sleeper");
    c.create_of(bed::NAME, &id, &["/wasmtest.wasm", "sleep", "100"])?;
    c.bed.ctr(["task", "start", "-d", &id])?.ok()?;
    c.is_running(&id)?;
    Ok((id, seven))
}

pub(crate) fn exec(c: &Containers, id: &str, exec: &str, program: &str) -> Result<Output> {
    c.exec_command(&[], id, exec, &[program]).run()
}
