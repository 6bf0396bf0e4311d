//! Memory limits; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::events::Events;
use runwasi_tests::usage::{Usage, update};

const MIB: u64 = 1 << 20;

/// `ctr`'s flag for a limit of that many MiB.
fn limit(mib: u64) -> [String; 2] {
    ["--memory-limit".into(), (mib * MIB).to_string()]
}

pub(crate) fn guest_within_its_limit_runs(c: &mut Containers) -> Result<()> {
    let [flag, bytes] = limit(64);
    let out =
        c.run_command(&["--rm", &flag, &bytes], &c.id("fits"), &["alloc", "32"]).run()?.ok()?;
    ensure!(out.out() == "done\n", "{out}");
    Ok(())
}

pub(crate) fn growth_beyond_the_limit_ends_with_137_and_an_oom_event(
    c: &mut Containers,
) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("greedy");
    let [flag, bytes] = limit(64);
    let out =
        c.run_command(&["--rm", &flag, &bytes], &id, &["alloc", "128"]).run()?.status_is(137)?;
    ensure!(out.err().contains("out of memory") && out.err().contains("67108864"), "{out}");
    ensure!(out.err().matches("memory limit").count() == 1, "the text is not there once: {out}");
    let seen = events.until_delete(&id)?;
    let topics: Vec<_> = seen.iter().map(|(topic, _)| topic.as_str()).collect();
    ensure!(topics == ["create", "start", "oom", "exit", "delete"], "{topics:?}");
    ensure!(seen[3].1["exit_status"] == 137, "{:?}", seen[3]);
    c.fixture.becomes_clean()
}

pub(crate) fn growth_beyond_the_limit_fails_if_the_container_wants_it_so(
    c: &mut Containers,
) -> Result<()> {
    let [flag, bytes] = limit(64);
    let wish = ["--annotation", "io.runwasi.memory.on-limit=refuse"];
    let flags = ["--rm", &flag, &bytes, wish[0], wish[1]];
    // Rust's own answer to a refused growth is to abort, unless the program asks first.
    c.run_command(&flags, &c.id("aborts"), &["alloc", "128"]).run()?.status_is(134)?;
    let out = c.run_command(&flags, &c.id("asks"), &["try-alloc", "128"]).run()?.ok()?;
    ensure!(out.out() == "refused\n", "{out}");
    let bad = ["--rm", wish[0], "io.runwasi.memory.on-limit=cry"];
    let said = c.run_command(&bad, &c.id("bad"), &["exit", "0"]).run()?.refused()?;
    ensure!(said.contains("neither kill nor refuse"), "{said}");
    c.fixture.becomes_clean()
}

pub(crate) fn guest_that_begins_with_more_than_its_limit_is_refused(
    c: &mut Containers,
) -> Result<()> {
    let said = c
        .run_command(&["--rm", "--memory-limit", "600000"], &c.id("tiny"), &["exit", "0"])
        .run()?
        .refused()?;
    ensure!(said.contains("what the guest begins with") && said.contains("600000"), "{said}");
    c.fixture.becomes_clean()
}

pub(crate) fn init_and_execs_share_the_limit(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    let [flag, bytes] = limit(64);
    c.detached_with(&[&flag, &bytes], &id, &["hold", "40"])?;
    runwasi_tests::poll_until("the init's memory", std::time::Duration::from_secs(20), || {
        Usage::of(c, &id).ok().filter(|usage| usage.memory().0 > 40 * MIB)
    })?;
    c.exec(&id, "small", &["alloc", "8"])?.ok()?;
    c.exec(&id, "large", &["alloc", "32"])?.status_is(137)?;
    c.is_running(&id)?;
    let usage = Usage::of(c, &id)?;
    ensure!(usage.memory().0 < 50 * MIB && usage.oom_kills() == 1, "{usage:?}");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn limit_can_be_changed_while_the_guest_runs(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "1000"])?;
    c.exec(&id, "free", &["alloc", "64"])?.ok()?;
    update(c, &id, &format!(r#"{{"memory":{{"limit":{}}}}}"#, 32 * MIB))?;
    c.exec(&id, "bound", &["alloc", "64"])?.status_is(137)?;
    ensure!(Usage::of(c, &id)?.memory().1 == 32 * MIB);
    update(c, &id, r#"{"memory":{"limit":-1}}"#)?;
    c.exec(&id, "freed", &["alloc", "64"])?.ok().context("after the limit has gone")?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
