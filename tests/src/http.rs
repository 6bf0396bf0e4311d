//! A request to a server in a container, as small as can be; called by tests of such servers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::poll::poll_until;

/// A server that says nothing for this long is an error.
const SILENCE: Duration = Duration::from_secs(15);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its body.
    pub body: String,
}

/// An address of the loopback network that no other test uses.
pub fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed)), 8080).into()
}

/// `GET`, by HTTP/1.0: the answer ends with the connection and has no chunks.
pub fn get(server: SocketAddr, path: &str) -> Result<Answer> {
    request(server, &get_head(server, path), b"")
}

/// `POST`, in the same way.
pub fn post(server: SocketAddr, path: &str, body: &[u8]) -> Result<Answer> {
    let length = body.len();
    request(
        server,
        &format!("POST {path} HTTP/1.0\r\nHost: {server}\r\nContent-Length: {length}\r\n\r\n"),
        body,
    )
}

/// The same as [`get`] from a server that may not listen yet.
pub fn get_when_up(server: SocketAddr, path: &str) -> Result<Answer> {
    let mut last = None;
    let answer = poll_until("an answer", SILENCE, || match get(server, path) {
        Ok(answer) => Some(answer),
        Err(error) => {
            last = Some(error);
            None
        }
    });
    answer.with_context(|| format!("last: {last:?}"))
}

/// The same as [`get`] on a connection that was just made.
pub fn get_on(stream: TcpStream, server: SocketAddr, path: &str) -> Result<Answer> {
    let head = get_head(server, path);
    request_on(stream, server, &head, b"")
}

/// The same as [`get`] for an answer that is cut: the connection ends with a reset.
pub fn get_cut(server: SocketAddr, path: &str) -> Result<Answer> {
    let head = get_head(server, path);
    let (bytes, end) = exchange(connect(server)?, &head, b"")?;
    let is_reset = end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
    ensure!(is_reset, "the end of {:?} is {end:?}", String::from_utf8_lossy(&bytes));
    answer(&String::from_utf8_lossy(&bytes))
}

fn get_head(server: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")
}

fn connect(server: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&server, SILENCE).with_context(|| format!("no server at {server}"))
}

fn request(server: SocketAddr, head: &str, body: &[u8]) -> Result<Answer> {
    request_on(connect(server)?, server, head, body)
}

fn request_on(stream: TcpStream, server: SocketAddr, head: &str, body: &[u8]) -> Result<Answer> {
    let (bytes, end) = exchange(stream, head, body)?;
    end.with_context(|| format!("no answer from {server}"))?;
    answer(&String::from_utf8_lossy(&bytes))
}

/// Sends a request. Returns what comes until the end of the connection, and that end.
fn exchange(
    mut stream: TcpStream,
    head: &str,
    body: &[u8],
) -> Result<(Vec<u8>, io::Result<usize>)> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    Ok((bytes, end))
}

fn answer(text: &str) -> Result<Answer> {
    let (head, body) = text
        .split_once("\r\n\r\n")
        .with_context(|| format!("no end of the headers in {text:?}"))?;
    let mut line = head.split(' ');
    let version = line.next().unwrap_or_default();
    ensure!(version.starts_with("HTTP/1."), "not HTTP: {head:?}");
    let status = line
        .next()
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status in {head:?}"))?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_body_are_read() {
        let got = answer("HTTP/1.0 200 OK\r\ndate: x\r\n\r\na\r\n\r\nb").unwrap();
        assert_eq!(got, Answer { status: 200, body: "a\r\n\r\nb".to_owned() });
        assert!(answer("HTTP/1.0 200 OK\r\n").is_err());
        assert!(answer("SSH-2.0\r\n\r\n").is_err());
    }
}
