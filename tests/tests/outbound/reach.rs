//! Who reaches whom; the cases are listed in `main.rs`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Result, ensure};
use runwasi_tests::network::Namespace;
use runwasi_tests::{Containers, poll_until};

use crate::fixture::{Guest, Network, P2, P3};
use crate::servers::{listen, serve, serve_badly, serve_often};

pub(crate) fn sandboxes_reach_the_servers_of_their_own_network_only(
    c: &mut Containers,
) -> Result<()> {
    let (one, two) = (Network::new(c, "one")?, Network::new(c, "two")?);
    for (network, other, word, program) in [
        (&one, &two, "one", P2),
        (&two, &one, "two", P2),
        (&one, &two, "three", P3),
        (&two, &one, "four", P3),
    ] {
        let ports = serve(&network.namespace, word)?;
        let mut guest = Guest::new(c, Some(network))?.of(program);
        let said = guest.prints(c, &["tcp-connect", "127.0.0.1", &ports.tcp, "hello "])?;
        ensure!(said == format!("hello {word}\n"), "{said}");
        let said = guest.prints(c, &["udp-send", "127.0.0.1", &ports.udp, "hello "])?;
        ensure!(said == format!("hello {word}\n"), "{said}");
        let url = format!("http://127.0.0.1:{}/", ports.http);
        let said = guest.prints(c, &["http-get", &url])?;
        ensure!(said == format!("200\n{word}"), "{said}");
        let mut stranger = Guest::new(c, Some(other))?.of(program);
        let refused = if program == P2 { "connection-refused" } else { "ConnectionRefused" };
        stranger.fails_with(c, &["tcp-connect", "127.0.0.1", &ports.tcp, "x"], refused)?;
        stranger.fails_with(c, &["http-get", &url], "ConnectionRefused")?;
    }
    drop((one, two));
    c.fixture.becomes_clean()
}

pub(crate) fn complete_answer_is_delivered_although_its_connection_ends_badly(
    c: &mut Containers,
) -> Result<()> {
    let network = Network::new(c, "net")?;
    let url = format!("http://127.0.0.1:{}/", serve_badly(&network.namespace, "whole")?);
    for program in [P2, P3] {
        let mut guest = Guest::new(c, Some(&network))?.of(program);
        for round in 0..10 {
            let said = guest.prints(c, &["http-get", &url])?;
            ensure!(said == "200\nwhole", "{program} {round}: {said}");
        }
    }
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn connections_of_http_are_used_again(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    for program in [P2, P3] {
        let mut guest = Guest::new(c, Some(&network))?.of(program);
        // Whatever the server does with a connection that is idle, the guest gets its answers. One
        // connection more has room where the next request is sent in the poll that ends the last.
        for (answers, least, most) in [(usize::MAX, 1, 2), (5, 6, 9), (1, 30, 30)] {
            let (port, connections) = serve_often(&network.namespace, answers)?;
            let url = format!("http://127.0.0.1:{port}/");
            let said = guest.prints(c, &["http-get", &url, "30"])?;
            ensure!(said == "200\nagain".repeat(30), "{program} {answers}: {said}");
            let connections = connections.load(Ordering::Relaxed);
            ensure!(
                (least..=most).contains(&connections),
                "{program}: {connections} connections of {answers} answers"
            );
        }
    }
    drop(network);
    c.fixture.becomes_clean()
}

pub(crate) fn containers_on_the_hosts_network_reach_the_host(c: &mut Containers) -> Result<()> {
    let ports = serve(&Namespace::own()?, "host")?;
    let mut guest = Guest::new(c, None)?;
    let said = guest.prints(c, &["tcp-connect", "127.0.0.1", &ports.tcp, "hello "])?;
    ensure!(said == "hello host\n", "{said}");
    let said = guest.prints(c, &["http-get", &format!("http://localhost:{}/", ports.http)])?;
    ensure!(said == "200\nhost", "{said}");
    c.fixture.becomes_clean()
}

pub(crate) fn guest_that_listens_is_reached_inside_its_network(c: &mut Containers) -> Result<()> {
    let network = Network::new(c, "net")?;
    // Free a moment ago, and nobody else is in this network.
    let port: u16 = listen(&network.namespace)?.1.parse()?;
    let id = c.id("echo");
    let mut guest = Guest::new(c, Some(&network))?;
    let server = guest.command(c, &["--rm"], &id, &["tcp-echo", &port.to_string()])?.spawn()?;
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    let connected = || network.namespace.inside(connect).ok()?.ok();
    let mut stream = poll_until("the guest's listener", Duration::from_secs(15), connected)?;
    ensure!(connect().is_err(), "the host reaches in");
    stream.write_all(b"echo")?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    ensure!(said == "echo", "{said}");
    server.wait()?.ok()?;
    drop((stream, network));
    c.fixture.becomes_clean()
}
