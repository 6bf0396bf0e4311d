//! Under systemd: its unit restarts the main process alone (`KillMode=process`), and the guard is that process. These tests
//! play systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::ask::command;
use runwasi_tests::daemon::Settings;
use runwasi_tests::runtime::daemon_file;
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{
    Command, Containerd, Containers, Runtime, Ticks, check_with, poll_until, proc, says,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox;

fn guarded(case: impl FnOnce(&mut Containers) -> Result<()>) {
    let settings = Settings::default().flags(["--guard"]);
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), case);
}

/// The process behind the guard.
fn host(c: &mut Containers) -> Result<u32> {
    let (daemons, guard) = (c.fixture.node().daemons(), c.fixture.daemon()?.pid()?);
    ensure!(daemons.len() == 1 && daemons[0] != guard, "{daemons:?} behind guard {guard}");
    Ok(daemons[0])
}

#[test]
fn restart_of_the_guard_leaves_guests_running_and_the_next_daemon_takes_over() {
    guarded(|c| {
        let (old, new) = (c.id("old"), c.id("new"));
        c.detached(&old, &["daemon"])?;
        let mut ticks = Ticks::of(&old)?;
        let first = host(c)?;
        // RestartKillSignal, to the main process only.
        c.fixture.daemon()?.signal(Signal::USR2)?;
        ensure!(c.fixture.daemon()?.ends(Duration::from_secs(10)).context("the guard stays")? == 0);
        ticks.go_on().context("with the guard gone")?;
        c.fixture.daemon()?.start_again()?;
        ticks.go_on().context("after the restart")?;
        c.detached(&new, &["sleep", "100"])?;
        let (before, after) = (sandbox(c.fixture.node(), &old)?, sandbox(c.fixture.node(), &new)?);
        ensure!(before.daemon == first && after.daemon != first, "{before:?} and {after:?}");
        ensure!(c.kill_and_finish(&old)? == 137);
        poll_until("end of the old daemon", LIMIT, || (!proc::alive(first)).then_some(()))?;
        ensure!(host(c)? == after.daemon);
        ensure!(c.kill_and_finish(&new)? == 137);
        c.fixture.becomes_clean()
    });
}

#[test]
fn guard_ends_with_its_daemon_so_that_systemd_starts_another() {
    guarded(|c| {
        let id = c.id("lost");
        c.detached(&id, &["sleep", "100"])?;
        proc::kill9(host(c)?)?;
        let status = c.fixture.daemon()?.ends(LIMIT).context("the guard stays")?;
        ensure!(status != 0, "systemd would take this for a wanted end");
        c.is_taken_away(&id)?;
        c.fixture.daemon()?.start_again()?;
        let out = c.run(&c.id("new"), &["echo", "new"])?.ok()?;
        ensure!(out.out() == "new\n", "{out}");
        c.fixture.becomes_clean()
    });
}

#[test]
fn sigterm_to_the_guard_drains_its_daemon() {
    guarded(|c| {
        let id = c.id("ended");
        c.detached(&id, &["sleep", "100"])?;
        let host = host(c)?;
        ensure!(c.fixture.daemon()?.terminate()? == 0);
        ensure!(!proc::alive(host), "the daemon outlived its guard");
        c.is_taken_away(&id)?;
        c.fixture.becomes_clean()
    });
}

/// The process of the current host once it is another one than `before`.
fn next_host(c: &mut Containers, id: &str, before: u32) -> Result<u32> {
    c.detached(id, &["sleep", "100"])?;
    let host = sandbox(c.fixture.node(), id)?.daemon;
    ensure!(host != before, "the old daemon {before} has taken {id}");
    Ok(host)
}

