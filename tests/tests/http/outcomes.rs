//! Requests whose client, upstream or container is about to end, and that get their answer.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use runwasi_tests::{
    Containers,
    connection::Connection,
    http::{Answer, get},
    server::{APP, P3, serve},
};
use rustix::net::sockopt::set_socket_linger;

const PATIENCE: Duration = Duration::from_secs(20);
/// Requests to a server that ends its connections badly: the order of events varies.
const TRIES: usize = 20;

pub(crate) fn half_closing_client_gets_its_answer(c: &mut Containers) -> Result<()> {
    for (world, guest) in [("p2", APP), ("p3", P3)] {
        let id = c.id(world);
        let address = serve(c, &[], &id, guest)?;
        let mut client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(PATIENCE))?;
        write!(client, "GET /slow?ms=300 HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        client.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        client.read_to_string(&mut answer)?;
        let is_whole = answer.starts_with("HTTP/1.1 200") && answer.contains("late");
        ensure!(is_whole, "{world}: {answer:?}");
        ensure!(c.kill_and_finish(&id)? == 137);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn complete_response_before_a_bad_end_is_delivered(c: &mut Containers) -> Result<()> {
    for (world, guest) in [("p2", APP), ("p3", P3)] {
        let id = c.id(world);
        let address = serve(c, &[], &id, guest)?;
        for (stray, reset) in [("STRAY", false), ("", true)] {
            let server = upstream(stray, reset)?;
            for n in 0..TRIES {
                let answer = get(address, &format!("/get?url=http://{server}/"))?;
                let expected = Answer { status: 200, body: "whole".into() };
                ensure!(answer == expected, "{world}, {n}, reset {reset}: {answer:?}");
            }
        }
        ensure!(c.kill_and_finish(&id)? == 137);
    }
    c.fixture.becomes_clean()
}

/// Its head and its bytes, then the end of the connection; the next request has another one.
pub(crate) fn short_response_is_delivered_as_far_as_it_goes(c: &mut Containers) -> Result<()> {
    for (world, guest) in [("p2", APP), ("p3", P3)] {
        let id = c.id(world);
        let address = serve(c, &[], &id, guest)?;
        for _ in 0..TRIES {
            let mut client = TcpStream::connect(address)?;
            client.set_read_timeout(Some(PATIENCE))?;
            write!(client, "GET /short?length=10 HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "{world}: {answer:?}");
            ensure!(answer.contains("content-length: 10\r\n"), "{world}: {answer:?}");
            ensure!(answer.ends_with("\r\n\r\nfive!"), "{world}: {answer:?}");
        }
        let whole = get(address, "/short?length=5")?;
        ensure!(whole == Answer { status: 200, body: "five!".into() }, "{world}: {whole:?}");
        ensure!(c.kill_and_finish(&id)? == 137);
    }
    c.fixture.becomes_clean()
}

/// Starts a server that sends a complete response, then `stray` bytes or a reset.
fn upstream(stray: &'static str, reset: bool) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> Result<()> {
        for _ in 0..TRIES {
            let (mut client, _) = listener.accept()?;
            ensure!(client.read(&mut [0; 4096])? > 0, "an empty request");
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole{stray}");
            // In one piece: a reset drops what the kernel still holds (Nagle's algorithm).
            client.write_all(answer.as_bytes())?;
            if reset {
                set_socket_linger(&client, Some(Duration::ZERO))?;
            }
        }
        Ok(())
    });
    Ok(address)
}

pub(crate) fn requests_in_the_backlog_at_sigterm_are_answered(c: &mut Containers) -> Result<()> {
    for (world, guest) in [("p2", APP), ("p3", P3)] {
        let id = c.id(world);
        let one = "io.runwasi.http.max-connections=1";
        let address = serve(c, &["--annotation", one], &id, guest)?;
        let mut clients = Vec::new();
        // The first has the only place, the others wait to be accepted.
        for path in ["/slow?ms=3000", "/hello", "/hello", "/hello"] {
            let mut client = Connection::to(address)?;
            client.send(path)?;
            clients.push(client);
        }
        c.kill(&id, "SIGTERM")?;
        for (n, mut client) in clients.into_iter().enumerate() {
            let answer = client.answer().with_context(|| format!("{world}, request {n}"))?;
            ensure!(answer.status == 200, "{world}, request {n}: {answer:?}");
        }
        ensure!(c.finish(&id)? == 0);
    }
    c.fixture.becomes_clean()
}

pub(crate) fn request_that_does_not_fit_the_memory_waits(c: &mut Containers) -> Result<()> {
    for (world, guest) in [("p2", APP), ("p3", P3)] {
        let id = c.id(world);
        let memory = (24u64 << 20).to_string();
        let flags =
            ["--memory-limit", &memory, "--annotation", "io.runwasi.http.queue-timeout=30s"];
        let address = serve(c, &flags, &id, guest)?;
        let mut clients = Vec::new();
        // More than fit at once: see `memory_limit_is_for_all_requests_together`.
        for _ in 0..60 {
            let mut client = Connection::to(address)?;
            client.send("/slow?ms=500")?;
            clients.push(client);
        }
        for mut client in clients {
            let answer = client.answer()?;
            ensure!(answer.status == 200, "{world}: {answer:?}");
        }
        ensure!(c.kill_and_finish(&id)? == 137);
    }
    c.fixture.becomes_clean()
}
