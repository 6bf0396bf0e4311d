//! The fixture tested: each of its checks fails when there is something to find; run by `make test`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{
    Command, Containerd, Containers, Image, Runtime, ShimDriver, poll_until, proc,
};
use rustix::mount::mount_bind;

/// Drops the fixture; gives what it complained about, if it did.
fn complaint<T>(fixture: T) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| drop(fixture))).err();
    panic.and_then(|panic| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[test]
fn clean_bed_is_dropped_in_silence() -> Result<()> {
    let fixture = Containerd::start()?;
    let dir = fixture.dir().to_owned();
    ensure!(complaint(fixture).is_empty());
    ensure!(!dir.exists(), "{} is left", dir.display());
    Ok(())
}

#[test]
fn mount_left_in_a_bed_is_reported_and_removed() -> Result<()> {
    let fixture = Containerd::start()?;
    let (source, target) = (fixture.dir().join("source"), fixture.dir().join("a b"));
    fs::create_dir(&source)?;
    fs::create_dir(&target)?;
    mount_bind(&source, &target)?;
    let said = complaint(fixture);
    ensure!(said.contains(&format!("mount {}", target.display())), "{said}");
    ensure!(proc::mounts_below(&target).is_empty() && !target.exists());
    Ok(())
}

#[test]
fn socket_left_by_a_named_group_is_reported_and_removed() -> Result<()> {
    let fixture = Containerd::start()?;
    fixture.ctr(["task", "kill", "lost"])?.refused()?;
    let socket = fixture.socket("lost");
    fs::create_dir_all(socket.parent().context("no parent")?)?;
    drop(UnixListener::bind(&socket)?);
    let said = complaint(fixture);
    ensure!(said.contains(&format!("socket {}", socket.display())), "{said}");
    ensure!(!socket.exists());
    Ok(())
}

#[test]
fn shim_left_by_a_player_is_reported_and_killed() -> Result<()> {
    let shim_driver = ShimDriver::new(Runtime::Runc)?;
    let bundle = shim_driver.bundle("left", &["/a"])?;
    shim_driver.connect("left", bundle.path())?;
    let shim = shim_driver.shims().first().context("no shim")?.pid;
    let said = complaint(shim_driver);
    ensure!(said.contains(&format!("shim {shim}: ")), "{said}");
    // Not our child: its new parent may take a moment to reap it.
    poll_until("end of the shim", Duration::from_secs(20), || (!proc::alive(shim)).then_some(()))
}

#[test]
fn running_container_goes_with_its_fixture() -> Result<()> {
    let containers = Containers::start(Runtime::Runc)?;
    let id = containers.id("left");
    containers.detached(&id, &["sleep", "100"])?;
    let pid = containers.is_running(&id)?.pid;
    ensure!(complaint(containers).is_empty());
    ensure!(!proc::alive(pid), "the container outlived its fixture");
    Ok(())
}

#[test]
fn fifos_of_a_killed_shim_go_with_the_fixture() -> Result<()> {
    let containers = Containers::start(Runtime::Runc)?;
    let id = containers.id("fifo");
    containers.detached(&id, &["sleep", "100"])?;
    let shim = containers.fixture.shims().first().context("no shim")?.pid;
    proc::kill9(shim)?;
    containers.becomes_stopped_or_gone(&id)?;
    ensure!(
        !proc::fifos_of(&id).is_empty(),
        "ctr removes them by itself now: the sweep is needless"
    );
    // runc's socket file, as in the lifecycle suite.
    fs::remove_file(containers.fixture.socket(&id))?;
    let said = complaint(containers);
    ensure!(said.is_empty(), "{said}");
    ensure!(proc::fifos_of(&id).is_empty());
    Ok(())
}

#[test]
fn node_daemon_goes_with_its_fixture() -> Result<()> {
    let mut containers = Containers::start(Runtime::Wasmtimed)?;
    containers.detached(&containers.id("left"), &["sleep", "100"])?;
    let daemon = containers.fixture.daemon()?.pid()?;
    ensure!(complaint(containers).is_empty());
    ensure!(!proc::alive(daemon), "the daemon outlived its fixture");
    Ok(())
}

#[test]
fn node_daemon_goes_with_a_bed_that_panics() {
    let daemon = std::cell::Cell::new(0);
    let failed = catch_unwind(AssertUnwindSafe(|| {
        runwasi_tests::check(Runtime::Wasmtimed, |c| {
            c.detached(&c.id("left"), &["sleep", "100"])?;
            daemon.set(c.fixture.daemon()?.pid()?);
            anyhow::bail!("on purpose")
        });
    }));
    assert!(failed.is_err() && daemon.get() > 0 && !proc::alive(daemon.get()));
}

#[test]
fn record_left_by_a_node_daemon_is_reported() -> Result<()> {
    let mut shim_driver = ShimDriver::new(Runtime::Wasmtimed)?;
    let record = shim_driver.node().record(Path::new("/nowhere/stray"));
    shim_driver.daemon()?.kill9()?;
    fs::create_dir_all(record.parent().context("no parent")?)?;
    fs::write(&record, "{}")?;
    let said = complaint(shim_driver);
    ensure!(said.contains("record stray"), "{said}");
    Ok(())
}

#[test]
fn node_daemon_that_a_test_killed_is_no_complaint() -> Result<()> {
    let mut fixture = Containerd::builder().daemon_for(Runtime::Wasmtimed).start()?;
    fixture.daemon()?.kill9()?;
    ensure!(complaint(fixture).is_empty());
    Ok(())
}

#[test]
fn node_daemon_that_does_not_start_says_why() -> Result<()> {
    let nonsense = runwasi_tests::daemon::Settings::default().flags(["--nonsense"]);
    let error = Containerd::builder().daemon(nonsense).start().err().context("started")?;
    ensure!(format!("{error:#}").contains("--nonsense"), "{error:#}");
    Ok(())
}

#[test]
fn failing_case_fails_its_test() {
    let failed =
        catch_unwind(|| runwasi_tests::check(Runtime::Runc, |_| anyhow::bail!("on purpose")));
    let message =
        failed.err().and_then(|panic| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    assert!(message.contains("on purpose"), "{message}");
}

#[test]
fn hung_command_is_killed_and_named() -> Result<()> {
    let began = Instant::now();
    let hung = Command::new("sleep").args(["77"]).deadline(Duration::from_millis(200)).run();
    let message = format!("{:#}", hung.err().context("no error")?);
    ensure!(message.contains("hung") && message.contains("sleep 77"), "{message}");
    ensure!(began.elapsed() < Duration::from_secs(30));
    Ok(())
}

#[test]
fn output_held_open_by_a_grandchild_is_an_error() -> Result<()> {
    let left = Command::new("sh").args(["-c", "sleep 30 & echo started"]).run();
    let message = format!("{:#}", left.err().context("no error")?);
    ensure!(message.contains("stdout is still held open"), "{message}");
    Ok(())
}

#[test]
fn command_gets_stdin_and_gives_status_and_both_outputs() -> Result<()> {
    let out = Command::new("sh")
        .args(["-c", "cat; echo e >&2; exit 3"])
        .stdin("in")
        .run()?
        .status_is(3)?;
    ensure!(out.out() == "in" && out.err() == "e\n", "{out}");
    ensure!(out.clone().ok().is_err() && out.refused().is_ok());
    let killed = Command::new("sh").args(["-c", "kill -TERM $$"]).run()?;
    killed.status_is(143)?;
    Ok(())
}

#[test]
fn containerd_keeps_what_it_knows_over_a_restart() -> Result<()> {
    let mut fixture = Containerd::start()?;
    fixture.load(Image::WasmtestNative)?;
    let before = fixture.ctr(["image", "ls", "-q"])?.ok()?.out();
    fixture.kill9()?;
    ensure!(fixture.pid().is_err());
    fixture.start_again()?;
    fixture.stop()?;
    fixture.start_again()?;
    ensure!(!before.trim().is_empty() && fixture.ctr(["image", "ls", "-q"])?.ok()?.out() == before);
    Ok(())
}

#[test]
fn fixtures_do_not_see_each_other() -> Result<()> {
    let (one, two) = (Containerd::start()?, Containerd::start()?);
    one.load(Image::WasmtestNative)?;
    ensure!(two.ctr(["image", "ls", "-q"])?.ok()?.out().trim().is_empty());
    ensure!(one.namespace() != two.namespace() && one.socket("x") != two.socket("x"));
    Ok(())
}

#[test]
fn missing_containerd_is_an_error_that_says_what_to_do() -> Result<()> {
    let error =
        Containerd::builder().program("/nowhere/containerd").start().err().context("no error")?;
    ensure!(format!("{error:#}").contains("scripts/setup"), "{error:#}");
    Ok(())
}

#[test]
fn socket_path_is_the_one_containerds_shims_use() {
    // sha256 of "/run/containerd/containerd.sock/default/testwasm", by coreutils' sha256sum.
    let wanted =
        "/run/containerd/s/714b80d8d306b2dc2ac329b8bb226db77d9ee4670a266092f1b1625501e554ed";
    let path =
        proc::socket_path(Path::new("/run/containerd/containerd.sock"), "default", "testwasm");
    assert_eq!(path, Path::new(wanted));
}
