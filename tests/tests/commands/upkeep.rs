//! `drain`, `health`, `debug bundle` and `cache`; the cases are listed in `main.rs`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::ask::{command, json, text};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::{Command, Containers, poll_until, says};
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn drain_waits_for_the_last_sandbox(c: &mut Containers) -> Result<()> {
    let (first, second) = (c.id("first"), c.id("second"));
    for id in [&first, &second] {
        c.detached(id, &["sleep", "100"])?;
    }
    let draining = command(c, &["drain", "--timeout", "60"]).deadline(LIMIT * 3).spawn()?;
    poll_until("the retirement", LIMIT, || {
        let status = json(c, &["list", "--json"]).ok()?;
        (status["daemons"][0]["state"] == "retired").then_some(())
    })?;
    ensure!(!c.run(&c.id("refused"), &["echo", "x"])?.refused()?.is_empty());
    c.delete_container(&c.id("refused")).ok();
    // Guests get no signal.
    c.is_running(&first)?;
    ensure!(c.kill_and_finish(&first)? == 137);
    poll_until("a word about the other", LIMIT, || {
        draining.stderr_so_far().contains("waiting for 1 sandboxes of 1 daemons").then_some(())
    })
    .with_context(|| draining.stderr_so_far())?;
    ensure!(c.kill_and_finish(&second)? == 137);
    let done = draining.wait()?.ok()?;
    ensure!(done.stdout.is_empty(), "{done}");
    ensure!(c.fixture.daemon()?.ends(LIMIT)? == 0);
    c.fixture.daemon()?.start_again()?;
    ensure!(c.run(&c.id("again"), &["echo", "x"])?.ok()?.out() == "x\n");
    c.fixture.becomes_clean()
}

pub(crate) fn drain_that_takes_too_long_says_what_is_left(c: &mut Containers) -> Result<()> {
    let id = c.id("stays");
    c.detached(&id, &["sleep", "100"])?;
    for seconds in ["0", "1"] {
        let late = command(c, &["drain", "--timeout", seconds]).run()?.status_is(1)?;
        says(&late.err(), &["drain: 1 sandboxes of 1 daemons at the time limit"], &[])?;
    }
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    ensure!(c.fixture.daemon()?.ends(LIMIT)? == 0);
    c.fixture.daemon()?.start_again()?;
    c.fixture.becomes_clean()
}

pub(crate) fn drain_of_an_empty_node_needs_no_time(c: &mut Containers) -> Result<()> {
    let done = command(c, &["drain", "--timeout", "0"]).run()?.ok()?;
    ensure!(done.stdout.is_empty() && done.stderr.is_empty(), "{done}");
    ensure!(c.fixture.daemon()?.ends(LIMIT)? == 0);
    c.fixture.daemon()?.start_again()?;
    c.fixture.becomes_clean()
}

pub(crate) fn health_follows_the_daemon(c: &mut Containers) -> Result<()> {
    says(&text(c, &["health"])?, &["healthy: daemon", "serves"], &[])?;
    let id = c.id("spins");
    c.detached(&id, &["spin"])?;
    says(&text(c, &["health"])?, &["healthy"], &[])?;
    c.fixture.daemon()?.signal(Signal::USR2)?;
    poll_until("the retirement", LIMIT, || {
        let said = command(c, &["health"]).run().ok()?;
        (said.status == 1 && said.err().contains("no daemon takes new sandboxes")).then_some(())
    })?;
    ensure!(c.kill_and_finish(&id)? == 137);
    ensure!(c.fixture.daemon()?.ends(LIMIT)? == 0);
    command(c, &["health"]).run()?.status_is(3)?;
    c.fixture.daemon()?.start_again()?;
    command(c, &["health"]).run()?.ok()?;
    c.fixture.becomes_clean()
}

/// All files of a bundle, one after another, with their names.
fn read(tar: &[u8]) -> Result<(Vec<String>, String)> {
    let (mut names, mut all) = (Vec::new(), String::new());
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        names.push(entry.path()?.display().to_string());
        entry.read_to_string(&mut all)?;
    }
    Ok((names, all))
}

