//! What is left after a guest: nothing; and what all processes of a container have in common. The cases are listed in `main.rs`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use runwasi_tests::{Containers, poll_until, proc};

use crate::fixture::{Guest, Network};
use crate::servers::{head, listen, name_server_socket};

const SOON: Duration = Duration::from_secs(10);

pub(crate) fn kill_of_what_hangs_leaves_nothing_open(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let (listener, port) = listen(&network.namespace)?;
    let names = name_server_socket(&network.namespace)?;
    names.set_read_timeout(Some(SOON))?;
    let url = format!("http://127.0.0.1:{port}/");
    let connection: [&[&str]; 3] =
        [&["tcp-hold", "127.0.0.1", &port], &["http-get", &url], &["http-get", &url]];
    // The first guest's leavings are the engine's own: code, pools.
    let mut before = None;
    for round in 0..2 {
        for (n, args) in connection.iter().enumerate() {
            let (id, _guest) = start(c, &network, &format!("hangs{round}{n}"), args)?;
            let mut stream = accept(&listener)?;
            if n > 0 {
                head(&mut stream)?;
            }
            if n > 1 {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
            }
            ensure!(c.kill_and_finish(&id)? == 137);
            is_closed(&mut stream).with_context(|| format!("{args:?}"))?;
        }
        let (id, _guest) = start(c, &network, &format!("asks{round}"), &["resolve", "web.test"])?;
        names.recv_from(&mut [0; 512]).context("no question")?;
        ensure!(c.kill_and_finish(&id)? == 137);
        if c.runtime.needs_daemon() {
            let daemon = c.fixture.daemon()?.pid()?;
            let open = poll_until("closed sockets", SOON, || {
                sockets_of(daemon).filter(|open| before.is_none_or(|before| *open <= before))
            });
            before =
                Some(open.with_context(|| {
                    format!("{:?} sockets, {before:?} before", sockets_of(daemon))
                })?);
        }
    }
    drop(network);
    c.fixture.becomes_clean()
}

/// The sockets that an OS process has open.
fn sockets_of(pid: u32) -> Option<usize> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let is_socket = |path: std::path::PathBuf| path.to_string_lossy().starts_with("socket:");
    Some(
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .filter(|path| is_socket(path.clone()))
            .count(),
    )
}

fn start(c: &Containers, network: &Network, name: &str, args: &[&str]) -> Result<(String, Guest)> {
    let id = c.id(name);
    let mut guest = Guest::new(c, Some(network))?
        .file("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n")?;
    guest.command(c, &["-d"], &id, args)?.run()?.ok()?;
    Ok((id, guest))
}

fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let (stream, _) = poll_until("the guest's connection", SOON, || listener.accept().ok())?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SOON))?;
    Ok(stream)
}

/// As the kernel does for a native program that exits.
pub(crate) fn all_that_a_guest_has_written_arrives_although_it_exits_at_once(
    c: &mut Containers,
) -> Result<()> {
    let network = Network::new(c, "net")?;
    let (listener, port) = listen(&network.namespace)?;
    let mut guest = Guest::new(c, Some(&network))?;
    let mut leave = || {
        let args = ["tcp-leave", "127.0.0.1", &port];
        let leaving = guest.command(c, &["--rm"], &c.next_id(), &args)?.spawn()?;
        let stream = accept(&listener)?;
        // It has written more than the kernel takes, and exits.
        let line = || leaving.stdout_so_far().strip_suffix('\n').map(str::to_owned);
        let sent: usize = poll_until("the number of bytes", SOON, line)?.parse()?;
        anyhow::Ok((leaving, stream, sent))
    };
    let (leaving, mut stream, sent) = leave()?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received).with_context(|| format!("of {sent} bytes"))?;
    ensure!(received.len() == sent, "{} of {sent} bytes", received.len());
    leaving.wait()?.ok()?;
    // One that does not read holds nothing up for long.
    let (leaving, _silent, _) = leave()?;
    leaving.wait()?.ok()?;
    drop(network);
    c.fixture.becomes_clean()
}

fn is_closed(stream: &mut TcpStream) -> Result<()> {
    match stream.read(&mut [0; 64]) {
        Ok(0) => Ok(()),
        // So is one with bytes that nobody has read.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        other => bail!("still open: {other:?}"),
    }
}

pub(crate) fn config_and_keyvalue_are_the_containers(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    let (listener, port) = listen(&network.namespace)?;
    let id = c.id("holds");
    let mut guest = Guest::new(c, Some(&network))?.annotation("io.runwasi.config.COLOUR", "blue");
    guest.command(c, &["-d"], &id, &["tcp-hold", "127.0.0.1", &port])?.run()?.ok()?;
    let _held = accept(&listener)?;
    let exec = |name: &str, args: &[&str]| {
        c.exec_command(&[], &id, name, &[&["/net.wasm"], args].concat()).run()?.ok()
    };
    let said = exec("colour", &["config", "COLOUR"])?.out();
    ensure!(said == "blue\n", "{said}");
    for count in ["count 42", "count 84"] {
        let said = exec(&count.replace(' ', "-"), &["kv"])?.out();
        ensure!(said.lines().any(|line| line == count), "{said}");
    }
    ensure!(proc::alive(c.is_running(&id)?.pid), "the init has gone");
    ensure!(c.kill_and_finish(&id)? == 137);
    drop(network);
    c.fixture.becomes_clean()
}
