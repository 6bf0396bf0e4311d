//! `ctr run -t` and `ctr task exec -t`; the cases are listed in `main.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use runwasi_tests::{Containers, console, poll_until};

/// Its output. With runc, `ctr` may add that it came too late to set the size.
const SEES_ONE: &str = "stdin true, stdout true, stderr true\n";

pub(crate) fn guest_at_a_terminal_sees_one_and_another_none(c: &mut Containers) -> Result<()> {
    let (status, screen) = c.at_terminal(&["--rm"], &c.id("tty"), &["tty"])?.wait()?;
    ensure!(status == 0 && screen.starts_with(SEES_ONE), "{status}: {screen:?}");
    ensure!(c.runtime.runs_by_runc() || screen == SEES_ONE, "a complaint: {screen:?}");
    let out = c.run(&c.id("none"), &["tty"])?.ok()?;
    ensure!(out.out() == "stdin false, stdout false, stderr false\n", "{out}");
    c.fixture.becomes_clean()
}

pub(crate) fn what_is_typed_is_echoed_edited_and_read(c: &mut Containers) -> Result<()> {
    let mut console = c.at_terminal(&["--rm"], &c.id("cat"), &["cat"])?;
    console.types("helo\x7flo\r")?;
    console.shows("helo\x08 \x08lo\nhello\n")?;
    console.types("\x04")?;
    let (status, screen) = console.wait()?;
    ensure!(status == 0, "{status}: {screen:?}");
    c.fixture.becomes_clean()
}