pub(crate) fn bundle_has_facts_and_no_secret(c: &mut Containers) -> Result<()> {
    let (id, ended) = (c.id("planted"), c.id("ended"));
    let arguments = ["args", "--password", "argument-hunter2", "--level", "shown-level"];
    let others = ["DB_PASS=pass-hunter2", "db://user:url-hunter2@host/db?ssl=on"];
    c.detached(&ended, &[&arguments[..], &others].concat())?;
    c.becomes(&ended, "STOPPED")?;
    // Words of a tenant's choice: very many parts must not end the command.
    let parts = format!("example.com/parts={}", "a=".repeat(50_000));
    let flags = [
        "--annotation",
        &parts,
        "--annotation",
        "kubectl.kubernetes.io/last-applied-configuration={\"value\":\"applied-hunter2\"}",
        "--env",
        "PLANTED=env-hunter2",
        "--env",
        "API_TOKEN=token-hunter2",
        "--annotation",
        "io.runwasi.config.db=config-hunter2",
        "--annotation",
        "example.com/password=annotation-hunter2",
    ];
    c.detached_with(&flags, &id, &["sleep", "100"])?;
    let file = c.fixture.dir().join("bundle.tar");
    let name = file.to_string_lossy().into_owned();
    let said = text(c, &["debug", "bundle", "-o", &name])?;
    ensure!(said.trim() == name, "{said}");
    let (names, all) = read(&fs::read(&file)?)?;
    let daemon = c.fixture.daemon()?.pid()?;
    let wanted = ["README", "versions", "daemons.json", "containers.json", "events.json", "kernel"];
    for name in wanted.map(str::to_owned).into_iter().chain([format!("process/{daemon}")]) {
        ensure!(names.contains(&format!("debug/{name}")), "{name} is not in {names:?}");
    }
    says(
        &all,
        &[&id, "PLANTED", "shown-level", "io.runwasi.config.db", "<hidden>", "max_map_count"],
        &[],
    )?;
    ensure!(!all.contains("hunter2"), "{all}");
    // Never over a file that is there.
    let again = command(c, &["debug", "bundle", "-o", &name]).run()?.status_is(1)?;
    says(&again.err(), &["exists"], &[])?;
    full_disk_keeps_no_part_of_a_bundle(c)?;
    ensure!(c.kill_and_finish(&id)? == 137 && c.finish(&ended)? == 0);
    ensure!(c.fixture.daemon()?.terminate()? == 0);
    // Also without a daemon.
    let alone = command(c, &["debug", "bundle", "-o", "-"]).run()?.ok()?;
    let (names, all) = read(&alone.stdout)?;
    ensure!(!names.contains(&"debug/daemons.json".to_owned()), "{names:?}");
    says(&all, &["daemons.json: daemon not running"], &[])?;
    c.fixture.daemon()?.start_again()?;
    c.fixture.becomes_clean()
}

fn full_disk_keeps_no_part_of_a_bundle(c: &Containers) -> Result<()> {
    let disk = c.fixture.dir().join("full");
    fs::create_dir(&disk)?;
    let mount = ["-t", "tmpfs", "-o", "size=4k", "full", &disk.to_string_lossy()];
    Command::new("mount").args(mount).run()?.ok()?;
    let name = disk.join("bundle.tar").to_string_lossy().into_owned();
    let full = command(c, &["debug", "bundle", "-o", &name]).run();
    let left = fs::read_dir(&disk)?.count();
    Command::new("umount").args([&disk]).run()?.ok()?;
    says(&full?.status_is(1)?.err(), &[&name, "No space left"], &[])?;
    ensure!(left == 0, "a part of it stays");
    Ok(())
}

pub(crate) fn cache_is_listed_verified_and_pruned_under_a_guest(c: &mut Containers) -> Result<()> {
    let place = c.fixture.dir().join("cache");
    let place = place.to_string_lossy().into_owned();
    let none = c.fixture.dir().join("none.toml");
    fs::write(&none, "")?;
    let none = none.to_string_lossy().into_owned();
    let run = |words: &[&str]| {
        let line = Command::new(daemon_file()).args(words);
        line.args(["--cache-dir", &place, "--config", &none]).run()
    };
    // Before its first start a daemon has no cache: an empty one, not an error.
    says(&run(&["cache", "ls"])?.ok()?.out(), &["0 files"], &[])?;
    ensure!(!Path::new(&place).exists(), "a list has made the cache");
    let guest = c.runtime.guest_file().to_string_lossy().into_owned();
    run(&["precompile", &guest])?.ok()?;
    let list = run(&["cache", "ls", "--json"])?.ok()?;
    let list: serde_json::Value = serde_json::from_slice(&list.stdout)?;
    let file = list["code"][0]["file"].as_str().context("no code")?.to_owned();
    says(&run(&["cache", "ls"])?.ok()?.out(), &["ENGINE", "1 files"], &[])?;
    says(&run(&["cache", "verify"])?.ok()?.out(), &["1 files are usable, 0 are not"], &[])?;
    // A daemon uses nothing in a directory that others may enter.
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    let open = run(&["cache", "verify"])?.status_is(1)?;
    says(&open.err(), &[&place, "is not a directory of ours with mode 0700"], &[])?;
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700))?;
    let dry = run(&["cache", "prune", "--all", "--dry-run"])?.ok()?;
    says(&dry.out(), &["would remove 1 files"], &[])?;
    let mut bytes = fs::read(&file)?;
    bytes[100] ^= 1;
    fs::write(&file, bytes)?;
    let damaged = run(&["cache", "verify"])?.status_is(1)?;
    says(&damaged.err(), &[&file, "damaged"], &[])?;
    ensure!(!damaged.err().contains("removed"), "{damaged}");
    let removed = run(&["cache", "verify", "--remove"])?.status_is(1)?;
    says(&removed.err(), &["damaged, removed"], &[])?;
    run(&["precompile", &guest])?.ok()?;
    says(&run(&["cache", "prune"])?.ok()?.out(), &["removed 0 files"], &[])?;
    says(&run(&["cache", "prune", "--size", "0"])?.ok()?.out(), &["removed 1 files"], &[])?;
    says(&run(&["cache", "ls"])?.ok()?.out(), &["0 files"], &[])?;
    c.fixture.becomes_clean()
}
