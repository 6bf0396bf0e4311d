//! No daemon, no permission, no answer, and no effect; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::ask::{command, line, parsed};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::{Command, Containers, Runtime, Ticks, says};
use rustix::process::Signal;

/// All commands that ask a daemon and end by themselves.
const ASKING: [&[&str]; 7] = [
    &["status"],
    &["list"],
    &["list", "--json"],
    &["events", "--for", "1"],
    &["inspect", "some-id"],
    &["drain"],
    &["health"],
];

#[test]
fn without_a_daemon_each_command_says_so_and_creates_nothing() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("state/manager.sock");
    for words in ASKING.into_iter().chain([&["reload"][..]]) {
        // The file of settings is one that is there on no machine's account.
        let line = Command::new(daemon_file()).args(words);
        let said = line.args(["--socket", &socket.to_string_lossy(), "--config", "/dev/null/x"]);
        let said = if words == ["reload"] {
            let none = directory.path().join("none.toml");
            fs::write(&none, "")?;
            let line = Command::new(daemon_file()).args(words).args(["--config"]).args([&none]);
            line.args(["--socket", &socket.to_string_lossy()])
        } else {
            said
        };
        let said = said.run()?.status_is(3)?;
        says(&said.err(), &["daemon not running at", &socket.to_string_lossy()], &[])?;
    }
    ensure!(!directory.path().join("state").exists(), "a command has made the state directory");
    Ok(())
}

#[test]
fn unknown_words_suggest_the_nearest() -> Result<()> {
    for (words, wanted) in [
        (&["stauts"][..], "did you mean status?"),
        (&["list", "--jsn"], "did you mean --json?"),
        (&["--log-lvel=info"], "did you mean --log-level?"),
        (&["cache", "verfy"], "did you mean verify?"),
    ] {
        let said = Command::new(daemon_file()).args(words).run()?.status_is(1)?;
        says(&said.err(), &[wanted], &[])?;
        ensure!(said.err().lines().count() == 1, "{said}");
    }
    Ok(())
}

#[test]
fn unknown_words_of_the_shims_suggest_the_nearest() -> Result<()> {
    for runtime in [Runtime::Wasmtime, Runtime::Wasmtimed] {
        let program = runtime.program_file().context("a program")?;
        for (words, wanted) in [
            (&["strat"][..], "unknown action \"strat\"; did you mean start? -help shows"),
            (&["-namspace", "x", "start"], "-namspace; did you mean -namespace? -help shows"),
            (&["--hlep"], "did you mean -help?"),
            (&["serve"], "unknown action \"serve\"; -help shows"),
        ] {
            let said = Command::new(&program).args(words).run()?.status_is(1)?;
            says(&said.err(), &[wanted], &[])?;
            ensure!(said.err().lines().count() == 1 && said.out().is_empty(), "{said}");
        }
    }
    Ok(())
}

pub(crate) fn user_without_permission_is_told_so(c: &mut Containers) -> Result<()> {
    // A user may neither enter the state directory nor the one that the program was built in.
    let place = tempfile::tempdir()?;
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755))?;
    let program = place.path().join("containerd-wasmtimed");
    fs::copy(daemon_file(), &program)?;
    let socket = c.fixture.node().socket();
    for words in ASKING {
        let line = Command::new("setpriv").args(["--reuid=65534", "--regid=65534"]);
        let line = line.args(["--clear-groups", "--"]).args([program.as_os_str()]).args(words);
        let said = line.args(["--socket", &socket.to_string_lossy()]).current_dir(Path::new("/"));
        let said = said.run()?.status_is(4)?;
        says(&said.err(), &["ermission denied", "root"], &[])?;
        ensure!(!said.err().contains("not running"), "{said}");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn stopped_daemon_is_told_in_time_and_others_are_shown(
    c: &mut Containers,
) -> Result<()> {
    let (old, new) = (c.id("old"), c.id("new"));
    c.detached(&old, &["sleep", "100"])?;
    let mut stopped = c.fixture.replace_daemon()?;
    c.detached(&new, &["sleep", "100"])?;
    stopped.signal(Signal::STOP)?;
    let limit = Duration::from_secs(30);
    let list = command(c, &["list", "--patience", "4"]).deadline(limit).run()?.status_is(1)?;
    ensure!(list.out().contains(&new) && !list.out().contains(&old), "{list}");
    says(&list.err(), &[&format!("daemon {}", stopped.pid()?), "no answer"], &[])?;
    let status = command(c, &["status", "--patience", "4"]).deadline(limit).run()?.status_is(1)?;
    ensure!(line(&status.out(), &stopped.pid()?.to_string())?[1] == "no-answer", "{status}");
    says(&status.err(), &["its process is stopped"], &[])?;
    let json = command(c, &["list", "--json", "--patience", "4"]).deadline(limit).run()?;
    let json = parsed(&json.status_is(1)?)?;
    ensure!(json["daemons"].as_array().map(Vec::len) == Some(2), "{json}");
    let events = command(c, &["events", "--past", "--for", "5", "--patience", "1"]);
    let events = events.deadline(limit).run()?.status_is(1)?;
    ensure!(events.out().contains(&new), "{events}");
    says(&events.err(), &["no answer of daemon", &stopped.pid()?.to_string()], &[])?;
    // The current daemon is well.
    command(c, &["health", "--patience", "4"]).deadline(limit).run()?.ok()?;
    let current = c.fixture.daemon()?;
    current.signal(Signal::STOP)?;
    let sick = command(c, &["health", "--patience", "4"]).deadline(limit).run()?;
    c.fixture.daemon()?.signal(Signal::CONT)?;
    stopped.signal(Signal::CONT)?;
    says(&sick.status_is(1)?.err(), &["no answer", "no daemon takes new sandboxes"], &[])?;
    for id in [&old, &new] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    ensure!(stopped.ends(Duration::from_secs(20))? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn commands_disturb_no_daemon(c: &mut Containers) -> Result<()> {
    let id = c.id("undisturbed");
    c.detached(&id, &["daemon"])?;
    let mut ticks = Ticks::of(&id)?;
    ticks.go_on()?;
    let socket = c.fixture.node().socket();
    let inode = fs::symlink_metadata(&socket)?.ino();
    let pid = c.fixture.daemon()?.pid()?;
    // Several of each at once.
    let words = ASKING.into_iter().filter(|words| words[0] != "drain");
    let commands: Vec<_> = words
        .flat_map(|words| [words, words, words])
        .map(|words| command(c, words).spawn())
        .collect::<Result<_>>()?;
    for one in commands {
        let output = one.wait()?;
        ensure!(matches!(output.status, 0 | 1), "{output}");
    }
    ticks.go_on()?;
    ensure!(fs::symlink_metadata(&socket)?.ino() == inode, "the manager socket is another one");
    ensure!(c.fixture.node().daemons() == [pid]);
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
