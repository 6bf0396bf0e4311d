//! What an exec is given and what comes back; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::Containers;

/// A container whose init only waits.
pub(crate) fn waiting(c: &Containers) -> Result<String> {
    let id = c.id("host");
    c.detached_with(&["--env", "FROM=run"], &id, &["sleep", "1000"])?;
    Ok(id)
}

/// Ends it, and demands that nothing is left.
pub(crate) fn over(c: &Containers, id: &str) -> Result<()> {
    c.is_running(id)?;
    ensure!(c.kill_and_finish(id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn exec_prints_and_passes_its_status_on(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    for n in 0..3 {
        let out = c.exec(&id, "again", &["echo", "hello", "exec"])?.ok()?;
        ensure!(out.out() == "hello exec\n", "run {n}: {out}");
    }
    c.exec(&id, "seven", &["exit", "7"])?.status_is(7)?;
    over(c, &id)
}

pub(crate) fn another_program_of_the_image_runs(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let other = c.runtime.other_guest();
    let out = c.exec_command(&[], &id, "other", &[other, "args", "x"]).run()?.ok()?;
    ensure!(out.out() == format!("{other}\nargs\nx\n"), "{out}");
    over(c, &id)
}

pub(crate) fn stdin_of_an_exec_is_its_own(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let out = c
        .exec_command(&[], &id, "cat", &[c.runtime.guest(), "cat"])
        .stdin("to the exec\n")
        .run()?
        .ok()?;
    ensure!(out.out() == "to the exec\n", "{out}");
    over(c, &id)
}

pub(crate) fn stderr_of_an_exec_is_apart(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let out = c.exec(&id, "complains", &["stderr", "a complaint"])?.ok()?;
    ensure!(out.err() == "a complaint\n" && out.out().is_empty(), "{out}");
    over(c, &id)
}

pub(crate) fn names_of_the_standard_streams_are_the_execs_own(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let out = c.exec(&id, "out", &["write", "/dev/stdout", "of the exec"])?.ok()?;
    ensure!(out.out() == "of the exec" && out.err().is_empty(), "{out}");
    let out = c.exec(&id, "err", &["write", "/dev/stderr", "of the exec"])?.ok()?;
    ensure!(out.err() == "of the exec" && out.out().is_empty(), "{out}");
    over(c, &id)
}

pub(crate) fn environment_and_working_directory_are_the_execs(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let env =
        c.exec_command(&["--cwd", "/etc"], &id, "env", &[c.runtime.guest(), "env"]).run()?.ok()?;
    ensure!(env.out().lines().any(|line| line == "FROM=run"), "{env}");
    let told = env.out().lines().any(|line| line == "PWD=/etc");
    // A native program asks the kernel.
    ensure!(told || !c.runtime.is_wasm(), "{env}");
    let nowhere = c
        .exec_command(&["--cwd", "/no/where"], &id, "lost", &[c.runtime.guest(), "exit", "0"])
        .run()?;
    let said = nowhere.refused()?;
    ensure!(!c.runtime.is_wasm() || said.contains("/no/where"), "{said}");
    over(c, &id)
}

pub(crate) fn program_that_is_missing_is_an_error_and_its_id_stays_free(
    c: &mut Containers,
) -> Result<()> {
    let id = waiting(c)?;
    let said = c.exec_command(&[], &id, "e1", &["/no-such-program"]).run()?.refused()?;
    ensure!(said.contains("/no-such-program"), "{said}");
    c.exec(&id, "e1", &["exit", "3"])?.status_is(3)?;
    over(c, &id)
}

pub(crate) fn id_of_a_running_exec_is_taken(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    c.exec_detached(&id, "taken", &["sleep", "1000"])?;
    let said = c.exec(&id, "taken", &["exit", "0"])?.refused()?;
    ensure!(said.contains("exist"), "{said}");
    over(c, &id)
}

pub(crate) fn megabytes_of_output_arrive_intact(c: &mut Containers) -> Result<()> {
    let id = waiting(c)?;
    let count = 8 << 20;
    let out = c.exec(&id, "much", &["bytes", &count.to_string()])?.ok()?;
    ensure!(out.stdout.len() == count, "{} bytes arrived", out.stdout.len());
    let wrong = out.stdout.iter().enumerate().find(|(i, byte)| i % 251 != usize::from(**byte));
    ensure!(wrong.is_none(), "{wrong:?}");
    over(c, &id)
}
