//! W3C's context through a guest that serves HTTP; the cases are listed in `main.rs`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use runwasi_tests::Containers;
use runwasi_tests::collector::Collector;
use runwasi_tests::http::get;
use runwasi_tests::server::{APP, P3, serve};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PATIENCE: Duration = Duration::from_secs(20);

/// `GET` with these header fields; the whole answer.
pub(crate) fn get_with(server: SocketAddr, path: &str, fields: &str) -> Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n{fields}\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(answer)
}

/// The value of a header field, in an answer of the guest or in a request.
pub(crate) fn field(text: &str, name: &str) -> Option<String> {
    let prefix = format!("{name}: ");
    text.lines().find_map(|line| Some(line.strip_prefix(&prefix)?.trim().to_owned()))
}

/// A server that answers each request, and gives what it was asked.
fn upstream() -> Result<(SocketAddr, Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (sender, requests) = channel();
    thread::spawn(move || -> Result<()> {
        loop {
            let (mut client, _) = listener.accept()?;
            let mut request = vec![0; 4096];
            let length = client.read(&mut request)?;
            sender.send(String::from_utf8_lossy(&request[..length]).into_owned())?;
            write!(client, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")?;
        }
    });
    Ok((address, requests))
}

pub(crate) fn context_of_a_request_reaches_the_guest_and_its_own_requests(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    let fields = format!("traceparent: {PARENT}\r\ntracestate: a=b\r\n");
    let id = c.id("p2");
    let address = serve(c, &[], &id, APP)?;
    let answer = get_with(address, "/headers?token=secret", &fields)?;
    let seen = field(&answer, "traceparent").context(answer.clone())?;
    ensure!(seen.contains(TRACE) && seen != PARENT, "the guest sees {seen}");
    ensure!(field(&answer, "tracestate").is_some_and(|state| state == "a=b"), "{answer}");
    let of_request = collector.find("the request", |span| span.traceparent() == seen)?;
    ensure!(of_request.parent == "b7ad6b7169203331" && of_request.kind == 2, "{of_request:?}");
    let has = |name: &str, value: &str| {
        ensure!(of_request.attributes.get(name).is_some_and(|is| is == value), "{of_request:?}");
        Ok(())
    };
    has("http.request.method", "GET")?;
    has("http.response.status_code", "200")?;
    has("url.path", "/headers")?;
    has("container.id", &id)?;
    outgoing(c, collector, (address, &fields))?;
    let other = c.id("p3");
    let address = serve(c, &[], &other, P3)?;
    // An instance serves one request after the other, each with its own context.
    for _ in 0..2 {
        outgoing(c, collector, (address, &fields))?;
    }
    for id in [&id, &other] {
        ensure!(c.kill_and_finish(id)? == 137);
    }
    c.fixture.becomes_clean()
}

/// A guest that asks a server of its own: it passes no context on, and its server gets one.
fn outgoing(c: &Containers, collector: &Collector, of: (SocketAddr, &str)) -> Result<()> {
    let (server, requests) = upstream()?;
    let (address, fields) = of;
    get_with(address, &format!("/get?url=http://{server}/up"), fields)?;
    let request = requests.recv_timeout(PATIENCE)?;
    let seen = field(&request, "traceparent").context(request.clone())?;
    let span = collector.find("the outgoing request", |span| span.traceparent() == seen)?;
    ensure!(span.trace == TRACE && span.kind == 3 && span.name == "GET", "{span:?}");
    let full = span.attributes.get("url.full");
    ensure!(full.is_some_and(|url| *url == format!("http://{server}/up")), "{span:?}");
    ensure!(span.attributes.get("http.response.status_code").is_some_and(|code| code == "200"));
    let of_request = collector.find("its request", |other| other.id == span.parent)?;
    ensure!(of_request.kind == 2 && of_request.parent == "b7ad6b7169203331", "{of_request:?}");
    ensure!(of_request.start <= span.start, "{of_request:?}, {span:?}");
    ensure!(c.fixture.node().dir().exists());
    Ok(())
}

pub(crate) fn request_without_a_context_begins_a_trace(
    c: &mut Containers,
    collector: &Collector,
) -> Result<()> {
    let id = c.id("server");
    let address = serve(c, &[], &id, APP)?;
    let answer = get_with(address, "/headers", "")?;
    let seen = field(&answer, "traceparent").context(answer)?;
    let span = collector.find("the request", |span| span.traceparent() == seen)?;
    ensure!(span.parent.is_empty(), "{span:?}");
    // An invalid context counts as none.
    let answer = get_with(address, "/headers", "traceparent: 00-garbage\r\n")?;
    ensure!(
        field(&answer, "traceparent").is_some_and(|seen| !seen.contains("garbage")),
        "{answer}"
    );
    ensure!(get(address, "/trap")?.status == 500);
    let failed = collector.find("the failed request", |span| span.error.is_some())?;
    let path = failed.attributes.get("url.path");
    ensure!(path.is_some_and(|path| path == "/trap"), "{failed:?}");
    // A parent that is not sampled: nothing is exported, and the guest is told so.
    let unsampled = PARENT.replace("-01", "-00");
    let answer = get_with(address, "/headers", &format!("traceparent: {unsampled}\r\n"))?;
    let seen = field(&answer, "traceparent").context(answer)?;
    ensure!(seen.contains(TRACE) && seen.ends_with("-00"), "{seen}");
    let last = get_with(address, "/headers", "")?;
    let last = field(&last, "traceparent").context(last)?;
    collector.find("a later request", |span| span.traceparent() == last)?;
    ensure!(collector.spans().iter().all(|span| span.trace != TRACE), "exported");
    ensure!(c.kill_and_finish(&id)? == 137);
    c.fixture.becomes_clean()
}