pub(crate) fn exit_status_passes_through_a_terminal(c: &mut Containers) -> Result<()> {
    for code in [0, 3] {
        let (status, screen) =
            c.at_terminal(&["--rm"], &c.id("exit"), &["exit", &code.to_string()])?.wait()?;
        ensure!(status == code, "{status}: {screen:?}");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn megabyte_passes_through_a_terminal_before_the_end(c: &mut Containers) -> Result<()> {
    let count = 1_000_000;
    let console = c.at_terminal(&["--rm"], &c.id("much"), &["bytes", &count.to_string()])?;
    // The line discipline makes CR NL of NL: byte 10 of every 251.
    let wanted = count + (count - 11) / 251 + 1;
    let printed = poll_until("a megabyte", Duration::from_secs(20), || {
        (console.count() >= wanted).then_some(())
    });
    printed.with_context(|| format!("{} of {wanted} bytes", console.count()))?;
    let (status, _) = console.wait()?;
    ensure!(status == 0, "{status}");
    c.fixture.becomes_clean()
}

pub(crate) fn exec_gets_a_terminal_of_its_own(c: &mut Containers) -> Result<()> {
    let id = c.id("host");
    c.detached(&id, &["sleep", "1000"])?;
    let exec = c.exec_command(&["-t"], &id, "typed", &[c.runtime.guest(), "tty"]);
    let (status, screen) = exec.spawn_at_terminal()?.wait()?;
    ensure!(status == 0 && screen.starts_with(SEES_ONE), "{status}: {screen:?}");
    let mut cat =
        c.exec_command(&["-t"], &id, "cat", &[c.runtime.guest(), "cat"]).spawn_at_terminal()?;
    cat.types("once\r")?;
    cat.shows("once\nonce\n")?;
    cat.types("\x04")?;
    ensure!(cat.wait()?.0 == 0);
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn size_of_the_clients_terminal_is_the_guests(c: &mut Containers) -> Result<()> {
    let id = c.id("sized");
    let console = c.at_terminal(&[], &id, &["sleep", "1000"])?;
    c.becomes(&id, "RUNNING")?;
    let holder = c.is_running(&id)?.pid;
    let becomes = |size: &str, (columns, rows): (u16, u16)| {
        let mut last = None;
        let seen = poll_until(size, Duration::from_secs(20), || {
            last = Some(console::sizes_of_terminals(holder));
            let seen = last.as_ref()?.as_ref().ok()?;
            if !seen.is_empty() && seen.iter().all(|one| one == size) {
                return Some(());
            }
            // `ctr` begins to listen after it has told the first size, and hears of changes only.
            console.resize(columns + 1, rows).ok()?;
            console.resize(columns, rows).ok()?;
            None
        });
        seen.with_context(|| format!("{last:?}"))
    };
    // A native process has its terminal as streams; a wasm guest's is its host's, which the pid names.
    becomes("24 80", (80, 24))?;
    becomes("33 101", (101, 33))?;
    c.kill(&id, "SIGKILL")?;
    ensure!(console.wait()?.0 == 137);
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn client_attaches_to_a_detached_guest(c: &mut Containers) -> Result<()> {
    let id = c.id("apart");
    let (status, screen) = c.at_terminal(&["-d"], &id, &["cat"])?.wait()?;
    ensure!(status == 0, "{status}: {screen:?}");
    c.is_running(&id)?;
    let mut console = c.fixture.ctr_command(["task", "attach", &id]).spawn_at_terminal()?;
    console.types("attached\r")?;
    console.shows("attached\nattached\n")?;
    console.types("\x04")?;
    let (status, screen) = console.wait()?;
    ensure!(status == 0, "{status}: {screen:?}");
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

/// A native one's terminal is closed with its client.
pub(crate) fn guest_outlives_the_client_and_another_attaches(c: &mut Containers) -> Result<()> {
    let id = c.id("left");
    let mut first = c.at_terminal(&[], &id, &["cat"])?;
    first.types("first\r")?;
    first.shows("first\nfirst\n")?;
    first.signal(Signal::SIGKILL)?;
    first.wait()?;
    c.is_running(&id)?;
    let mut second = c.fixture.ctr_command(["task", "attach", &id]).spawn_at_terminal()?;
    second.types("second\r")?;
    second.shows("second\nsecond\n")?;
    second.types("\x04")?;
    let (status, screen) = second.wait()?;
    ensure!(status == 0, "{status}: {screen:?}");
    c.delete_container(&id)?;
    c.fixture.becomes_clean()
}

pub(crate) fn killed_guest_at_a_terminal_leaves_nothing(c: &mut Containers) -> Result<()> {
    let id = c.id("spin");
    let console = c.at_terminal(&["--rm"], &id, &["spin"])?;
    c.becomes(&id, "RUNNING")?;
    c.kill(&id, "SIGKILL")?;
    let (status, screen) = console.wait()?;
    ensure!(status == 137, "{status}: {screen:?}");
    c.fixture.becomes_clean()
}

/// The init of a native container ignores what its terminal sends, unless it has a handler.
pub(crate) fn ctrl_c_and_ctrl_backslash_end_a_guest(c: &mut Containers) -> Result<()> {
    for (key, wanted) in [("\x03", 130), ("\x1c", 131)] {
        let id = c.id(&format!("spin{wanted}"));
        let mut console = c.at_terminal(&["--rm"], &id, &["spin"])?;
        c.becomes(&id, "RUNNING")?;
        console.types(key)?;
        let (status, screen) = console.wait()?;
        ensure!(status == wanted, "{status}: {screen:?}");
    }
    c.fixture.becomes_clean()
}

pub(crate) fn ctrl_c_is_heard_although_nobody_reads(c: &mut Containers) -> Result<()> {
    let id = c.id("deaf");
    let mut console = c.at_terminal(&["--rm"], &id, &["sleep", "1000"])?;
    c.becomes(&id, "RUNNING")?;
    // More than the kernel keeps for a reader.
    for _ in 0..10 {
        console.types(&format!("{}\r", "x".repeat(1000)))?;
    }
    console.types("\x03")?;
    let (status, screen) = console.wait()?;
    ensure!(status == 130, "{status}: {screen:?}");
    c.fixture.becomes_clean()
}