#[test]
fn reload_takes_new_settings_and_leaves_guard_and_guests_running() {
    guarded(|c| {
        let (old, new) = (c.id("old"), c.id("new"));
        c.detached(&old, &["daemon"])?;
        let mut ticks = Ticks::of(&old)?;
        let (guard, first) = (c.fixture.daemon()?.pid()?, host(c)?);
        c.fixture.daemon()?.reconfigure("slots = 77\n")?;
        c.fixture.daemon()?.reload()?.ok()?;
        ensure!(c.fixture.daemon()?.log().contains("slots=77"), "{}", c.fixture.daemon()?.log());
        ticks.go_on().context("after the reload")?;
        next_host(c, &new, first)?;
        ensure!(c.fixture.daemon()?.is_running() && c.fixture.daemon()?.pid()? == guard);
        ensure!(c.kill_and_finish(&old)? == 137);
        poll_until("end of the old daemon", LIMIT, || (!proc::alive(first)).then_some(()))?;
        ensure!(c.kill_and_finish(&new)? == 137);
        c.fixture.becomes_clean()
    });
}

#[test]
fn stop_after_a_reload_ends_the_guests_of_all_daemons() {
    guarded(|c| {
        let (old, new) = (c.id("old"), c.id("new"));
        c.detached(&old, &["sleep", "100"])?;
        let first = host(c)?;
        c.fixture.daemon()?.reload()?.ok()?;
        let second = next_host(c, &new, first)?;
        ensure!(c.fixture.daemon()?.terminate()? == 0);
        ensure!(!proc::alive(first) && !proc::alive(second), "a daemon outlived its guard");
        c.is_taken_away(&old)?;
        c.is_taken_away(&new)?;
        c.fixture.becomes_clean()
    });
}

/// systemd starts no daemon while the service is there, and stops what it knows.
#[test]
fn drained_daemon_keeps_its_guard_for_the_one_before_it() {
    guarded(|c| {
        let id = c.id("old");
        c.detached(&id, &["sleep", "100"])?;
        let first = host(c)?;
        c.fixture.daemon()?.reload()?.ok()?;
        let late = command(c, &["drain", "--timeout", "1"]).run()?.status_is(1)?;
        ensure!(late.err().contains("1 sandboxes of 2 daemons"), "{late}");
        ensure!(c.fixture.daemon()?.is_running(), "the guard left a daemon that it had started");
        ensure!(proc::alive(first));
        ensure!(c.fixture.daemon()?.terminate()? == 0);
        ensure!(!proc::alive(first), "a daemon outlived its guard");
        c.is_taken_away(&id)?;
        c.fixture.becomes_clean()
    });
}

#[test]
fn reload_that_fails_names_the_reason_and_changes_nothing() {
    guarded(|c| {
        let id = c.id("kept");
        c.detached(&id, &["daemon"])?;
        let mut ticks = Ticks::of(&id)?;
        let first = host(c)?;
        let mut fails = |c: &mut Containers, reasons: &[&str]| -> Result<()> {
            let said = c.fixture.daemon()?.reload()?.status_is(1)?.refused()?;
            runwasi_tests::says(&said, reasons, &[])?;
            ensure!(host(c)? == first, "another daemon serves");
            ticks.go_on().context("after a failed reload")
        };
        // By its caller, who reads the settings first.
        c.fixture.daemon()?.reconfigure("grace = -1")?;
        fails(c, &["grace", "-1"])?;
        // By the new daemon: others could write to its directory.
        c.fixture.daemon()?.reconfigure("")?;
        let directory = c.fixture.node().dir().to_owned();
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o777))?;
        fails(c, &["does not start", "goes on"])?;
        ensure!(
            c.fixture.daemon()?.log().contains("must be this user's"),
            "{}",
            c.fixture.daemon()?.log()
        );
        // The next one is tried as if nothing had happened.
        fs::set_permissions(&directory, PermissionsExt::from_mode(0o700))?;
        ensure!(c.kill_and_finish(&id)? == 137);
        c.fixture.daemon()?.reload()?.ok()?;
        poll_until("end of the old daemon", LIMIT, || (!proc::alive(first)).then_some(()))?;
        c.fixture.becomes_clean()
    });
}

