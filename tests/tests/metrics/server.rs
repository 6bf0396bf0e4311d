//! The HTTP server of the metrics against good and bad clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use runwasi_tests::daemon::{Daemon, Settings};
use runwasi_tests::exposition::Scrape;
use runwasi_tests::http;
use tempfile::TempDir;

use crate::{daemon, scraped};

/// How long a silent client keeps its connection, and how long a busy machine may take to close it.
const PATIENCE: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(20);

fn served() -> Result<(TempDir, Daemon, SocketAddr)> {
    let address = http::address();
    let (home, daemon) = daemon(scraped(Settings::default(), address))?;
    Ok((home, daemon, address))
}

/// The answer to these bytes, until the server closes.
fn ask(server: SocketAddr, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(LATE))?;
    // A server that refuses may have closed before it has read all.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    ensure!(read.is_ok() || !answer.is_empty(), "{read:?}");
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

pub(crate) fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: here\r\n{fields}\r\n")
}

#[test]
fn only_get_and_head_of_metrics_are_answered() -> Result<()> {
    let (_home, mut daemon, address) = served()?;
    for (method, path, status) in [
        ("GET", "/metrics", "200"),
        ("GET", "/metrics?x=y", "200"),
        ("HEAD", "/metrics", "200"),
        ("POST", "/metrics", "405"),
        ("OPTIONS", "/metrics", "405"),
        ("GET", "/", "404"),
        ("GET", "/metrics/", "404"),
        ("GET", "//metrics", "404"),
        ("GET", "/../metrics", "404"),
        ("POST", "/other", "404"),
        ("CONNECT", "here:80", "404"),
    ] {
        let answer = ask(address, &request(method, path, ""))?;
        ensure!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        ensure!(answer.contains("connection: close\r\n"), "{method} {path}: {answer}");
        let has_body = answer.split_once("\r\n\r\n").is_some_and(|(_, body)| !body.is_empty());
        ensure!(has_body == (method != "HEAD"), "{method} {path}: {answer}");
        ensure!(status != "405" || answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    ensure!(ask(address, "garbage\r\n\r\n")?.starts_with("HTTP/1.1 400 "));
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

#[test]
fn format_is_the_one_that_is_asked_for() -> Result<()> {
    let (_home, mut daemon, address) = served()?;
    let plain = ask(address, &request("GET", "/metrics", ""))?;
    ensure!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    ensure!(plain.contains("# TYPE runwasi_exits_total counter\n") && !plain.contains("# EOF"));
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let open = ask(address, &request("GET", "/metrics", accept))?;
    ensure!(open.contains("content-type: application/openmetrics-text; version=1.0.0;"), "{open}");
    ensure!(open.contains("# TYPE runwasi_exits counter\n") && open.ends_with("# EOF\n"), "{open}");
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

#[test]
fn long_heads_are_refused() -> Result<()> {
    let (_home, mut daemon, address) = served()?;
    let long = format!("X: {}\r\n", "a".repeat(20_000));
    let many: String = (0..200).map(|n| format!("X{n}: y\r\n")).collect();
    for fields in [long, many] {
        let answer = ask(address, &request("GET", "/metrics", &fields))?;
        ensure!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    Scrape::of(address)?;
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

#[test]
fn silent_and_slow_clients_keep_no_scrape_out_and_are_closed() -> Result<()> {
    let (_home, mut daemon, address) = served()?;
    let begun = Instant::now();
    let mut clients = Vec::new();
    // Of three kinds, many times more than connections may be open.
    for n in 0..300 {
        let mut client = TcpStream::connect(address)?;
        client.set_read_timeout(Some(LATE))?;
        match n % 3 {
            0 => {}
            1 => client.write_all(b"GET /metr")?,
            // Asks, and does not read.
            _ => client.write_all(request("GET", "/metrics", "").as_bytes())?,
        }
        clients.push(client);
    }
    for _ in 0..5 {
        let asked = Instant::now();
        Scrape::of(address)?;
        ensure!(asked.elapsed() < PATIENCE / 2, "a scrape took {:?}", asked.elapsed());
    }
    for (n, mut client) in clients.into_iter().enumerate() {
        // Closed or reset, never left open.
        match client.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => ensure!(
                error.kind() == std::io::ErrorKind::ConnectionReset,
                "client {n} after {:?}: {error}",
                begun.elapsed()
            ),
        }
    }
    ensure!(daemon.terminate()? == 0);
    Ok(())
}

#[test]
fn unix_socket_is_private_and_goes_with_the_daemon() -> Result<()> {
    let directory = TempDir::new()?;
    let path = directory.path().join("metrics.sock");
    let flag = ["--metrics-address".to_owned(), path.display().to_string()];
    let (home, mut daemon) = daemon(Settings::default().flags(flag.clone()))?;
    let mode = std::fs::metadata(&path)?.permissions().mode();
    ensure!(mode & 0o7777 == 0o600, "mode {mode:o}");
    let ask = request("GET", "/metrics", "");
    let text = by_socket(&path, &ask)?;
    ensure!(text.contains("runwasi_daemon_state{state=\"serving\"} 1\n"), "{text}");
    let mut successor = daemon.successor()?;
    ensure!(daemon.ends(LATE)? == 0);
    let of_successor = by_socket(&path, &ask).context("after a takeover")?;
    ensure!(of_successor != text);
    // Another state directory: the socket is that of a stranger.
    let other = TempDir::new()?;
    let refused = Daemon::start(other.path(), Settings::default().flags(flag)).err();
    let refused = format!("{:?}", refused.context("the other daemon serves")?);
    ensure!(refused.contains("is served by another program"), "{refused}");
    by_socket(&path, &ask).context("after another daemon's attempt")?;
    ensure!(successor.terminate()? == 0);
    ensure!(!path.exists(), "the socket stays");
    drop(home);
    Ok(())
}

/// The answer to a request at a unix socket.
pub(crate) fn by_socket(path: &std::path::Path, request: &str) -> Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LATE))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
