//! `status`, `list`, `inspect` and `top`; the cases are listed in `main.rs`.

use std::fs;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use runwasi_tests::ask::{command, json, line, text};
use runwasi_tests::console::Console;
use runwasi_tests::http::get;
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::server::{APP, serve};
use runwasi_tests::{Containers, poll_until, says};

pub(crate) fn running_and_paused_containers_are_shown_by_every_command(
    c: &mut Containers,
) -> Result<()> {
    let (running, paused) = (c.id("running"), c.id("paused"));
    for id in [&running, &paused] {
        c.detached(id, &["sleep", "100"])?;
    }
    c.fixture.ctr(["task", "pause", &paused])?.ok()?;
    let list = text(c, &["list"])?;
    ensure!(list.starts_with("NAMESPACE  "), "{list}");
    let namespace = c.fixture.namespace().to_owned();
    ensure!(line(&list, &running)?[..4] == [&*namespace, &running, "running", "1"], "{list}");
    ensure!(line(&list, &paused)?[2] == "paused", "{list}");
    let status = text(c, &["status"])?;
    let daemon = c.fixture.daemon()?.pid()?.to_string();
    let words = line(&status, &daemon)?;
    ensure!(words[1] == "serving" && words[6..8] == ["2", "2"], "{status}");
    let all = json(c, &["list", "--json"])?;
    ensure!(all["sandboxes"].as_array().map(Vec::len) == Some(2), "{all}");
    ensure!(all["daemons"][0]["state"] == "serving", "{all}");
    let one = json(c, &["inspect", &paused, "--json"])?;
    ensure!(one["state"] == "paused" && one["id"] == *paused, "{one}");
    ensure!(one["config"]["args"][1] == "sleep", "{one}");
    ensure!(one["artifact"].as_str().is_some_and(|path| path.contains("wasmtest")), "{one}");
    let digest = one["digest"].as_str().unwrap_or_default();
    ensure!(digest.len() == 71 && digest.starts_with("sha256:"), "{one}");
    let shown = text(c, &["inspect", &paused])?;
    says(&shown, &["state      paused", "warning    it is paused", &paused, "100"], &[])?;
    let shown = text(c, &["inspect", &running])?;
    says(&shown, &["state      running", "exited     -"], &[])?;
    ensure!(!shown.contains("warning"), "{shown}");
    // The beginning of an id, as far as it is unique.
    let beginning = &paused[..paused.len() - 2];
    says(&text(c, &["inspect", beginning])?, &["state      paused"], &[])?;
    let absent = command(c, &["inspect", "nosuch"]).run()?.status_is(1)?;
    says(&absent.err(), &["no container and no sandbox \"nosuch\""], &[])?;
    c.fixture.ctr(["task", "resume", &paused])?.ok()?;
    for id in [&running, &paused] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    let list = text(c, &["list"])?;
    ensure!(list.lines().count() == 1, "{list}");
    c.fixture.becomes_clean()
}

