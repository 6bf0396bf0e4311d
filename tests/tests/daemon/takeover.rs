//! A daemon replaced by another while its guests run; the cases are listed in `main.rs`.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::ask::json;
use runwasi_tests::daemon::{Daemon, Settings};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{
    Containerd, Containers, Running, Runtime, Ticks, check_with, poll_until, proc,
};
use rustix::process::Signal;

use crate::sandbox;

pub(crate) fn replaced_daemon_serves_its_sandboxes_and_leaves_after_the_last(
    c: &mut Containers,
) -> Result<()> {
    let (old_pod, new_pod) = (c.id("old"), c.id("new"));
    let [a, b, other] = ["a", "b", "other"].map(|name| c.id(name));
    c.join(&old_pod, "container", &a, &["daemon"])?;
    let mut ticks = Ticks::of(&a)?;
    ticks.go_on()?;
    let mut old = c.fixture.replace_daemon()?;
    ticks.go_on().context("after the takeover")?;
    // What joins an old pod goes to its owner, a new pod to the new daemon.
    c.join(&old_pod, "container", &b, &["sleep", "100"])?;
    c.join(&new_pod, "sandbox", &other, &["sleep", "100"])?;
    let joined = sandbox(c.fixture.node(), &old_pod)?;
    ensure!(joined.daemon == old.pid()? && joined.containers == 2, "{joined:?}");
    ensure!(sandbox(c.fixture.node(), &new_pod)?.daemon == c.fixture.daemon()?.pid()?);
    ensure!(c.kill_and_finish(&b)? == 137);
    c.is_running(&a)?;
    ensure!(old.is_running(), "it left before its last container");
    ensure!(c.kill_and_finish(&a)? == 137);
    ensure!(old.ends(LIMIT).context("after its last sandbox")? == 0);
    c.is_running(&other)?;
    ensure!(
        c.fixture.node().daemons() == [c.fixture.daemon()?.pid()?],
        "{:?}",
        c.fixture.node().daemons()
    );
    ensure!(c.kill_and_finish(&other)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn no_start_fails_while_a_daemon_is_replaced(c: &mut Containers) -> Result<()> {
    let mut running = Vec::new();
    let mut replaced = Vec::new();
    for round in 0..3 {
        for n in 0..6 {
            let text = format!("{round} {n}");
            let id = c.id(&format!("r{round}n{n}"));
            running.push((text.clone(), c.run_command(&["--rm"], &id, &["echo", &text]).spawn()?));
        }
        replaced.push(c.fixture.replace_daemon()?);
    }
    for (text, run) in running {
        let out = Running::wait(run)?.ok()?;
        ensure!(out.out() == format!("{text}\n"), "{out}");
    }
    for old in &mut replaced {
        ensure!(old.ends(LIMIT)? == 0);
    }
    c.fixture.becomes_clean()
}

/// The old daemon is so busy that it refuses the start after more than the second for which a start is repeated.
pub(crate) fn start_that_is_refused_late_goes_to_the_successor(c: &mut Containers) -> Result<()> {
    let id = c.id("late");
    c.fixture.daemon()?.signal(Signal::STOP)?;
    let run = c.run_command(&["--rm"], &id, &["echo", "late"]).spawn()?;
    let begun = Instant::now();
    poll_until("a start that waits", LIMIT, || {
        (begun.elapsed() > Duration::from_secs(2)).then_some(())
    })?;
    let mut old = c.fixture.replace_daemon()?;
    old.signal(Signal::CONT)?;
    let out = Running::wait(run)?.ok()?;
    ensure!(out.out() == "late\n", "{out}");
    ensure!(old.ends(LIMIT)? == 0);
    c.fixture.becomes_clean()
}

/// More than the four connections that a manager socket has with 64 descriptors.
const HELD: usize = 8;

#[test]
fn start_in_the_queue_of_a_replaced_daemon_goes_to_the_successor() {
    let settings = Settings::default().before("ulimit -n 64");
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), |c| {
        let [stays, queued] = ["stays", "queued"].map(|name| c.id(name));
        c.detached(&stays, &["sleep", "100"])?;
        // Each with the first byte of a request: none is idle, so none gives way.
        let socket = c.fixture.node().socket();
        let hold = |_| -> Result<UnixStream> {
            let mut held = UnixStream::connect(&socket)?;
            held.write_all(&[0])?;
            Ok(held)
        };
        let held = (0..HELD).map(hold).collect::<Result<Vec<_>>>()?;
        let run = c.run_command(&["--rm"], &queued, &["echo", "queued"]).spawn()?;
        let begun = Instant::now();
        poll_until("a start in the queue", LIMIT, || {
            (begun.elapsed() > Duration::from_secs(1)).then_some(())
        })?;
        let mut old = c.fixture.replace_daemon()?;
        poll_until("the retirement", LIMIT, || {
            let list = json(c, &["list", "--json"]).ok()?;
            let mut daemons = list["daemons"].as_array()?.iter();
            daemons.any(|daemon| daemon["state"] == "retired").then_some(())
        })?;
        drop(held);
        let out = Running::wait(run)?.ok()?;
        ensure!(out.out() == "queued\n", "{out}");
        ensure!(c.kill_and_finish(&stays)? == 137);
        ensure!(old.ends(LIMIT)? == 0);
        c.fixture.becomes_clean()
    });
}

