//! No daemon: what `ctr` says then.

use std::fs;
use std::os::unix::net::UnixListener;

use anyhow::{Result, ensure};
use runwasi_tests::daemon::Settings;
use runwasi_tests::{Containerd, Containers, Daemon, Runtime, check_with, says};

/// What a user is told to do.
const HOW: &str = "start it with 'systemctl start containerd-wasmtimed' or 'containerd-wasmtimed'";

fn is_told(c: &Containers) -> Result<()> {
    let said = c.run(&c.id("early"), &["echo", "x"])?.refused()?;
    let socket = c.fixture.node().socket();
    says(&said, &[&format!("daemon not running at {}", socket.display()), HOW], &[])?;
    let list = c.fixture.ctr(["container", "ls", "-q"])?.ok()?;
    ensure!(list.out().trim().is_empty(), "a container is left: {list}");
    c.fixture.becomes_clean()
}

#[test]
fn daemon_down_is_told_with_socket_and_how_to_start() {
    check_with(Runtime::Wasmtimed, Containerd::builder(), |c| {
        is_told(c)?;
        // A socket file that nobody serves is no daemon, either.
        fs::create_dir(c.fixture.node().dir())?;
        drop(UnixListener::bind(c.fixture.node().socket())?);
        is_told(c)?;
        // And is not in the way of one.
        let mut daemon = Daemon::start(c.fixture.dir(), Settings::default())?;
        let out = c.run(&c.id("late"), &["echo", "served"])?.ok()?;
        ensure!(out.out() == "served\n", "{out}");
        c.fixture.becomes_clean()?;
        ensure!(daemon.terminate()? == 0);
        is_told(c)
    });
}
