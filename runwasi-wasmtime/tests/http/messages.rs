//! What goes through a server: bodies in both directions, many requests, wrong ones.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};

use super::{
    Result,
    fixture::{APP, Client, Fixture, P3, SOON, nothing, raw, reply},
};

/// A body that is sent as a test goes on.
type Sent = StreamBody<Pieces>;

pub(crate) struct Pieces(mpsc::Receiver<Bytes>);

impl futures_core::Stream for Pieces {
    type Item = std::result::Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

fn body() -> (mpsc::Sender<Bytes>, Sent) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, StreamBody::new(Pieces(receiver)))
}

#[tokio::test]
async fn one_connection_carries_many_requests_one_instance_each() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let mut client = Client::connect(server.address).await?;
    for _ in 0..200 {
        assert_eq!(client.get("/count").await?.said(), (200, "1\n".into()));
    }
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_body_goes_both_ways_piece_by_piece() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let (pieces, sent) = body();
        let mut client = Client::<Sent>::connect(server.address).await?;
        let mut response = client.send("POST", "/echo", sent).await?;
        assert_eq!(response.status(), 200);
        for n in 0..20 {
            let piece = format!("piece {n}");
            pieces.send(piece.clone().into()).await?;
            // It is back before the next one leaves.
            let frame = timeout(SOON, response.frame()).await?.ok_or("the body has ended")??;
            assert_eq!(frame.into_data().map_err(|_| "trailers")?, piece.as_bytes(), "{guest}");
        }
        drop(pieces);
        assert!(timeout(SOON, response.frame()).await?.is_none());
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn large_bodies_arrive_whole() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let large: Vec<u8> = (0..16u32 << 20).map(|n| (n % 251) as u8).collect();
        let mut client = Client::connect(server.address).await?;
        let sent = client.send("POST", "/echo", Full::new(Bytes::from(large.clone()))).await?;
        assert!(reply(sent).await?.body == large, "{guest}");
        server.stop().await?;
    }
    let server = fixture.serve(APP).await?;
    let bytes = server.get("/bytes?count=10000000").await?.body;
    assert!(
        bytes.len() == 10_000_000
            && bytes.iter().enumerate().all(|(n, byte)| n % 251 == usize::from(*byte))
    );
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_body_comes_as_the_guest_writes_it() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, path) in [(APP, "/slow-body?chunks=5&ms=600"), (P3, "/slow-body?ms=600")] {
        let server = fixture.serve(guest).await?;
        let began = Instant::now();
        let mut response =
            Client::connect(server.address).await?.send("GET", path, nothing()).await?;
        let (mut first, mut text) = (None, String::new());
        while let Some(frame) = timeout(SOON, response.frame()).await? {
            first.get_or_insert(began.elapsed());
            text.push_str(&String::from_utf8_lossy(&frame?.into_data().map_err(|_| "trailers")?));
        }
        assert_eq!(text, "chunk 0\nchunk 1\nchunk 2\nchunk 3\nchunk 4\n");
        let (first, last) = (first.ok_or("nothing came")?, began.elapsed());
        assert!(
            last >= Duration::from_secs(3) && last - first >= Duration::from_millis(300),
            "{first:?} {last:?}"
        );
        server.stop().await?;
    }
    Ok(())
}

/// What a client gets that sends a large body whatever the answer is, then reads to the end.
async fn answer_to_upload(address: SocketAddr, path: &str, size: usize) -> Result<String> {
    let (mut from, mut to) = TcpStream::connect(address).await?.into_split();
    let sends = async {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n");
        to.write_all(head.as_bytes()).await?;
        to.write_all(&vec![7; size]).await?;
        to.shutdown().await
    };
    timeout(SOON, sends).await??;
    let mut answer = String::new();
    timeout(SOON, from.read_to_string(&mut answer)).await??;
    Ok(answer)
}

#[tokio::test]
async fn client_that_sends_more_than_is_read_gets_its_answer() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, at_once) in [(APP, "1"), (P3, "1"), (P3, "16")] {
        let setup = fixture
            .setup("c", guest)?
            .annotation("concurrent-reuse", at_once)
            .annotation("max-requests", "1")
            .annotation("queue-timeout", "1s");
        let server = fixture.start(setup).await?;
        let size = 1 << 20;
        let said = answer_to_upload(server.address, "/hello", size).await?;
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("Hello"), "{guest}: {said}");
        // Also one that no guest gets.
        let mut client = Client::connect(server.address).await?;
        let slow = client.send("GET", "/slow-body?ms=2000", nothing()).await?;
        assert_eq!(slow.status(), 200, "{guest}: it has the only place");
        let said = answer_to_upload(server.address, "/hello", size).await?;
        assert!(said.starts_with("HTTP/1.1 503 "), "{guest}: {said}");
        drop((slow, client));
        let long = format!("/{}", "x".repeat(100_000));
        let said = answer_to_upload(server.address, &long, size).await?;
        assert!(said.starts_with("HTTP/1.1 4"), "{guest}: {said}");
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_does_not_read_slows_its_guest_down() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    // A gigabyte: more than all buffers between guest and client.
    let path = "/bytes?count=1000000000";
    let response = Client::connect(server.address).await?.send("GET", path, nothing()).await?;
    let cpu = async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fixture.usage("c").map(|usage| usage.cpu.time)
    };
    let mut used = vec![cpu().await?, cpu().await?];
    // On a busy machine it takes a while until the buffers are full.
    while used[used.len() - 1] - used[used.len() - 2] >= Duration::from_millis(50) {
        assert!(used.len() < 10, "it computes on: {used:?}");
        used.push(cpu().await?);
    }
    drop(response);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn many_requests_at_once_wait_together() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let began = Instant::now();
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..60 {
            let address = server.address;
            let request = async move {
                let slow = async { Client::connect(address).await?.get("/slow?ms=1000").await };
                slow.await.map(|reply| reply.said()).map_err(|error| error.to_string())
            };
            all.spawn(request);
        }
        for said in all.join_all().await {
            assert_eq!(said?, (200, "late\n".into()));
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{guest}: {:?}", began.elapsed());
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn headers_status_and_method_are_passed_on() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let said = raw(
        server.address,
        b"GET /headers HTTP/1.1\r\nHost: example.org\r\nX-One: 1\r\nConnection: close\r\n\r\n",
    );
    let said = said.await?;
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.contains("x-one: 1\n"), "{said}");
    assert_eq!(server.get("/status?code=418").await?.status, 418);
    assert_eq!(server.get("/nowhere").await?.status, 404);
    // No final status, and none at all.
    assert_eq!(server.get("/status?code=103").await?.status, 500);
    let mut client = Client::connect(server.address).await?;
    let head = reply(client.send("HEAD", "/hello", nothing()).await?).await?;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(client.send("DELETE", "/log", nothing()).await?.status(), 200);
    drop(client);
    assert_eq!(server.stop().await?.stdout, "DELETE /log\n");
    Ok(())
}

