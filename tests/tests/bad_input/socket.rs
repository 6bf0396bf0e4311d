//! What already lies where the socket is to be, and who is not at the other end; the cases are listed in `main.rs`.

use std::fs;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::{StateRequest, StateResponse};
use runwasi_tests::ShimDriver;
use runwasi_tests::shim::{LIMIT, TaskClient};
use runwasi_tests::{poll_until, proc, run_case_with};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) fn stale_socket_is_replaced(p: &ShimDriver) -> Result<()> {
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

pub(crate) fn start_is_idempotent(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("twice", &["/a"])?;
    let first = p.start("twice", bundle.path())?.ok()?;
    let second = p.start("twice", bundle.path())?.ok()?;
    ensure!(first.stdout == second.stdout, "{first}\n{second}");
    // A start that lost the race to the socket may take a moment to leave.
    poll_until("one shim", Duration::from_secs(20), || (p.shims().len() == 1).then_some(()))?;
    let client = TaskClient::connect(first.out().trim())?;
    serves(&client)?;
    p.finish(&client, "twice", bundle.path())?;
    p.becomes_clean()
}

pub(crate) fn file_in_place_of_the_socket_is_no_hang(p: &ShimDriver) -> Result<()> {
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

pub(crate) fn directory_in_place_of_the_socket_is_refused(p: &ShimDriver) -> Result<()> {
    let bundle = p.bundle("dir", &["/a"])?;
    let socket = p.socket("dir");
    fs::create_dir_all(&socket)?;
    let said = p.start("dir", bundle.path())?.refused();
    fs::remove_dir(&socket)?;
    names(&said?, &socket)?;
    p.becomes_clean()
}

pub(crate) fn events_without_a_listener_do_not_keep_the_shim(p: &ShimDriver) -> Result<()> {
    // Another shim driver of the same shim, with nobody at the address where events go.
    let away = ShimDriver::away(p.runtime())?;
    let bundle = away.bundle("alone", &["/wasmtest.wasm", "exit", "3"])?;
    bundle.add_guests()?;
    let client = away.connect("alone", bundle.path())?;
    client.create("alone", bundle.path(), &[])?;
    client.start("alone")?;
    let status = client.wait("alone")?.exit_status;
    ensure!(status == 3, "status {status}");
    client.delete("alone")?;
    away.finish(&client, "alone", bundle.path())?;
    away.becomes_clean()
}

pub(crate) fn leaving_shim_spares_its_successors_socket(p: &ShimDriver) -> Result<()> {
    // Another shim driver, with nobody at the address where events go.
    run_case_with(ShimDriver::away(p.runtime()), |away| {
        a_successor_comes_while_a_shim_leaves(away)
    });
    Ok(())
}

fn a_successor_comes_while_a_shim_leaves(away: &ShimDriver) -> Result<()> {
    // Takes connections and never answers: the events, and so the leaving shim, wait for seconds.
    let _mute = UnixListener::bind(away.dir().join("c.sock.ttrpc"))?;
    let (bundle, client) = super::command_line::sleeping(away)?;
    // A connection would hold the socket's inode.
    drop(client);
    let socket = away.socket("good");
    let leaving = away.shims().first().context("no shim")?.pid;
    kill_process(
        i32::try_from(leaving).ok().and_then(Pid::from_raw).context("pid")?,
        Signal::TERM,
    )?;
    // Unlinked and closed, too: then the file system gives the old inode's number to the next socket.
    poll_until("end of the old socket", Duration::from_secs(20), || {
        (!is_open(&socket)).then_some(())
    })?;
    let successor = away.connect("good", bundle.path())?;
    ensure!(proc::alive(leaving), "the leaving shim was not held up, so nothing was tried");
    poll_until("end of the leaving shim", LIMIT, || (!proc::alive(leaving)).then_some(()))?;
    ensure!(socket.exists(), "the leaving shim removed its successor's socket");
    serves(&TaskClient::connect(&format!("unix://{}", socket.display()))?)?;
    away.finish(&successor, "good", bundle.path())?;
    away.becomes_clean()
}

pub(crate) fn silent_and_garbling_clients_disturb_nobody(p: &ShimDriver) -> Result<()> {
    let (bundle, client) = super::command_line::sleeping(p)?;
    let socket = p.socket("good");
    let server = p.shims().into_iter().next().context("no shim")?;
    let (shim, pid) = (server.pid, server.network);
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_write_timeout(Some(LIMIT))?;
        // May fail: a shim that hangs up on nonsense is right.
        stream.write_all(&nonsense(n)).ok();
        clients.push(stream);
        let began = Instant::now();
        let newcomer = TaskClient::connect(&format!("unix://{}", socket.display()))?;
        for client in [&client, &newcomer] {
            let request = StateRequest { id: "good".to_owned(), ..StateRequest::default() };
            let state: StateResponse = client.call("State", &request, LIMIT)?;
            ensure!(state.id == "good" && state.pid == pid, "{state:?}");
        }
        ensure!(
            began.elapsed() < Duration::from_secs(5),
            "with {n} of them State took {:?}",
            began.elapsed()
        );
    }
    ensure!(proc::alive(shim), "the shim died");
    // The clients stays to the end: it must not keep the shim, either.
    super::command_line::end(p, &client, &bundle)?;
    drop(clients);
    Ok(())
}

/// Nothing, half a header, half a message, a message of 4 GiB, or any bytes; a ttrpc header is length, stream, type, flags.
fn nonsense(n: u32) -> Vec<u8> {
    const REQUEST: [u8; 6] = [0, 0, 0, 1, 1, 0];
    match n % 5 {
        0 => Vec::new(),
        1 => [0, 0, 1].to_vec(),
        2 => [&[0, 0, 1, 0][..], &REQUEST, &[0x0a; 100]].concat(),
        3 => [&[0xff; 4][..], &REQUEST, &[0x0a; 1000]].concat(),
        // A linear congruential generator's upper bits: the same in every run.
        _ => (0..4096u32).scan(n, |x, _| next(x)).collect(),
    }
}

fn next(x: &mut u32) -> Option<u8> {
    *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    Some(x.to_be_bytes()[0])
}

/// Whether a socket of this path is open somewhere, its file there or not.
fn is_open(path: &Path) -> bool {
    let name = path.to_string_lossy().into_owned();
    fs::read_to_string("/proc/net/unix").is_ok_and(|table| table.contains(&name))
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
