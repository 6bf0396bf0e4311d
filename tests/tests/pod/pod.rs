//! One shim per pod: sharing, joining, leaving; the cases are listed in `main.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::{Containers, poll_until, proc};

/// A pod of three sleeping containers.
pub(crate) fn three(c: &Containers, pod: &str) -> Result<[String; 3]> {
    let ids = ["a", "b", "c"].map(|name| c.id(&format!("{name}-{pod}")));
    for (id, kind) in ids.iter().zip(["sandbox", "container", "container"]) {
        c.join(pod, kind, id, &["sleep", "100"])?;
    }
    Ok(ids)
}

/// The one shim of the fixture.
pub(crate) fn only_shim(c: &Containers) -> Result<u32> {
    let shims = c.fixture.shims();
    ensure!(shims.len() == 1, "one pod, one shim: {shims:?}");
    Ok(shims[0].pid)
}

pub(crate) fn three_containers_share_one_process_and_one_socket(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let ids = three(c, &pod)?;
    only_shim(c)?;
    let socket = c.fixture.socket(&pod);
    ensure!(socket.exists(), "{} is missing", socket.display());
    for id in &ids {
        c.is_running(id)?;
        let address = fs::read_to_string(c.fixture.bundle(id).join("address"))?;
        ensure!(address == format!("unix://{}", socket.display()), "{id} is at {address}");
        ensure!(!c.fixture.socket(id).exists(), "{id} has a socket of its own");
    }
    all_killed(c, &ids)
}

pub(crate) fn each_container_ends_on_its_own(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let [a, b, last] = three(c, &pod)?;
    let (brief, late) = (c.id("brief"), c.id("late"));
    c.join(&pod, "container", &brief, &["exit", "7"])?;
    ensure!(c.finish(&brief)? == 7);
    ensure!(c.kill_and_finish(&b)? == 137);
    c.join(&pod, "container", &late, &["exit", "9"])?;
    ensure!(c.finish(&late)? == 9);
    for id in [&a, &last] {
        c.is_running(id)?;
    }
    all_killed(c, &[a, last])
}

pub(crate) fn removal_of_the_first_container_keeps_the_others(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let [first, b, last] = three(c, &pod)?;
    let shim = only_shim(c)?;
    // The shim was started for it and in its bundle, which goes now.
    ensure!(c.kill_and_finish(&first)? == 137);
    ensure!(only_shim(c)? == shim);
    for id in [&b, &last] {
        c.is_running(id)?;
    }
    all_killed(c, &[b, last])
}

pub(crate) fn last_removal_lets_the_shim_leave(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let ids = three(c, &pod)?;
    let shim = only_shim(c)?;
    for id in &ids[..2] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    ensure!(only_shim(c)? == shim, "the shim left before its last container");
    // Ended but not yet removed: it still has an exit status to give.
    c.kill(&ids[2], "SIGKILL")?;
    c.becomes(&ids[2], "STOPPED")?;
    ensure!(only_shim(c)? == shim, "the shim left with an exit status nobody has collected");
    ensure!(c.finish(&ids[2])? == 137);
    poll_until("end of the shim", Duration::from_secs(20), || {
        c.fixture.shims().is_empty().then_some(())
    })?;
    c.fixture.becomes_clean()
}

pub(crate) fn pod_takes_a_container_after_another_ended(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let ids = three(c, &pod)?;
    let shim = only_shim(c)?;
    ensure!(c.kill_and_finish(&ids[1])? == 137);
    // The same id again, in the same pod.
    c.join(&pod, "container", &ids[1], &["sleep", "100"])?;
    ensure!(only_shim(c)? == shim);
    all_killed(c, &ids)
}

pub(crate) fn pods_do_not_share_a_shim(c: &mut Containers) -> Result<()> {
    let one = three(c, &c.id("pod1"))?;
    let two = three(c, &c.id("pod2"))?;
    ensure!(c.fixture.shims().len() == 2, "{:?}", c.fixture.shims());
    for id in &one {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    poll_until("end of the first pod's shim", Duration::from_secs(20), || only_shim(c).ok())?;
    for id in &two {
        c.is_running(id)?;
    }
    all_killed(c, &two)
}

pub(crate) fn refused_container_does_not_disturb_its_pod(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let ids = three(c, &pod)?;
    let shim = only_shim(c)?;
    let annotation = format!("io.kubernetes.cri.sandbox-id={pod}");
    let run = ["run", "--rm", "--runtime", c.runtime.name(), "--annotation", &annotation];
    let said = c
        .fixture
        .ctr([&run[..], &[c.runtime.image().name(), &c.id("bad"), "/nosuch"]].concat())?
        .refused()?;
    ensure!(said.contains("/nosuch"), "{said}");
    ensure!(only_shim(c)? == shim);
    for id in &ids {
        c.is_running(id)?;
    }
    all_killed(c, &ids)
}

pub(crate) fn killed_shim_of_a_pod_is_seen_for_every_container(c: &mut Containers) -> Result<()> {
    let pod = c.id("pod");
    let ids = three(c, &pod)?;
    let shim = only_shim(c)?;
    proc::kill9(shim)?;
    for id in &ids {
        c.is_taken_away(id)?;
    }
    if !c.runtime.removes_socket_of_killed_shim() {
        fs::remove_file(c.fixture.socket(&pod))?;
    }
    c.fixture.becomes_clean()
}

pub(crate) fn restarted_containerd_still_knows_every_container_of_a_pod(
    c: &mut Containers,
) -> Result<()> {
    let pod = c.id("pod");
    let ids = three(c, &pod)?;
    let brief = c.id("brief");
    c.join(&pod, "container", &brief, &["exit", "7"])?;
    c.becomes(&brief, "STOPPED")?;
    let shim = only_shim(c)?;
    c.fixture.stop()?;
    c.fixture.start_again()?;
    ensure!(only_shim(c)? == shim);
    for id in &ids {
        c.becomes(id, "RUNNING")?;
    }
    ensure!(c.finish(&brief)? == 7);
    all_killed(c, &ids)
}

fn all_killed(c: &Containers, ids: &[String]) -> Result<()> {
    for id in ids {
        let status = c.kill_and_finish(id)?;
        ensure!(status == 137, "{id}: status {status}");
    }
    c.fixture.becomes_clean()
}