pub(crate) fn three_daemons_serve_their_sandboxes_at_once(c: &mut Containers) -> Result<()> {
    let ids = ["one", "two", "three"].map(|name| c.id(name));
    c.detached(&ids[0], &["sleep", "100"])?;
    let mut first = c.fixture.replace_daemon()?;
    c.detached(&ids[1], &["sleep", "100"])?;
    let mut second = c.fixture.replace_daemon()?;
    c.detached(&ids[2], &["sleep", "100"])?;
    for (id, daemon) in ids.iter().zip([first.pid()?, second.pid()?, c.fixture.daemon()?.pid()?]) {
        let found = sandbox(c.fixture.node(), id)?;
        ensure!(found.daemon == daemon, "{found:?} instead of daemon {daemon}");
    }
    // A containerd that comes back finds each at its own daemon.
    c.fixture.stop()?;
    c.fixture.start_again()?;
    for id in &ids {
        c.becomes(id, "RUNNING")?;
    }
    // Not in the order of their age.
    for (id, daemon) in [(&ids[1], &mut second), (&ids[0], &mut first)] {
        ensure!(c.kill_and_finish(id)? == 137);
        ensure!(daemon.ends(LIMIT)? == 0);
    }
    c.is_running(&ids[2])?;
    ensure!(c.kill_and_finish(&ids[2])? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn killed_predecessor_does_not_disturb_its_successor(c: &mut Containers) -> Result<()> {
    let (lost, kept) = (c.id("lost"), c.id("kept"));
    c.detached(&lost, &["daemon"])?;
    let mut old = c.fixture.replace_daemon()?;
    c.detached(&kept, &["daemon"])?;
    let mut ticks = Ticks::of(&kept)?;
    old.kill9()?;
    c.is_taken_away(&lost)?;
    ticks.go_on()?;
    ensure!(!c.fixture.node().record(&c.fixture.socket(&lost)).exists(), "its record is left");
    // The next one also removes the dead one's own socket.
    let mut middle = c.fixture.replace_daemon()?;
    ensure!(
        c.fixture.node().daemons().into_iter().all(proc::alive),
        "{:?}",
        c.fixture.node().daemons()
    );
    ensure!(c.kill_and_finish(&kept)? == 137);
    ensure!(middle.ends(LIMIT)? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn of_daemons_started_at_once_one_is_left_and_serves(c: &mut Containers) -> Result<()> {
    let id = c.id("before");
    c.detached(&id, &["sleep", "100"])?;
    let first = c.fixture.daemon()?;
    let started: Result<Vec<Daemon>> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| first.successor())).collect();
        starts
            .into_iter()
            .map(|start| start.join().map_err(|_| anyhow::anyhow!("a start panicked"))?)
            .collect()
    });
    let mut started = started.context("starting four")?;
    let serving = || {
        let running: Vec<_> = started.iter_mut().map(Daemon::is_running).collect();
        (running.iter().filter(|running| **running).count() == 1).then_some(())
    };
    poll_until("one of four", LIMIT, serving)?;
    let after = c.id("after");
    c.detached(&after, &["sleep", "100"])?;
    let of = [sandbox(c.fixture.node(), &id)?.daemon, sandbox(c.fixture.node(), &after)?.daemon];
    ensure!(of[0] != of[1], "the first daemon still takes new sandboxes");
    for id in [&id, &after] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    for daemon in started.iter_mut().filter_map(|daemon| daemon.is_running().then_some(daemon)) {
        ensure!(daemon.terminate()? == 0);
    }
    c.fixture.becomes_clean()
}
