//! `hooks` of `config.json`; the cases are listed in `main.rs`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::hooks::{self, log, script};
use runwasi_tests::shim::reason;
use runwasi_tests::{ShimDriver, poll_until, proc};
use serde_json::{Value, json};

const ID: &str = "hooked";

/// A bundle whose guest sleeps, with these hooks.
fn bundle(p: &ShimDriver, hooks: Value) -> Result<Bundle> {
    hooks::bundle(p, ID, hooks, |config| {
        config["annotations"] = json!({ "org.example": "told" });
    })
}

pub(crate) fn hooks_run_at_their_points_with_the_containers_state(p: &ShimDriver) -> Result<()> {
    let told =
        |name: &str| script(p, &format!("printf '%s ' {name} >>$LOG; cat >>$LOG; echo >>$LOG"));
    let bundle = bundle(
        p,
        json!({
            "createRuntime": [told("create1"), told("create2")],
            "poststart": [told("start")],
            "poststop": [told("stop")],
        }),
    )?;
    let client = p.connect(ID, bundle.path())?;
    let pid = client.create(ID, bundle.path(), &[])?.pid;
    let seen = |count: usize| -> Result<Vec<(String, Value)>> {
        let log = log(p);
        ensure!(log.lines().count() == count, "{count} expected: {log}");
        let line = |line: &str| {
            let (name, state) = line.split_once(' ').context("no state")?;
            Ok((name.to_owned(), serde_json::from_str(state)?))
        };
        log.lines().map(line).collect()
    };
    for ((name, state), wanted) in seen(2)?.iter().zip(["create1", "create2"]) {
        ensure!(name == wanted && state["id"] == ID && state["pid"] == pid, "{name}: {state}");
        ensure!(state["bundle"] == bundle.path().to_string_lossy().as_ref(), "{state}");
        ensure!(state["annotations"]["org.example"] == "told", "{state}");
    }
    client.start(ID)?;
    let (name, state) = &seen(3)?[2];
    ensure!(name == "start" && state["pid"] == pid, "{name}: {state}");
    client.kill(ID, 9)?;
    client.wait(ID)?;
    seen(3)?;
    client.delete(ID)?;
    let (name, state) = &seen(4)?[3];
    ensure!(name == "stop" && state["status"] == "stopped", "{name}: {state}");
    p.finish(&client, ID, bundle.path())?;
    seen(4)?;
    p.becomes_clean()
}

pub(crate) fn failing_hook_before_the_start_fails_the_creation(p: &ShimDriver) -> Result<()> {
    let refuses = script(p, "echo no luck today >&2; exit 3");
    let bundle = bundle(
        p,
        json!({ "createRuntime": [refuses], "poststop": [script(p, "echo after >>$LOG")] }),
    )?;
    let client = p.connect(ID, bundle.path())?;
    let said = reason(&client.create(ID, bundle.path(), &[]).err().context("created")?);
    ensure!(said.contains("no luck today") && said.contains('3'), "{said}");
    // Before the answer: containerd runs no `delete` for a container of a pod.
    ensure!(log(p) == "after\n", "{:?}", log(p));
    p.finish(&client, ID, bundle.path())?;
    ensure!(log(p) == "after\n", "{:?}", log(p));
    p.becomes_clean()
}

pub(crate) fn failing_hook_after_the_start_ends_the_container(p: &ShimDriver) -> Result<()> {
    let bundle = bundle(p, json!({ "poststart": [script(p, "echo no luck today >&2; exit 3")] }))?;
    let client = p.connect(ID, bundle.path())?;
    client.create(ID, bundle.path(), &[])?;
    let said = reason(&client.start(ID).err().context("started")?);
    ensure!(said.contains("poststart[0]") && said.contains("no luck today"), "{said}");
    ensure!(client.wait(ID)?.exit_status == 137);
    client.delete(ID)?;
    p.finish(&client, ID, bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn hook_that_hangs_is_killed_at_its_timeout(p: &ShimDriver) -> Result<()> {
    let mut hangs = script(p, "echo $$ >$LOG; exec sleep 1000");
    hangs["timeout"] = json!(1);
    let bundle = bundle(p, json!({ "createRuntime": [hangs] }))?;
    let client = p.connect(ID, bundle.path())?;
    let began = Instant::now();
    let said = reason(&client.create(ID, bundle.path(), &[]).err().context("created")?);
    ensure!(
        said.contains("killed after 1 s") && began.elapsed() < Duration::from_secs(9),
        "{said}"
    );
    ensure!(!proc::alive(log(p).trim().parse()?), "it still runs");
    p.finish(&client, ID, bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn hooks_after_the_end_run_also_for_a_killed_shim(p: &ShimDriver) -> Result<()> {
    let bundle = bundle(p, json!({ "poststop": [script(p, "echo after >>$LOG")] }))?;
    let client = p.connect(ID, bundle.path())?;
    client.create(ID, bundle.path(), &[])?;
    client.start(ID)?;
    proc::kill9(p.shims()[0].pid)?;
    poll_until("end of the shim", Duration::from_secs(20), || {
        client.wait(ID).is_err().then_some(())
    })?;
    for _ in 0..2 {
        p.delete(ID, bundle.path())?.ok()?;
        ensure!(log(p) == "after\n", "{:?}", log(p));
    }
    p.becomes_clean()
}

pub(crate) fn hooks_of_the_image_are_refused(p: &ShimDriver) -> Result<()> {
    for name in ["startContainer", "createContainer"] {
        let bundle = bundle(p, json!({ name: [{ "path": "/bin/true" }] }))?;
        let said = p.refusal(ID, &bundle)?;
        ensure!(
            said.contains(&format!("hooks.{name}")) && said.contains("not supported"),
            "{said}"
        );
        fs::remove_dir_all(bundle.path())?;
    }
    p.becomes_clean()
}
