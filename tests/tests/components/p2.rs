//! Components of WASI p2; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::{Command, Containers, Image, Output};

/// `ctr run --rm FLAGS` of a guest of the image with the many.
pub(crate) fn command(c: &Containers, flags: &[&str], program: &[&str]) -> Result<Command> {
    c.fixture.load(Image::Wasmguests)?;
    Ok(c.run_of(Image::Wasmguests, &[&["--rm"], flags].concat(), &c.id("guest"), program))
}

/// The same, to its end.
pub(crate) fn run(c: &Containers, flags: &[&str], program: &[&str]) -> Result<Output> {
    command(c, flags, program)?.run()
}

pub(crate) fn exit_code_is_passed_on(c: &mut Containers) -> Result<()> {
    for code in [0, 1, 42, 255] {
        run(c, &[], &["/net.wasm", "exit", &code.to_string()])?.status_is(code)?;
    }
    Ok(())
}

pub(crate) fn named_function_runs(c: &mut Containers) -> Result<()> {
    let out = run(c, &[], &["/cli_exports.wasm#greet"])?.ok()?;
    ensure!(out.out() == "Hello from greet!\n", "{out}");
    Ok(())
}

pub(crate) fn named_function_that_fails_gives_status_one(c: &mut Containers) -> Result<()> {
    run(c, &[], &["/cli_exports.wasm#fail"])?.status_is(1)?;
    Ok(())
}

pub(crate) fn named_function_that_traps_gives_134(c: &mut Containers) -> Result<()> {
    let out = run(c, &[], &["/cli_exports.wasm#trap"])?.status_is(134)?;
    ensure!(out.err().contains("unreachable"), "{out}");
    Ok(())
}

pub(crate) fn function_that_cannot_be_called_is_refused_with_those_that_are_there(
    c: &mut Containers,
) -> Result<()> {
    let said = run(c, &[], &["/cli_exports.wasm#nosuch"])?.refused()?;
    ensure!(said.contains("nosuch") && said.contains("greet"), "{said}");
    let said = run(c, &[], &["/cli_exports.wasm#with-parameters"])?.refused()?;
    ensure!(said.contains("with-parameters") && said.contains("parameters"), "{said}");
    // Neither a command nor a server, and nothing is named.
    let said = run(c, &[], &["/cli_exports.wasm"])?.refused()?;
    ensure!(said.contains("wasi:cli/run") && said.contains("greet"), "{said}");
    c.fixture.becomes_clean()
}

/// p2 has a call for it; preview 1 had none.
pub(crate) fn working_directory_is_told(c: &mut Containers) -> Result<()> {
    for directory in ["/etc", "/"] {
        let out = run(c, &["--cwd", directory], &["/net.wasm", "cwd"])?.ok()?;
        ensure!(out.out() == format!("{directory}\n"), "{out}");
    }
    Ok(())
}

pub(crate) fn config_is_the_containers(c: &mut Containers) -> Result<()> {
    let flags = ["--env", "COLOUR=blue"];
    let out = run(c, &flags, &["/net.wasm", "config", "COLOUR"])?.ok()?;
    ensure!(out.out() == "blue\n", "{out}");
    let out = run(c, &flags, &["/net.wasm", "config", "HOME_OF_NOBODY"])?.ok()?;
    ensure!(out.out() == "none\n", "{out}");
    let out = run(c, &flags, &["/net.wasm", "config-all"])?.ok()?;
    ensure!(out.out().lines().any(|line| line == "COLOUR=blue"), "{out}");
    Ok(())
}

const KEYVALUE: &str = "\
at first None
set Some(\"value\")
count 42
keys [\"count\", \"name\"]
deleted None
";

pub(crate) fn keyvalue_begins_empty_in_every_container(c: &mut Containers) -> Result<()> {
    for _ in 0..2 {
        let out = run(c, &[], &["/net.wasm", "kv"])?.ok()?;
        ensure!(out.out() == KEYVALUE, "{out}");
    }
    Ok(())
}

pub(crate) fn module_and_component_are_processes_of_one_container(
    c: &mut Containers,
) -> Result<()> {
    c.fixture.load(Image::Wasmguests)?;
    let id = c.id("host");
    c.run_of(Image::Wasmguests, &["-d"], &id, &["/wasmtest.component.wasm", "sleep", "1000"])
        .run()?
        .ok()?;
    for (program, status, printed) in [
        (&["/cli_unstable.wasm"][..], 3, "Hello from wasi_unstable!\n"),
        (&["/p3_hello.wasm"], 0, "Hello from p3!\n"),
        (&["/wasmtest.component.wasm", "echo", "again"], 0, "again\n"),
    ] {
        let out = c.exec_command(&[], &id, "exec", program).run()?.status_is(status)?;
        ensure!(out.out() == printed, "{out}");
    }
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