pub(crate) fn requests_of_a_server_are_counted(c: &mut Containers) -> Result<()> {
    let id = c.id("server");
    let address = serve(c, &[], &id, APP)?;
    let before = json(c, &["inspect", &id, "--json"])?["usage"]["requests"].as_u64();
    let before = before.context("a server without a number of requests")?;
    for _ in 0..3 {
        ensure!(get(address, "/hello")?.status == 200);
    }
    let after = json(c, &["inspect", &id, "--json"])?;
    ensure!(after["usage"]["requests"].as_u64() == Some(before + 3), "{after}");
    let shown = text(c, &["inspect", &id])?;
    ensure!(line(&shown, "requests")? == ["requests", &*(before + 3).to_string()], "{shown}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn limits_usage_and_execs_are_inspected(c: &mut Containers) -> Result<()> {
    let id = c.id("limited");
    let flags = ["--memory-limit", "67108864", "--cpu-quota", "50000", "--cpu-period", "100000"];
    let flags = [&flags[..], &["--cpu-shares", "512", "--env", "PLANTED=hunter2"]].concat();
    c.detached_with(&flags, &id, &["sleep", "100"])?;
    c.exec_detached(&id, "exec-1", &["sleep", "100"])?;
    // CPU time is counted at the end of a turn.
    let one = poll_until("CPU time", Duration::from_secs(20), || {
        let one = json(c, &["inspect", &id, "--json"]).ok()?;
        (one["usage"]["cpu_nanoseconds"].as_u64() > Some(0)).then_some(one)
    })?;
    let usage = &one["usage"];
    ensure!(usage["memory_limit_bytes"] == 67108864, "{one}");
    ensure!(usage["cpu_quota_microseconds"] == 50000 && usage["cpu_shares"] == 512, "{one}");
    ensure!(usage["memory_bytes"].as_u64() > Some(0), "{one}");
    ensure!(one["execs"][0]["id"] == "exec-1" && one["execs"][0]["state"] == "running", "{one}");
    ensure!(one["created"].is_string() && one["started"].is_string(), "{one}");
    ensure!(one["exited"].is_null() && one["exit_status"].is_null(), "{one}");
    let shown = text(c, &["inspect", &id])?;
    says(&shown, &["limit 64.0 MiB", "shares 512, quota 50 ms of 100 ms", "PLANTED"], &[])?;
    ensure!(shown.contains("exec-1 (running)") && !shown.contains("hunter2"), "{shown}");
    // An update is in force at once.
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    let paused = text(c, &["inspect", &id])?;
    ensure!(paused.contains("exec-1 (paused)"), "{paused}");
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    c.kill(&id, "SIGKILL")?;
    c.becomes(&id, "STOPPED")?;
    let ended = json(c, &["inspect", &id, "--json"])?;
    ensure!(ended["state"] == "stopped" && ended["exit_status"] == 137, "{ended}");
    ensure!(ended["exited"].is_string(), "{ended}");
    ensure!(c.finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn retired_and_current_daemon_are_listed_together(c: &mut Containers) -> Result<()> {
    let (old, new) = (c.id("old"), c.id("new"));
    c.detached(&old, &["sleep", "100"])?;
    let mut retired = c.fixture.replace_daemon()?;
    c.detached(&new, &["sleep", "100"])?;
    let pids = [retired.pid()?, c.fixture.daemon()?.pid()?].map(|pid| pid.to_string());
    let list = text(c, &["list"])?;
    ensure!(line(&list, &old)?.ends_with(&[&*pids[0], "(retired)"]), "{list}");
    ensure!(line(&list, &new)?.ends_with(&[&*pids[1]]), "{list}");
    let status = text(c, &["status"])?;
    ensure!(line(&status, &pids[0])?[1] == "retired", "{status}");
    ensure!(line(&status, &pids[1])?[1] == "serving", "{status}");
    says(&text(c, &["inspect", &old])?, &["is retired: a restart of the pod moves it"], &[])?;
    // One daemon by its own socket.
    let own = c.fixture.node().socket_of(retired.pid()?);
    let words = ["list", "--socket", &own.to_string_lossy()];
    let only = runwasi_tests::Command::new(daemon_file()).args(words).run()?.ok()?.out();
    ensure!(only.contains(&old) && !only.contains(&new), "{only}");
    for id in [&old, &new] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    ensure!(retired.ends(Duration::from_secs(20))? == 0);
    c.fixture.becomes_clean()
}

/// Waits for a text in a screen that is drawn as a whole, again and again.
fn redrawn(top: &Console, text: &str) -> Result<()> {
    let mut count = 0;
    let shown = poll_until(&format!("{text:?}"), Duration::from_secs(20), || {
        // Looked at before the next size: crossterm leaves a key that comes with a signal of a new
        // size unread until the next key.
        if top.seen().contains(text) {
            return Some(());
        }
        count += 1;
        top.resize(120 + count % 20, 24).ok()?;
        None
    });
    shown.with_context(|| format!("on the screen: {:?}", top.seen()))
}

pub(crate) fn top_draws_sorts_and_filters_at_a_terminal(c: &mut Containers) -> Result<()> {
    let (busy, idle) = (c.id("busy"), c.id("idle"));
    c.detached(&busy, &["spin"])?;
    c.detached(&idle, &["sleep", "100"])?;
    let mut top = command(c, &["top", "--interval", "1"]).spawn_at_terminal()?;
    top.shows("CPU%▼")?;
    for id in [&busy, &idle] {
        top.shows(id)?;
    }
    // Only what changes is drawn; a new size draws everything.
    top.types("m")?;
    redrawn(&top, "MEMORY▼")?;
    redrawn(&top, "THROTTLED%")?;
    top.types("/nothing-has-this-name")?;
    redrawn(&top, "nothing-has-this-name_")?;
    top.resize(60, 10)?;
    top.shows("\u{1b}[10;1H")?;
    // Escape and `q` in one read: a terminal sends the same for Alt and `q`.
    top.types("\u{1b}q")?;
    let (status, seen) = top.wait()?;
    ensure!(status == 0, "{status}: {seen:?}");
    // The screen is left, and the cursor is back.
    ensure!(seen.contains("\u{1b}[?1049l") && seen.contains("\u{1b}[?25h"), "{seen:?}");
    // A signal leaves the screen, too.
    let top = command(c, &["top"]).spawn_at_terminal()?;
    top.shows("CPU%▼")?;
    top.signal(Signal::SIGTERM)?;
    let (status, seen) = top.wait()?;
    ensure!(status == 128 + 15, "{status}: {seen:?}");
    ensure!(seen.contains("\u{1b}[?1049l") && seen.contains("\u{1b}[?25h"), "{seen:?}");
    let refused = command(c, &["top"]).run()?.status_is(1)?;
    says(&refused.err(), &["top needs a terminal"], &[])?;
    for id in [&busy, &idle] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

/// Runs a command whose stdout has no reader. It must succeed; what it says on stderr.
fn without_a_reader(mut line: std::process::Command) -> Result<String> {
    let mut child = line.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let status = poll_until("the end of the command", Duration::from_secs(20), || {
        child.try_wait().ok().flatten()
    })?;
    let mut said = String::new();
    child.stderr.take().context("stderr is piped")?.read_to_string(&mut said)?;
    ensure!(status.success(), "{line:?}: {status}: {said}");
    Ok(said)
}

pub(crate) fn reader_that_has_gone_ends_a_command_quietly(c: &mut Containers) -> Result<()> {
    let id = c.id("one");
    c.detached(&id, &["sleep", "100"])?;
    let socket = c.fixture.node().socket();
    for words in [&["list"][..], &["status", "--json"], &["inspect", &id], &["--help"]] {
        let mut line = std::process::Command::new(daemon_file());
        line.args(words);
        if words != ["--help"] {
            line.arg("--socket").arg(&socket);
        }
        let said = without_a_reader(line)?;
        ensure!(said.is_empty(), "{words:?}: {said}");
    }
    let none = c.fixture.dir().join("none.toml");
    fs::write(&none, "")?;
    let mut line = std::process::Command::new(daemon_file());
    line.arg("precompile").arg("--config").arg(none);
    line.arg("--cache-dir").arg(c.fixture.dir().join("cache")).arg(c.runtime.guest_file());
    // Its progress is no result.
    says(&without_a_reader(line)?, &["compiled "], &[])?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
