//! A killed daemon, and the one that comes after; the cases are listed in `main.rs`.

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::DeleteResponse;
use containerd_shim_protos::protobuf::Message;
use runwasi_tests::events::{Events, in_order};
use runwasi_tests::{Containers, ShimDriver};

use crate::witness::Witness;

pub(crate) fn killed_daemon_is_exit_137_for_every_container(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let pod = c.id("pod");
    let ids = ["a", "b", "alone"].map(|name| c.id(name));
    c.join(&pod, "sandbox", &ids[0], &["sleep", "100"])?;
    c.join(&pod, "container", &ids[1], &["spin"])?;
    c.detached(&ids[2], &["daemon"])?;
    c.fixture.daemon()?.kill9()?;
    for id in &ids {
        events.until("delete", id)?;
        let seen = events.until("exit", id)?;
        in_order(&seen)?;
        ensure!(seen[2].1["exit_status"] == 137, "{:?}", seen[2]);
        c.is_taken_away(id)?;
    }
    // All without a daemon.
    c.fixture.becomes_clean()?;
    let records = c.fixture.node().records();
    ensure!(records.is_empty(), "{records:?}");
    c.fixture.daemon()?.start_again()?;
    let out = c.run(&c.id("new"), &["echo", "new"])?.ok()?;
    ensure!(out.out() == "new\n", "{out}");
    c.fixture.becomes_clean()
}

pub(crate) fn daemon_restarted_at_once_lets_containerd_clean_up(c: &mut Containers) -> Result<()> {
    let ids = ["a", "b", "c"].map(|name| c.id(name));
    for id in &ids {
        c.detached(id, &["sleep", "100"])?;
    }
    c.fixture.daemon()?.kill9()?;
    c.fixture.daemon()?.start_again()?;
    // While containerd still cleans up after the killed one.
    let out = c.run(&c.id("new"), &["echo", "new"])?.ok()?;
    ensure!(out.out() == "new\n", "{out}");
    for id in &ids {
        c.is_taken_away(id)?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn restarted_daemon_removes_what_a_killed_one_left(p: &mut ShimDriver) -> Result<()> {
    // A shim driver's containerd does not clean up, so that the next daemon has to.
    let ids = ["one", "two", "three"];
    for id in ids {
        Witness::start(p, id)?;
    }
    p.daemon()?.kill9()?;
    let left = p.node().records();
    ensure!(
        left.len() == 3 && ids.iter().all(|id| p.socket(id).exists()),
        "nothing to remove: {left:?}"
    );
    p.daemon()?.start_again()?;
    p.becomes_clean().context("after the restart")?;
    ensure!(
        p.node().records().is_empty() && p.node().daemons() == [p.daemon()?.pid()?],
        "{:?}",
        p.node().left()
    );
    for id in ids {
        let answer = p.delete(id, &p.dir().join("b").join(id))?.ok()?;
        let answer = DeleteResponse::parse_from_bytes(&answer.stdout)?;
        ensure!(answer.exit_status == 137, "{answer:?}");
        // The id is free again.
        Witness::start(p, id)?.end(p)?;
    }
    p.becomes_clean()
}