#[tokio::test]
async fn malformed_request_is_refused_alone() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(1000));
    for (request, status) in [
        ("nonsense\r\n\r\n", "400"),
        ("GET /hello HTTP/1.1\r\n\r\n", "400"),
        ("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
        ("CONNECT example.org:80 HTTP/1.1\r\nHost: example.org\r\n\r\n", "501"),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400"),
        ("GET /hello HTTP/9.9\r\nHost: a\r\n\r\n", ""),
        ("\0\0\0\0\0\0\0\0", ""),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense, not frames, and long enough to be read as one",
            "",
        ),
        (long.as_str(), "4"),
        (many.as_str(), "431"),
    ] {
        let closing = "\r\nConnection: close\r\n\r\n";
        let request = if request.starts_with("PRI") {
            request.to_owned()
        } else {
            request.replacen("\r\n\r\n", closing, 1)
        };
        let said = raw(server.address, request.as_bytes()).await?;
        let shown: String = request.chars().take(60).collect();
        let expected = if status.is_empty() { String::new() } else { format!("HTTP/1.1 {status}") };
        assert!(said.starts_with(&expected), "{shown:?}: {said:?}");
        assert!(!said.contains("Hello"), "{shown:?}: {said:?}");
    }
    let old = raw(server.address, b"GET /hello HTTP/1.0\r\n\r\n").await?;
    assert!(old.contains("200 OK") && old.ends_with("Hello from wasm!\n"), "{old}");
    assert_eq!(server.get("/hello").await?.status, 200);
    assert_eq!(server.stop().await?.stderr, "");
    Ok(())
}

/// By HTTP/1.0 the end of a connection is the end of a response without a declared length.
#[tokio::test]
async fn cut_response_without_a_length_does_not_look_whole() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let ask = async |path: &str| -> Result<_> {
            let mut stream = TcpStream::connect(server.address).await?;
            // No guest reads the body.
            let request = format!("POST {path} HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            let end = timeout(SOON, stream.read_to_end(&mut answer)).await?;
            Ok((String::from_utf8(answer)?, end.err().map(|error| error.kind())))
        };
        let (said, end) = ask("/hello").await?;
        assert!(said.contains("\r\n\r\nHello from ") && end.is_none(), "{guest}: {said} {end:?}");
        let (said, end) = ask("/cut?ms=50").await?;
        assert!(said.ends_with("\r\n\r\nbegun\n"), "{guest}: {said}");
        assert_eq!(end, Some(io::ErrorKind::ConnectionReset), "{guest}");
        let (said, end) = ask("/short?length=9").await?;
        assert!(said.ends_with("five!") && end.is_none(), "its length tells: {said} {end:?}");
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn body_that_was_not_asked_for_ends_the_connection_with_its_response() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let request = |path: &str| {
            let fields = "Host: a\r\nExpect: 100-continue\r\nContent-Length: 3";
            format!("POST {path} HTTP/1.1\r\n{fields}\r\n\r\n")
        };
        let said = raw(server.address, request("/hello").as_bytes()).await?;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{guest}: {said}");
        assert!(said.contains("connection: close\r\n"), "{guest}: {said}");
        // Read by the guest: the connection has a further request.
        let both = request("/length")
            + "abc"
            + "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let said = raw(server.address, both.as_bytes()).await?;
        assert_eq!(said.matches("200 OK").count(), 2, "{guest}: {said}");
        assert_eq!(said.matches("connection: close\r\n").count(), 1, "{guest}: {said}");
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_sent_all_at_once_are_answered_in_order() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let codes: Vec<_> = (0..50).map(|n| 200 + n).collect();
    let mut requests: String = codes
        .iter()
        .map(|code| format!("GET /status?code={code} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    requests.push_str("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let said = raw(server.address, requests.as_bytes()).await?;
    let answered: Vec<u32> = said
        .lines()
        .filter_map(|line| line.split("HTTP/1.1 ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    let expected: Vec<u32> = codes.into_iter().chain([200]).collect();
    assert_eq!(answered, expected, "{said}");
    server.stop().await?;
    Ok(())
}
