//! A daemon that is asked to leave: guests are signalled, containerd is told, and it ends.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::connection::Connection;
use runwasi_tests::daemon::Settings;
use runwasi_tests::events::Events;
use runwasi_tests::server::{APP, serve};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{
    Containerd, Containers, Output, Runtime, ShimDriver, check_with, poll_until, run_case_with,
    says,
};
use rustix::process::Signal;

use crate::witness::{Witness, bundle};

#[test]
fn sigterm_ends_guests_with_143_and_the_daemon_with_0() {
    let settings = Settings::default().flags(["--grace", "5"]);
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), everything_ends);
}

fn everything_ends(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let (alone, pod) = (c.id("alone"), c.id("pod"));
    let [first, second] = ["a", "b"].map(|name| c.id(name));
    c.detached(&alone, &["spin"])?;
    c.join(&pod, "sandbox", &first, &["sleep", "100"])?;
    c.join(&pod, "container", &second, &["daemon"])?;
    let ids = [&alone, &first, &second];
    ensure!(c.fixture.daemon()?.terminate()? == 0, "the daemon left with an error");
    for id in ids {
        exits_with(&events, id, 143)?;
        c.is_taken_away(id)?;
    }
    c.fixture.becomes_clean()
}

/// Waits for a container's exit event and looks at the status in it.
fn exits_with(events: &Events, id: &str, status: u32) -> Result<()> {
    let seen = events.until("exit", id)?;
    let (_, exit) = seen.iter().find(|(topic, _)| topic == "exit").context("no exit")?;
    ensure!(exit["exit_status"] == status, "{exit:?}");
    Ok(())
}

#[test]
fn guests_that_finish_their_work_are_killed_after_half_the_grace() {
    let settings = Settings::default().flags(["--grace", "10"]);
    check_with(
        Runtime::Wasmtimed,
        Containerd::builder().daemon(settings),
        unfinished_request_is_cut_off,
    );
}

fn unfinished_request_is_cut_off(c: &mut Containers) -> Result<()> {
    let events = Events::listen(c)?;
    let id = c.id("server");
    let address = serve(c, &[], &id, APP)?;
    let mut slow = Connection::to(address)?;
    slow.send("/slow-body?chunks=1&ms=60000")?;
    slow.head()?;
    let begin = Instant::now();
    c.fixture.daemon()?.signal(Signal::TERM)?;
    // It waits for its request, as SIGTERM makes it do, until it is killed.
    exits_with(&events, &id, 137)?;
    let took = begin.elapsed();
    ensure!(
        (Duration::from_secs(4)..Duration::from_secs(10)).contains(&took),
        "killed after {took:?}"
    );
    ensure!(slow.answer().is_err(), "it was answered");
    c.fixture.daemon()?.ends(Duration::from_secs(10))?;
    c.is_taken_away(&id)?;
    c.fixture.becomes_clean()
}

#[test]
fn draining_daemon_takes_no_new_sandbox_and_ends_at_once_by_a_second_signal() {
    run_case_with(ShimDriver::away_with(Runtime::Wasmtimed, Settings::default()), |p| {
        // Takes connections and never answers: the events, and so the drain, wait for the whole grace.
        let _mute = UnixListener::bind(p.dir().join("c.sock.ttrpc"))?;
        let witness = Witness::start(p, "good")?;
        let late = bundle(p, "late")?;
        p.daemon()?.signal(Signal::TERM)?;
        let said = poll_until("a refusal", LIMIT, || {
            let said = p.start("late", late.path()).and_then(Output::refused);
            // Only one that came before the signal.
            said.or_else(|error| p.delete("late", late.path()).and(Err(error))).ok()
        })?;
        says(&said, &["daemon"], &[])?;
        ensure!(p.daemon()?.is_running(), "it did not wait for its events, so nothing is tried");
        p.daemon()?.signal(Signal::TERM)?;
        p.daemon()?.ends(Duration::from_secs(10)).context("after the second signal")?;
        // What `delete` finds is what an end in haste may leave.
        p.finish(witness.client(), "good", &p.dir().join("b/good"))?;
        p.becomes_clean()
    });
}
