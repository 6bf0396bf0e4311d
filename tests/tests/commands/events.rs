//! `events`; the cases are listed in `main.rs`.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::ask::{command, text};
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::{Containers, poll_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn lives_are_told_as_they_happen_and_afterwards(c: &mut Containers) -> Result<()> {
    let before = c.id("before");
    ensure!(c.run(&before, &["echo", "x"])?.ok()?.out() == "x\n");
    // The end of its sandbox comes after that of `ctr`.
    poll_until("the end of the sandbox", LIMIT, || {
        let past = text(c, &["events", "--past", "--json", "--for", "1"]).ok()?;
        let is_end = |line: &str| line.contains(&before) && line.contains("\"gone\"");
        past.lines().any(is_end).then_some(())
    })?;
    let following = command(c, &["events"]).spawn()?;
    let id = c.id("followed");
    // Its request may come after the first of these events.
    poll_until("an event", LIMIT, || {
        c.run(&c.next_id(), &["exit", "3"]).ok()?;
        following.stdout_so_far().contains(" exit ").then_some(())
    })?;
    c.detached(&id, &["sleep", "100"])?;
    c.fixture.ctr(["task", "pause", &id])?.ok()?;
    c.fixture.ctr(["task", "resume", &id])?.ok()?;
    ensure!(c.kill_and_finish(&id)? == 137);
    let ended = format!("container={id} status=137");
    let seen = || following.stdout_so_far();
    let deleted = |line: &str| line.contains(" delete ") && line.contains(&ended);
    poll_until("the deletion", LIMIT, || seen().lines().any(deleted).then_some(()))
        .with_context(seen)?;
    let text = seen();
    let kinds: Vec<_> = text
        .lines()
        .filter(|line| line.contains(&id))
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    let wanted = ["sandbox", "create", "start", "pause", "resume", "exit", "delete"];
    ensure!(kinds.starts_with(&wanted), "{kinds:?}");
    ensure!(!text.contains(&before), "an event of the past: {text}");
    drop(following);
    let past = runwasi_tests::ask::text(c, &["events", "--past", "--json", "--for", "1"])?;
    let events: Vec<Value> =
        past.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("JSON")?;
    let exit = |event: &&Value| event["container"] == *before && event["event"] == "exit";
    let exit = events.iter().find(exit).with_context(|| format!("no exit in {past}"))?;
    ensure!(exit["exit_status"] == 0 && exit["namespace"] == *c.fixture.namespace(), "{exit}");
    c.fixture.becomes_clean()
}

pub(crate) fn events_go_on_across_a_takeover(c: &mut Containers) -> Result<()> {
    let following = command(c, &["events", "--past"]).spawn()?;
    let first = c.id("first");
    c.detached(&first, &["sleep", "100"])?;
    let mut old = c.fixture.replace_daemon()?;
    let second = c.id("second");
    c.detached(&second, &["sleep", "100"])?;
    for id in [&first, &second] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    ensure!(old.ends(LIMIT)? == 0);
    let pids = [old_pid(&following.stdout_so_far()), Some(c.fixture.daemon()?.pid()?)];
    let wanted = [format!("container={first}"), "retire".into(), format!("container={second}")];
    poll_until("the events of both", LIMIT, || {
        let seen = following.stdout_so_far();
        // The last event of the old daemon, just before its end.
        let gone = format!("sandbox={first} ");
        let gone = seen.lines().any(|line| line.contains(" gone ") && line.contains(&gone));
        (gone && wanted.iter().all(|word| seen.contains(word))).then_some(())
    })
    .with_context(|| format!("{pids:?}: {}", following.stdout_so_far()))?;
    drop(following);
    c.fixture.becomes_clean()
}

fn old_pid(seen: &str) -> Option<u32> {
    seen.split("daemon=").nth(1)?.split_whitespace().next()?.parse().ok()
}

pub(crate) fn events_end_with_their_reader(c: &mut Containers) -> Result<()> {
    let mut line = std::process::Command::new(daemon_file());
    line.args(["events", "--socket"]).arg(c.fixture.node().socket());
    let mut child = line.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // No event comes: the reader's end alone is enough.
    drop(child.stdout.take());
    let ended = poll_until("the end of the command", LIMIT, || child.try_wait().ok().flatten());
    if ended.is_err() {
        child.kill()?;
        child.wait()?;
    }
    ensure!(ended?.success());
    let begun = std::time::Instant::now();
    text(c, &["events", "--for", "1"])?;
    ensure!(begun.elapsed() < LIMIT);
    c.fixture.becomes_clean()
}
