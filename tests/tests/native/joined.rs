//! Containers that joined their sandbox as containerd 2.3 has them join: without an action `start` of their own, and without a
//! `delete`. containerd is played. The cases are listed in `main.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::bundle::Bundle;
use runwasi_tests::hooks::{log, script};
use runwasi_tests::{Runtime, ShimDriver, poll_until, proc, run_case_with};
use serde_json::json;

const POD: &str = "pod";

/// A shim driver that a case may change.
#[track_caller]
pub(crate) fn check(runtime: Runtime, case: impl FnOnce(&mut ShimDriver) -> Result<()>) {
    run_case_with(ShimDriver::new(runtime), case);
}

/// A bundle of the pod where containerd has it: in a directory for the plugin and the namespace.
fn bundle(p: &ShimDriver, id: &str, kind: &str) -> Result<Bundle> {
    let directory = p.dir().join("state/tasks").join(p.namespace()).join(id);
    let cgroup = format!("/{}/{id}", p.namespace());
    let mut bundle = Bundle::create(directory, &[p.runtime().guest(), "sleep", "100"], &cgroup)?;
    bundle.add_guests()?;
    bundle.config["annotations"] = json!({
        "io.kubernetes.cri.sandbox-id": POD,
        "io.kubernetes.cri.container-type": kind,
    });
    bundle.write()?;
    Ok(bundle)
}

/// Runs both, the second as one that joined the first. Returns its pid.
fn run(p: &ShimDriver, pod: &Bundle, app: &Bundle) -> Result<u32> {
    let client = p.connect(POD, pod.path())?;
    client.create(POD, pod.path(), &[])?;
    client.start(POD)?;
    fs::write(app.path().join("sandbox"), POD)?;
    client.create("app", app.path(), &[])?;
    Ok(client.start("app")?.pid)
}

fn kill_server(p: &mut ShimDriver) -> Result<()> {
    if p.runtime().needs_daemon() {
        return p.daemon()?.kill9();
    }
    proc::kill9(p.shims().first().context("a shim")?.pid)
}

pub(crate) fn joined_native_container_ends_with_its_killed_server(
    p: &mut ShimDriver,
) -> Result<()> {
    let pod = bundle(p, POD, "sandbox")?;
    let app = bundle(p, "app", "container")?;
    let pid = run(p, &pod, &app)?;
    ensure!(proc::alive(pid));
    kill_server(p)?;
    ensure!(proc::alive(pid), "it does not outlive its server, and the case shows nothing");
    p.delete(POD, pod.path())?.ok()?;
    poll_until("end of the program", Duration::from_secs(20), || {
        (!proc::alive(pid)).then_some(())
    })?;
    let exits = |p: &ShimDriver| p.topics().iter().filter(|topic| topic.ends_with("/exit")).count();
    poll_until("the exit", Duration::from_secs(20), || (exits(p) > 0).then_some(()))?;
    if p.runtime().needs_daemon() {
        p.daemon()?.start_again()?;
    }
    p.becomes_clean()?;
    ensure!(exits(p) == 1, "{:?}", p.topics());
    Ok(())
}

/// Number of the cgroups of the container `app`: with version 1 in the hierarchy of the CPU.
fn cgroups(p: &ShimDriver) -> usize {
    let is_there = |hierarchy: &&str| {
        let own = Path::new("/sys/fs/cgroup").join(hierarchy).join(p.namespace()).join("app");
        own.is_dir()
    };
    ["", "cpu"].iter().copied().filter(is_there).count()
}

pub(crate) fn joined_container_of_a_killed_server_leaves_no_cgroup_and_owes_no_hook(
    p: &mut ShimDriver,
) -> Result<()> {
    let pod = bundle(p, POD, "sandbox")?;
    let mut app = bundle(p, "app", "container")?;
    app.config["hooks"] = json!({ "poststop": [script(p, "echo after >>$LOG")] });
    app.config["linux"]["resources"] = json!({ "memory": { "limit": 64 << 20 } });
    app.write()?;
    // Alone: the guests are in the cgroup of the first container.
    let client = p.connect(POD, pod.path())?;
    fs::write(app.path().join("sandbox"), POD)?;
    client.create("app", app.path(), &[])?;
    client.start("app")?;
    if !p.runtime().needs_daemon() {
        poll_until("its cgroup", Duration::from_secs(20), || (cgroups(p) > 0).then_some(()))?;
    }
    kill_server(p)?;
    p.delete(POD, pod.path())?.ok()?;
    ensure!(cgroups(p) == 0, "its cgroup stays");
    ensure!(log(p) == "after\n", "{:?}", log(p));
    if p.runtime().needs_daemon() {
        p.daemon()?.start_again()?;
    }
    p.becomes_clean()
}
