//! Output to `binary://` loggers; the cases are listed in `main.rs`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{Command, Containers, poll_until, proc};

/// A logger that is a shell script, run in a directory for its files.
fn logger(c: &Containers, script: &str) -> Result<(PathBuf, String)> {
    let directory = c.fixture.dir().join("logger");
    fs::create_dir_all(&directory)?;
    let program = directory.join("run");
    fs::write(&program, format!("#!/bin/sh\ncd '{}'\n{script}\n", directory.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let uri = format!("binary://{}?--to=here", program.display());
    Ok((directory, uri))
}

fn becomes(path: &Path, wanted: &str) -> Result<()> {
    let seen = poll_until("a logger's file", Duration::from_secs(20), || {
        fs::read_to_string(path).is_ok_and(|text| text == wanted).then_some(())
    });
    seen.with_context(|| {
        format!("{}: {:?} instead of {wanted:?}", path.display(), fs::read_to_string(path))
    })
}

/// Reads both streams, to their ends, in the way of the loggers that people write.
const COPY: &str = "exec 5>&-; cat <&4 >>err & cat <&3 >>out; wait; echo \"$CONTAINER_ID $CONTAINER_NAMESPACE $*\" >end";

pub(crate) fn logger_gets_both_streams_apart(c: &mut Containers) -> Result<()> {
    let (directory, uri) = logger(c, COPY)?;
    let flags = ["--rm", "--log-uri", &uri];
    let id = c.id("out");
    c.run_command(&flags, &id, &["echo", "to stdout"]).run()?.ok()?;
    becomes(&directory.join("out"), "to stdout\n")?;
    if !c.runtime.is_wasm() {
        // Its shim ends the logger after all is read, and does not wait until it has written that down.
        return c.fixture.becomes_clean();
    }
    becomes(&directory.join("end"), &format!("{id} {} --to here\n", c.fixture.namespace()))?;
    c.run_command(&flags, &c.id("err"), &["stderr", "to stderr"]).run()?.ok()?;
    becomes(&directory.join("err"), "to stderr\n")?;
    becomes(&directory.join("out"), "to stdout\n")?;
    c.fixture.becomes_clean()
}

pub(crate) fn logger_gets_all_of_what_was_printed(c: &mut Containers) -> Result<()> {
    let (directory, uri) = logger(c, COPY)?;
    let count = 3_000_000;
    let id = c.id("much");
    c.detached_with(&["--log-uri", &uri], &id, &["bytes", &count.to_string()])?;
    ensure!(c.finish(&id)? == 0);
    let out = directory.join("out");
    let all = || fs::metadata(&out).is_ok_and(|out| out.len() >= count as u64).then_some(());
    poll_until("all of the output", Duration::from_secs(20), all)?;
    let written = fs::read(&out)?;
    ensure!(
        written.len() == count
            && written.iter().enumerate().all(|(i, byte)| i % 251 == usize::from(*byte))
    );
    c.fixture.becomes_clean()
}

pub(crate) fn missing_logger_is_refused(c: &mut Containers) -> Result<()> {
    let uri = "binary:///no/such/logger";
    let said = c
        .run_command(&["--rm", "--log-uri", uri], &c.id("bad"), &["echo", "lost"])
        .run()?
        .refused()?;
    ensure!(
        said.contains("/no/such/logger") && said.contains("no such file")
            || said.contains("No such file"),
        "{said}"
    );
    c.fixture.becomes_clean()
}

/// What it prints then is lost; a native guest would wait for ever once the pipe is full.
pub(crate) fn guest_outlives_its_logger(c: &mut Containers) -> Result<()> {
    let (_, uri) = logger(c, "exec 5>&-; head -c 5 <&3 >begin")?;
    let id = c.id("much");
    c.run_command(&["--rm", "--log-uri", &uri], &id, &["bytes", "3000000"]).run()?.ok()?;
    // With the name of its container: a node has many.
    let name = format!("container={id}");
    poll_until("the loss in the log", Duration::from_secs(20), || {
        let log = c.fixture.log() + &c.fixture.daemon().map(|it| it.log()).unwrap_or_default();
        let told = |line: &str| line.contains("a logger is gone") && line.contains(&name);
        log.lines().any(told).then_some(())
    })?;
    c.fixture.becomes_clean()
}

/// Here with the end of its sandbox, which leaves it the least time.
pub(crate) fn logger_that_ignores_the_end_of_its_streams_is_ended(
    c: &mut Containers,
) -> Result<()> {
    let (directory, uri) = logger(c, "echo $$ >pid; exec 5>&-; exec sleep 1000")?;
    let flags = ["--rm", "--log-uri", &uri];
    c.run_command(&flags, &c.id("deaf"), &["exit", "0"]).run()?.ok()?;
    let pid: u32 = fs::read_to_string(directory.join("pid"))?.trim().parse()?;
    poll_until("the logger's end", Duration::from_secs(30), || (!proc::alive(pid)).then_some(()))?;
    c.fixture.becomes_clean()
}

pub(crate) fn logger_that_never_becomes_ready_is_refused(c: &mut Containers) -> Result<()> {
    let (directory, uri) = logger(c, "echo $$ >pid; cat <&3")?;
    let run = c.run_command(&["--rm", "--log-uri", &uri], &c.id("late"), &["echo", "lost"]);
    let said = run.deadline(Duration::from_secs(40)).run()?.refused()?;
    ensure!(said.contains("not ready within 10 s"), "{said}");
    // Its streams have ended, and so has it.
    let pid: u32 = fs::read_to_string(directory.join("pid"))?.trim().parse()?;
    poll_until("the logger's end", Duration::from_secs(20), || (!proc::alive(pid)).then_some(()))?;
    // It is no child of the shim's: nobody but the system's init had to wait for it.
    let parent = Command::new("ps").args(["-o", "ppid=", "-p", &pid.to_string()]).run()?.out();
    ensure!(["", "1"].contains(&parent.trim()), "its parent is {parent}");
    c.fixture.becomes_clean()
}

/// The address is one of containerd 2.3, which hands it on unread, as all versions do.
pub(crate) fn logger_of_version_2_tells_its_readiness(c: &mut Containers) -> Result<()> {
    let (directory, uri) = logger(c, &format!("printf x >&5; {COPY}"))?;
    let uri = uri.replace("binary://", "binary-v2://");
    c.run_command(&["--rm", "--log-uri", &uri], &c.id("ready"), &["echo", "heard"]).run()?.ok()?;
    becomes(&directory.join("out"), "heard\n")?;
    // One that fails before it is ready.
    logger(c, "exit 0")?;
    let run = c.run_command(&["--rm", "--log-uri", &uri], &c.id("failed"), &["echo", "lost"]);
    let said = run.run()?.refused()?;
    ensure!(said.contains("without a byte for ready"), "{said}");
    c.fixture.becomes_clean()
}
