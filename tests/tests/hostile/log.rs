//! A log that is not read, and a terminal that is closed; the cases are listed in `main.rs`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::pty::{OpenptyResult, openpty};
use runwasi_tests::bundle::fifo;
use runwasi_tests::daemon::Settings;
use runwasi_tests::exposition::Scrape;
use runwasi_tests::{
    Containerd, Containers, Runtime, ShimDriver, check_with, http, poll_until, proc,
};
use rustix::fs::OFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(20);
/// Text of the line with the number of dropped lines.
const DROPPED: &str = "lines of this log were dropped";

/// A FIFO in the place of a log, held open and read only on request.
struct Log {
    dir: TempDir,
    file: File,
}

impl Log {
    fn new() -> Result<Self> {
        let dir = TempDir::new()?;
        let path = dir.path().join("log");
        fifo(&path)?;
        // Reading and writing, so that the open waits for no other end.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Self { dir, file })
    }

    /// Fills it, so that any further write would wait.
    fn fill(&mut self) -> Result<()> {
        for size in [4096, 1] {
            let block = vec![b'x'; size];
            loop {
                match self.file.write(&block) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<String> {
        let mut text = Vec::new();
        match self.file.read_to_end(&mut text) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Ok(String::from_utf8_lossy(&text).into_owned())
            }
            other => anyhow::bail!("the log has an end: {other:?}"),
        }
    }
}

/// Runs the case with a daemon whose stderr is a FIFO, and with its guard.
#[track_caller]
fn check_daemon(flags: &[&str], case: impl FnOnce(&mut Containers, &mut Log) -> Result<()>) {
    let mut log = Log::new().unwrap_or_else(|error| panic!("no FIFO: {error:?}"));
    let settings = Settings::default().stderr(log.dir.path().join("log")).flags(flags);
    let builder = Containerd::builder().daemon(settings);
    check_with(Runtime::Wasmtimed, builder, |c| case(c, &mut log));
}

#[test]
fn stderr_that_is_never_read_stops_nothing() {
    let metrics = http::address();
    let flags = ["--metrics-address", &metrics.to_string()];
    check_daemon(&flags, |c, log| daemon_goes_on(c, log, metrics));
}

#[test]
fn stderr_of_a_guard_that_is_never_read_stops_nothing() {
    check_daemon(&["--guard"], guard_goes_on);
}

fn daemon_goes_on(c: &mut Containers, log: &mut Log, metrics: SocketAddr) -> Result<()> {
    log.fill()?;
    for n in 0..3 {
        ensure!(c.run(&format!("unread{n}"), &["exit", "3"])?.status == 3);
    }
    ensure!(!log.read()?.contains("sandbox"), "there was room in the log");
    // The next reader learns how much is missing.
    ensure!(c.run("read", &["exit", "3"])?.status == 3);
    let text = poll_until("a line", SOON, || log.read().ok().filter(|text| !text.is_empty()))?;
    ensure!(text.contains(DROPPED) && text.contains("lines="), "{text}");
    // As many as are counted.
    let said = text.split("lines=").nth(1).and_then(|rest| rest.lines().next());
    let said: f64 = said.context(text.clone())?.parse()?;
    let counted = Scrape::of(metrics)?.value("runwasi_log_lines_dropped_total")?;
    ensure!(said == counted && said >= 12.0, "{counted} lines are counted: {text}");
    log.fill()?;
    // Its last words wait for no reader either.
    ensure!(c.fixture.daemon()?.terminate()? == 0);
    c.fixture.becomes_clean()
}

fn guard_goes_on(c: &mut Containers, log: &mut Log) -> Result<()> {
    log.fill()?;
    // Fails, which is what a guard logs.
    c.fixture.daemon()?.reconfigure("no-such-key = 1\n")?;
    ensure!(c.fixture.daemon()?.reload()?.status != 0);
    c.fixture.daemon()?.reconfigure("")?;
    ensure!(c.fixture.daemon()?.reload()?.status == 0, "the guard does not start another daemon");
    ensure!(c.run("later", &["exit", "3"])?.status == 3);
    ensure!(c.fixture.daemon()?.terminate()? == 0);
    c.fixture.becomes_clean()
}

pub(crate) fn log_fifo_that_is_never_read_stops_no_shim(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("unread", &[p.runtime().guest(), "exit", "3"])?;
    bundle.add_guests()?;
    let path = bundle.path().join("log");
    fifo(&path)?;
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).write(true).custom_flags(flags).open(&path)?;
    let mut log = Log { dir: TempDir::new()?, file };
    log.fill()?;
    let client = p.connect("unread", bundle.path())?;
    client.create("unread", bundle.path(), &[])?;
    client.start("unread")?;
    ensure!(client.wait("unread")?.exit_status == 3);
    client.delete("unread")?;
    p.finish(&client, "unread", bundle.path())?;
    p.becomes_clean()
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.try_into()?).context("no pid")?;
    Ok(kill_process(pid, signal)?)
}

/// With a guard, the daemon is its child: both have their log at the terminal, and get its signal.
#[test]
fn terminal_that_is_closed_ends_neither_daemon_nor_guard() {
    for flags in [&[][..], &["--guard"]] {
        let pty = openpty(None, None).unwrap_or_else(|error| panic!("no terminal: {error}"));
        let slave = format!("/proc/self/fd/{}", pty.slave.as_raw_fd());
        let slave = fs::read_link(slave).unwrap_or_else(|error| panic!("no name: {error}"));
        let settings = Settings::default().stderr(slave).flags(flags);
        let builder = Containerd::builder().daemon(settings);
        check_with(Runtime::Wasmtimed, builder, |c| all_go_on_after(c, Signal::HUP, Some(pty)));
    }
}

/// As `pkill -USR1 containerd` and `systemctl kill -s USR1` do, for the stacks of containerd and its shims.
#[test]
fn signal_for_a_dump_ends_neither_daemon_nor_guard() {
    for flags in [&[][..], &["--guard"]] {
        let builder = Containerd::builder().daemon(Settings::default().flags(flags));
        check_with(Runtime::Wasmtimed, builder, |c| all_go_on_after(c, Signal::USR1, None));
    }
}

/// Closes the terminal, if there is one, and sends a signal to daemon and guard, which both go on.
fn all_go_on_after(
    c: &mut Containers,
    signal: Signal,
    terminal: Option<OpenptyResult>,
) -> Result<()> {
    let id = c.id("stays");
    c.detached(&id, &["sleep", "100"])?;
    let server = proc::server_of(c.is_running(&id)?.pid)?;
    let guard = c.fixture.daemon()?.pid()?;
    // What the kernel does for the processes of a terminal.
    drop(terminal);
    for pid in [guard, server] {
        send(pid, signal)?;
    }
    // At SIGHUP a guard reloads: its new daemon serves what is new, the old one what it has.
    let later = c.id("later");
    ensure!(c.run(&later, &["exit", "3"])?.status == 3);
    ensure!([guard, server].iter().all(|pid| proc::alive(*pid)), "{guard} or {server} has ended");
    c.is_running(&id)?;
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

pub(crate) fn signals_for_a_closed_terminal_and_a_dump_end_no_shim(
    c: &mut Containers,
) -> Result<()> {
    let id = c.id("stays");
    c.detached(&id, &["sleep", "100"])?;
    let shim = c.fixture.shims().first().context("no shim")?.pid;
    for signal in [Signal::HUP, Signal::USR1] {
        send(shim, signal)?;
    }
    // Answered after the signals, which the shim gets first.
    c.kill(&id, "SIGWINCH")?;
    c.is_running(&id)?;
    ensure!(proc::alive(shim));
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
