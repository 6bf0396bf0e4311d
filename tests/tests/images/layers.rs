//! Which layer of an image runs, and what is read of it; the cases are listed in `main.rs`.

use std::fs;

use anyhow::{Result, ensure};
use runwasi_tests::runtime::target_dir;
use runwasi_tests::{Containers, Output};

use crate::fixture;

pub(crate) fn name_chooses_among_several_layers(c: &mut Containers) -> Result<()> {
    let salt = fixture::salt(c);
    fixture::put(
        c,
        &[("three.wasm", &fixture::exiting(3, &salt)), ("seven.wasm", &fixture::exiting(7, &salt))],
    )?;
    for (name, status) in [("/three.wasm", 3), ("/seven.wasm", 7), ("seven.wasm", 7)] {
        fixture::run(c, &c.id("one"), &[name])?.status_is(status)?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn only_layer_runs_whatever_it_is_called(c: &mut Containers) -> Result<()> {
    fixture::put(c, &[("three.wasm", &fixture::exiting(3, &fixture::salt(c)))])?;
    for name in ["/three.wasm", "/usr/bin/other", "some words"] {
        fixture::run(c, &c.id("only"), &[name])?.status_is(3)?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn exec_runs_another_layer(c: &mut Containers) -> Result<()> {
    let (id, _) = sleeper_and_seven(c)?;
    exec(c, &id, "seven", "/seven.wasm")?.status_is(7)?;
    // The init's own program once more.
    let echo = ["/wasmtest.wasm", "echo", "again"];
    let out = c.exec_command(&[], &id, "echo", &echo).run()?.ok()?;
    ensure!(out.out() == "again\n", "{out}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn function_of_a_layer_is_called(c: &mut Containers) -> Result<()> {
    fixture::put(c, &[("three.wasm", &fixture::exiting(3, &fixture::salt(c)))])?;
    fixture::run(c, &c.id("next"), &["/three.wasm#next"])?.status_is(4)?;
    let said = fixture::refused(c, fixture::NAME, &["/three.wasm#no-such"])?;
    runwasi_tests::says(&said, &["no-such", fixture::NAME, "three.wasm"], &[])?;
    c.fixture.becomes_clean()
}

pub(crate) fn compiled_layer_is_not_read_again(c: &mut Containers) -> Result<()> {
    let module = fixture::exiting(5, &fixture::salt(c));
    fixture::put(c, &[("five.wasm", &module)])?;
    fixture::run(c, &c.id("first"), &["/five.wasm"])?.status_is(5)?;
    fs::remove_file(fixture::blob(c, &module)?)?;
    fixture::run(c, &c.id("second"), &["/five.wasm"])?.status_is(5)?;
    c.fixture.becomes_clean()
}

/// A container whose init sleeps, of an image that has another layer besides.
pub(crate) fn sleeper_and_seven(c: &Containers) -> Result<(String, Vec<u8>)> {
    let guest = fs::read(target_dir().join("guests/wasmtest.wasm"))?;
    let seven = fixture::exiting(7, &fixture::salt(c));
    fixture::put(c, &[("wasmtest.wasm", &guest), ("seven.wasm", &seven)])?;
    let id = c.id("sleeper");
    c.create_of(fixture::NAME, &id, &["/wasmtest.wasm", "sleep", "100"])?;
    c.fixture.ctr(["task", "start", "-d", &id])?.ok()?;
    c.is_running(&id)?;
    Ok((id, seven))
}

pub(crate) fn exec(c: &Containers, id: &str, exec: &str, program: &str) -> Result<Output> {
    c.exec_command(&[], id, exec, &[program]).run()
}
