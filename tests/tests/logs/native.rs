//! Native containers in the log; the cases are listed in `main.rs`.

use anyhow::{Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::log::{has, number};

use crate::life::{WHOLE, lines_of_an_exec};

pub(crate) fn life_of_a_native_container_is_told(c: &mut Containers) -> Result<()> {
    let id = c.id("native");
    // Longer than an answer takes: runc's shim tells the start and the end by answers of their own.
    c.run(&id, &["sleep", "0.5"])?.ok()?;
    let lines = c.whole_life(&id, &WHOLE)?;
    for line in &lines {
        has(line, &[("sandbox", &id), ("level", "info")])?;
    }
    has(&lines[0], &[("kind", "native")])?;
    has(&lines[2], &[("status", "0"), ("cause", "exit")])?;
    ensure!(number(&lines[2], "run_seconds")? > 0.4, "{:?}", lines[2]);
    ensure!(!lines[2].contains_key("cpu_seconds"), "{:?}", lines[2]);
    c.fixture.becomes_clean()
}

pub(crate) fn exec_of_a_native_container_is_told(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    let lines = lines_of_an_exec(c, &id)?;
    has(&lines[4], &[("exec", "again"), ("status", "7")])?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn refused_native_container_is_told(c: &mut Containers) -> Result<()> {
    let id = c.id("refused");
    // runc's own refusal.
    let flags = ["--rm", "--cwd", "relative"];
    c.run_command(&flags, &id, &["exit", "0"]).run()?.refused()?;
    let lines = c.whole_life(&id, &["container refused"])?;
    has(&lines[0], &[("step", "create")])?;
    c.fixture.becomes_clean()
}
