//! How a daemon says that it is ready, and who may talk to it; the cases are listed in `main.rs`.

use std::ffi::OsString;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use runwasi_tests::ask::command;
use runwasi_tests::daemon::{Settings, State};
use runwasi_tests::shim::LIMIT;
use runwasi_tests::{
    Containerd, Containers, Daemon, Runtime, ShimDriver, check_with, poll_until, run_case_with,
    says,
};

pub(crate) fn ready_daemon_answers_at_once(p: &mut ShimDriver) -> Result<()> {
    // The shim driver has just heard `ready`: nothing may be waited for any more.
    UnixStream::connect(p.node().socket())?;
    let list = p.node().sandboxes()?;
    ensure!(list.is_empty(), "{list:?}");
    ensure!(p.node().daemons() == [p.daemon()?.pid()?]);
    ensure!(p.daemon()?.terminate()? == 0);
    let said = p.daemon()?.list()?.status_is(3)?.refused()?;
    let socket = p.node().socket();
    says(&said, &["daemon not running", &socket.to_string_lossy()], &[])
}

pub(crate) fn manager_socket_is_for_its_user_only(p: &ShimDriver) -> Result<()> {
    let mode = |path: &Path| -> Result<u32> {
        let found = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
        Ok(found.permissions().mode() & 0o7777)
    };
    let pid = *p.node().daemons().first().context("no daemon")?;
    ensure!(mode(p.node().dir())? == 0o700);
    ensure!(mode(&p.node().socket())? == 0o600);
    ensure!(mode(&p.node().socket_of(pid))? == 0o600);
    Ok(())
}

#[test]
fn service_manager_is_told_when_it_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    told_when_it_is_ready(&socket, path);
}

/// As a manager has it whose container shares no files with the host.
#[test]
fn service_manager_with_an_abstract_socket_is_told_when_it_is_ready() {
    let name = format!("runwasi-test-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    told_when_it_is_ready(&UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"));
}

fn told_when_it_is_ready(socket: &UnixDatagram, name: impl Into<OsString>) {
    let settings = Settings::default().env("NOTIFY_SOCKET", name);
    run_case_with(ShimDriver::with(Runtime::Wasmtimed, settings), |p| {
        socket.set_read_timeout(Some(LIMIT))?;
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).context("no message to the service manager")?;
        let said = String::from_utf8_lossy(&message[..length]).into_owned();
        ensure!(said.lines().any(|line| line == "READY=1"), "{said:?}");
        UnixStream::connect(p.node().socket())?;
        Ok(())
    });
}

#[test]
fn socket_handed_over_is_served_and_outlives_the_daemon() {
    check_with(Runtime::Wasmtimed, Containerd::builder(), activation);
}

/// A listening manager socket, as a service manager opens it.
fn opened(state: &State) -> Result<UnixListener> {
    fs::DirBuilder::new().mode(0o700).create(state.dir())?;
    Ok(UnixListener::bind(state.socket())?)
}

fn activation(c: &mut Containers) -> Result<()> {
    let (home, state) = (c.fixture.dir().to_owned(), c.fixture.node().clone());
    let listener = opened(&state)?;
    for round in ["one", "two"] {
        // A shim that comes before the daemon waits in the socket's queue: this is what activation is for.
        let early = c.run_command(&["--rm"], &c.id(round), &["echo", round]).spawn()?;
        let mut daemon = Daemon::activated(&home, Settings::default(), listener.try_clone()?)?;
        let out = early.wait()?.ok()?;
        ensure!(out.out() == format!("{round}\n"), "{out}");
        ensure!(daemon.terminate()? == 0);
        // It is the service manager's, and the next daemon's.
        ensure!(state.socket().exists(), "the daemon removed a socket that is not its own");
    }
    c.fixture.becomes_clean()
}

#[test]
fn drain_tells_what_a_socket_handed_over_means() {
    check_with(Runtime::Wasmtimed, Containerd::builder(), |c| {
        let home = c.fixture.dir().to_owned();
        let listener = opened(c.fixture.node())?;
        let mut daemon = Daemon::activated(&home, Settings::default(), listener)?;
        poll_until("a daemon", LIMIT, || c.fixture.node().daemons().first().copied())?;
        let said = command(c, &["drain", "--timeout", "60"]).run()?.ok()?.err();
        let note = [
            "the manager socket is systemd's and stays open",
            "a start during the drain waits 9 s and fails",
            "'kubectl cordon'",
            "Stop the socket unit only when the drain is done",
        ];
        says(&said, &note, &[])?;
        ensure!(daemon.ends(LIMIT)? == 0);
        c.fixture.becomes_clean()
    });
}