/// The settings name the socket: a flag would win over them.
#[test]
fn reload_does_not_move_the_manager_socket() -> Result<()> {
    let home = tempfile::tempdir()?;
    let file = home.path().join("daemon.toml").display().to_string();
    let [old, new] = ["old", "new"].map(|name| home.path().join(name).join("m.sock"));
    let configure = |socket: &Path| {
        fs::write(&file, format!("socket = {socket:?}\ncache = \"off\"\nslots = 16\n"))
    };
    let health = |socket: &Path| {
        Command::new(daemon_file()).args(["health", "--socket", &socket.to_string_lossy()]).run()
    };
    configure(&old)?;
    let mut guard = std::process::Command::new(daemon_file());
    let mut guard = guard.args(["--config", &file, "--guard"]).stderr(Stdio::null()).spawn()?;
    let case = || -> Result<()> {
        poll_until("the daemon", LIMIT, || (health(&old).ok()?.status == 0).then_some(()))?;
        configure(&new)?;
        let words = ["reload", "--config", &file, "--socket", &old.to_string_lossy()];
        let refused = Command::new(daemon_file()).args(words).run()?.status_is(1)?;
        says(&refused.err(), &["the new daemon does not start", "goes on"], &[])?;
        health(&old)?.ok()?;
        health(&new)?.status_is(3)?;
        Ok(())
    };
    let done = case();
    kill_process(Pid::from_child(&guard), Signal::TERM)?;
    guard.wait()?;
    done
}

#[test]
fn reload_without_a_guard_is_refused() {
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(Settings::default()), |c| {
        let said = c.fixture.daemon()?.reload()?.status_is(1)?.refused()?;
        runwasi_tests::says(&said, &["--guard", "takes over"], &[])
    });
}

/// From one sign of life to the next.
const SIGN: Duration = Duration::from_millis(200);

/// Waits for a sign of life, also behind older ones; its time is taken when it comes.
fn sign(socket: &UnixDatagram) -> Result<()> {
    let mut message = [0; 4096];
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        let length = socket.recv(&mut message).context("no sign of life")?;
        if String::from_utf8_lossy(&message[..length]).lines().any(|line| line == "WATCHDOG=1") {
            return Ok(());
        }
    }
    anyhow::bail!("only other messages")
}

#[test]
fn busy_daemon_gives_signs_of_life_and_one_that_hangs_is_killed_by_the_watchdog() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let interval = (SIGN * 2).as_micros().to_string();
    let settings = Settings::default()
        .flags(["--guard"])
        .env("NOTIFY_SOCKET", path)
        .env("WATCHDOG_USEC", interval);
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), |c| {
        let ids = ["a", "b", "c", "d"].map(|name| c.id(name));
        for id in &ids {
            c.detached(id, &["spin"])?;
        }
        for _ in 0..5 {
            sign(&socket)?;
        }
        let stopped = host(c)?;
        let host = i32::try_from(stopped).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(host, Signal::STOP)?;
        socket.set_read_timeout(Some(SIGN * 5))?;
        // Those that were under way; then none.
        while sign(&socket).is_ok() {}
        c.fixture.daemon()?.signal(Signal::ABORT)?;
        let status = c.fixture.daemon()?.ends(LIMIT).context("the guard stays")?;
        ensure!(status != 0, "systemd would take this for a wanted end");
        poll_until("end of the daemon", LIMIT, || (!proc::alive(stopped)).then_some(()))?;
        for id in &ids {
            c.is_taken_away(id)?;
        }
        c.fixture.becomes_clean()
    });
}

/// Without a guard: a daemon that could not send one sign, for lack of a descriptor say, is not killed for that.
#[test]
fn signs_of_life_go_on_after_one_that_was_not_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let bind = || -> Result<UnixDatagram> {
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(LIMIT))?;
        Ok(socket)
    };
    let before = bind().unwrap();
    let settings = Settings::default()
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", (SIGN * 2).as_micros().to_string());
    check_with(Runtime::Wasmtimed, Containerd::builder().daemon(settings), |c| {
        sign(&before)?;
        drop(before);
        fs::remove_file(&path)?;
        poll_until("a sign that is not taken", LIMIT, || {
            c.fixture.daemon().ok()?.log().contains("sign of life").then_some(())
        })?;
        sign(&bind()?).context("after one that was not taken")?;
        c.fixture.becomes_clean()
    });
}
