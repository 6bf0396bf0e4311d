//! Requests that a server makes itself, to others that keep it waiting.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::http::{Answer, get, get_cut};
use runwasi_tests::server::{APP, serve};
use rustix::net::{
    AddressFamily, SocketAddrV4, SocketFlags, SocketType, bind, getsockname, listen, socket_with,
};

/// What the guest allows; the host would wait for minutes.
const ALLOWED: u64 = 300;
const SOON: Duration = Duration::from_secs(8);

/// A way to ask.
type Get = fn(SocketAddr, &str) -> Result<Answer>;

pub(crate) fn servers_that_keep_a_request_waiting_are_given_up(c: &mut Containers) -> Result<()> {
    let id = c.id("waits");
    let address = serve(c, &[], &id, APP)?;
    let asks_by = |get: Get, server: SocketAddr, option: &str| -> Result<Answer> {
        let begin = Instant::now();
        let answer = get(address, &format!("/get?url=http%3A//{server}/&{option}={ALLOWED}"))?;
        let took = begin.elapsed();
        ensure!(
            (Duration::from_millis(ALLOWED)..SOON).contains(&took),
            "{option}: {took:?} {answer:?}"
        );
        Ok(answer)
    };
    let asks = |server, option| asks_by(get, server, option);
    let deaf = Deaf::new()?;
    let answer = asks(deaf.address, "connect-ms")?;
    ensure!(answer.status == 502 && answer.body.contains("ConnectionTimeout"), "{answer:?}");
    let answer = asks(saying(b"")?, "first-byte-ms")?;
    ensure!(answer.status == 502 && answer.body.contains("ConnectionReadTimeout"), "{answer:?}");
    // The status has come and was passed on: the rest is missing.
    let half = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")?;
    let answer = asks_by(get_cut, half, "between-bytes-ms")?;
    ensure!(answer == Answer { status: 200, body: "half".into() }, "{answer:?}");
    ensure!(get(address, "/hello")?.status == 200);
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}

/// A server that takes no connection, with those that fill its queue.
struct Deaf {
    address: SocketAddr,
    _listener: OwnedFd,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    fn new() -> Result<Self> {
        let listener =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        listen(&listener, 0)?;
        let address = SocketAddr::try_from(getsockname(&listener)?)?;
        let mut waiting = Vec::new();
        loop {
            match TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(stream) => waiting.push(stream),
                Err(error) if error.kind() == ErrorKind::TimedOut => break,
                Err(error) => return Err(error.into()),
            }
            ensure!(waiting.len() < 16, "its queue has no end");
        }
        Ok(Self { address, _listener: listener, _waiting: waiting })
    }
}

/// A server that says this to its first client when it has asked, and then no more.
fn saying(words: &'static [u8]) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || -> Result<()> {
        let (mut client, _) = listener.accept()?;
        ensure!(client.read(&mut [0; 4096])? > 0, "nothing was asked");
        client.write_all(words)?;
        // Until the client has gone.
        client.read_to_end(&mut Vec::new()).context("the client")?;
        Ok(())
    });
    Ok(address)
}
