//! What already lies where the socket is to be, and who is not at the other end; the cases are listed in `main.rs`.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Player;
use runwasi_tests::poll_until;
use runwasi_tests::shim::TaskClient;

pub(crate) fn stale_socket_is_replaced(p: &Player) -> Result<()> {
    let bundle = p.bundle("stale", &["/a"])?;
    let socket = p.socket("stale");
    fs::create_dir_all(socket.parent().context("no parent")?)?;
    // The file stays, nobody answers: what a killed shim leaves.
    drop(UnixListener::bind(&socket)?);
    let client = p.connect("stale", bundle.path())?;
    serves(&client)?;
    p.finish(&client, "stale", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn start_is_idempotent(p: &Player) -> Result<()> {
    let bundle = p.bundle("twice", &["/a"])?;
    let first = p.start("twice", bundle.path())?.ok()?;
    let second = p.start("twice", bundle.path())?.ok()?;
    ensure!(first.stdout == second.stdout, "{first}\n{second}");
    // A start that lost the race to the socket may take a moment to leave.
    poll_until("one shim", Duration::from_secs(5), || (p.shims().len() == 1).then_some(()))?;
    let client = TaskClient::connect(first.out().trim())?;
    serves(&client)?;
    p.finish(&client, "twice", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn file_in_place_of_the_socket_is_no_hang(p: &Player) -> Result<()> {
    let bundle = p.bundle("file", &["/a"])?;
    let socket = p.socket("file");
    fs::create_dir_all(socket.parent().context("no parent")?)?;
    fs::write(&socket, "not a socket")?;
    let started = p.start("file", bundle.path())?;
    if started.status == 0 {
        // Replaced like a stale socket.
        let client = TaskClient::connect(started.out().trim())?;
        serves(&client)?;
        p.finish(&client, "file", bundle.path())?;
    } else {
        names(&started.refused()?, &socket)?;
        fs::remove_file(&socket)?;
    }
    p.becomes_clean()
}

pub(crate) fn directory_in_place_of_the_socket_is_refused(p: &Player) -> Result<()> {
    let bundle = p.bundle("dir", &["/a"])?;
    let socket = p.socket("dir");
    fs::create_dir_all(&socket)?;
    let said = p.start("dir", bundle.path())?.refused();
    fs::remove_dir(&socket)?;
    names(&said?, &socket)?;
    p.becomes_clean()
}

pub(crate) fn events_without_a_listener_do_not_keep_the_shim(p: &Player) -> Result<()> {
    // Another player of the same shim, with nobody at the address where events go.
    let away = Player::away(p.runtime())?;
    let bundle = away.bundle("alone", &["/wasmtest.wasm", "exit", "3"])?;
    super::stdio::guest(&bundle)?;
    let client = away.connect("alone", bundle.path())?;
    client.create("alone", bundle.path(), &[])?;
    client.start("alone")?;
    let status = client.wait("alone")?.exit_status;
    ensure!(status == 3, "status {status}");
    client.delete("alone")?;
    away.finish(&client, "alone", bundle.path())?;
    away.becomes_clean()
}

/// It answers, even though there is no such container.
pub(crate) fn serves(client: &TaskClient) -> Result<()> {
    use containerd_shim_protos::ttrpc::Error;
    match client.wait("nobody") {
        Err(Error::RpcStatus(_)) => Ok(()),
        other => anyhow::bail!("the shim does not serve: {other:?}"),
    }
}

fn names(said: &str, socket: &Path) -> Result<()> {
    super::says(said, &[&socket.to_string_lossy()], &[])
}
