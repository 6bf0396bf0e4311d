//! Hooks and loggers of containers, which are programs of the host; the cases are listed in `main.rs`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::hooks::{self, log, script};
use runwasi_tests::network::Namespace;
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{Containers, ShimDriver, poll_until, proc};
use serde_json::{Value, json};

const ID: &str = "hooked";

/// A bundle in a network of its own whose guest sleeps, with these hooks.
fn bundle(p: &ShimDriver, hooks: Value) -> Result<Bundle> {
    hooks::bundle(p, ID, hooks, |config| {
        config["linux"]["namespaces"] = json!([{ "type": "network" }]);
    })
}

pub(crate) fn hooks_run_in_the_runtimes_network(p: &ShimDriver) -> Result<()> {
    let tells = script(p, "readlink /proc/self/ns/net >>$LOG");
    let hooks = json!({ "createRuntime": [tells], "poststart": [tells], "poststop": [tells] });
    let bundle = bundle(p, hooks)?;
    let client = p.connect(ID, bundle.path())?;
    let pid = client.create(ID, bundle.path(), &[])?.pid;
    let host = Namespace::own()?;
    ensure!(Namespace::of(pid)? != host, "the pod is in the host's network");
    client.start(ID)?;
    client.kill(ID, 9)?;
    client.wait(ID)?;
    client.delete(ID)?;
    let seen = log(p);
    ensure!(seen.lines().count() == 3, "{seen}");
    ensure!(seen.lines().all(|line| line == host.name()), "{seen} instead of {}", host.name());
    p.finish(&client, ID, bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn loggers_run_in_the_runtimes_network(c: &mut Containers) -> Result<()> {
    let directory = c.fixture.dir().join("logger");
    fs::create_dir_all(&directory)?;
    let program = directory.join("run");
    let seen = directory.join("seen");
    let script = format!("readlink /proc/self/ns/net >'{}'\nexec 5>&-\ncat <&3", seen.display());
    fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let uri = format!("binary://{}", program.display());
    c.run_command(&["--rm", "--log-uri", &uri], &c.id("logs"), &["echo", "x"]).run()?.ok()?;
    let seen = fs::read_to_string(&seen)?;
    ensure!(seen.trim() == Namespace::own()?.name(), "{seen}");
    c.fixture.becomes_clean()
}

/// containerd kills a `delete` that takes longer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) fn delete_with_a_hanging_hook_answers_within_its_deadline_and_leaves_nothing(
    p: &ShimDriver,
) -> Result<()> {
    // More than one: each must not have a deadline of its own.
    let hangs = script(p, "echo $$ >>$LOG; exec sleep 1000");
    let bundle = bundle(p, json!({ "poststop": [hangs, hangs, hangs] }))?;
    let client = p.connect(ID, bundle.path())?;
    client.create(ID, bundle.path(), &[])?;
    client.start(ID)?;
    let began = Instant::now();
    p.delete(ID, bundle.path())?.ok()?;
    let taken = began.elapsed();
    ensure!(taken < PATIENCE, "delete took {taken:?}");
    let hooks = log(p);
    ensure!(!hooks.is_empty(), "no hook has run");
    let are_gone = || {
        let mut pids = hooks.lines().map(|line| line.parse().ok());
        pids.all(|pid| pid.is_some_and(|pid| !proc::alive(pid))).then_some(())
    };
    poll_until("end of the hooks", LIMIT, are_gone).with_context(|| hooks.clone())?;
    poll_until("end of the server", LIMIT, || p.shims().is_empty().then_some(()))?;
    fs::remove_dir_all(bundle.path())?;
    p.becomes_clean()
}
