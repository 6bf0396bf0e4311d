//! Native containers in the log; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::log::{has, number};
use runwasi_tests::{Containers, proc};

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

pub(crate) fn cause_of_a_native_end_is_told(c: &mut Containers) -> Result<()> {
    let [failed, killed, ended, leaky] =
        ["failed", "killed", "ended", "leaky"].map(|name| c.id(name));
    c.run(&failed, &["exit", "3"])?.status_is(3)?;
    c.detached(&killed, &["sleep", "100"])?;
    // By the kernel's own signal, of which no call tells.
    proc::kill9(c.is_running(&killed)?.pid)?;
    ensure!(c.finish(&killed)? == 137);
    // The first process of a pid namespace has its own end by abort(3), which its C library chooses.
    let aborted = c.run(&ended, &["trap"])?.status.to_string();
    let number = aborted.parse::<u32>()?.checked_sub(128).context("no signal")?.to_string();
    let flags = ["--rm", "--memory-limit", "33554432"];
    c.run_command(&flags, &leaky, &["alloc", "512"]).run()?.status_is(137)?;
    for (id, status, cause, signal) in [
        (&failed, "3", "exit", None),
        (&killed, "137", "signal", Some("9")),
        (&ended, &aborted, "signal", Some(number.as_str())),
        (&leaky, "137", "oom", None),
    ] {
        let lines = c.whole_life(id, &WHOLE)?;
        has(&lines[2], &[("status", status), ("cause", cause)])?;
        let told = lines[2].get("signal").map(String::as_str);
        ensure!(told == signal, "{:?}", lines[2]);
    }
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
