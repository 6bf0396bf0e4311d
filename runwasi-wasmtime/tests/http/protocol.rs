//! HTTP/2 without TLS.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2, rt::Executor};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, WriteHalf},
    net::{TcpStream, tcp::OwnedReadHalf},
    sync::watch,
    time::timeout,
};

use super::{
    Result,
    fixture::{APP, Fixture, P3, Reply, SIGTERM, SOON, reply},
};

#[derive(Clone)]
struct Client {
    sender: http2::SendRequest<Full<Bytes>>,
    address: SocketAddr,
}

impl Client {
    async fn connect(address: SocketAddr) -> Result<Self> {
        Self::with(http2::Builder::new(TokioExecutor::new()), address).await
    }

    /// Gives each stream a window of so many bytes, and more only when these are read.
    async fn with_window(address: SocketAddr, bytes: u32) -> Result<Self> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(bytes);
        Self::with(builder, address).await
    }

    async fn with(builder: http2::Builder<TokioExecutor>, address: SocketAddr) -> Result<Self> {
        Self::over(builder, TcpStream::connect(address).await?, address).await
    }

    /// With windows for all, and a socket that is read only while the switch says so.
    async fn with_switch(address: SocketAddr) -> Result<(Self, watch::Sender<bool>)> {
        let (switch, reads) = watch::channel(true);
        let (from, mut to) = TcpStream::connect(address).await?.into_split();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (mut from_client, to_client) = tokio::io::split(far);
        TokioExecutor::new().execute(async { drop(pass_on(from, to_client, reads).await) });
        TokioExecutor::new().execute(async move {
            drop(tokio::io::copy(&mut from_client, &mut to).await);
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(1 << 30).initial_connection_window_size(1 << 30);
        Ok((Self::over(builder, near, address).await?, switch))
    }

    async fn over<S>(
        builder: http2::Builder<TokioExecutor>,
        stream: S,
        address: SocketAddr,
    ) -> Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
        TokioExecutor::new().execute(async { drop(connection.await) });
        Ok(Self { sender, address })
    }

    /// Until the head.
    async fn begin(&self, method: &str, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let uri = format!("http://{}{path}", self.address);
        let request = Request::builder().method(method).uri(uri).body(Full::new(body))?;
        let mut sender = self.sender.clone();
        sender.ready().await?;
        Ok(timeout(3 * SOON, sender.send_request(request)).await??)
    }

    async fn send(&self, method: &str, path: &str, body: Bytes) -> Result<Reply> {
        reply(self.begin(method, path, body).await?).await
    }

    async fn get(&self, path: &str) -> Result<Reply> {
        self.send("GET", path, Bytes::new()).await
    }
}

/// Passes on what a server sends while `reads` is true.
async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: WriteHalf<DuplexStream>,
    mut reads: watch::Receiver<bool>,
) -> Result {
    let mut buffer = vec![0; 64 << 10];
    loop {
        reads.wait_for(|reads| *reads).await?;
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(to.shutdown().await?);
        }
        to.write_all(&buffer[..count]).await?;
    }
}

#[tokio::test]
async fn http2_without_tls_is_answered() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, hello) in [(APP, "Hello from wasm!\n"), (P3, "Hello from p3!\n")] {
        let server = fixture.serve(guest).await?;
        let client = Client::connect(server.address).await?;
        assert_eq!(client.get("/hello").await?.said(), (200, hello.into()));
        let large = Bytes::from(vec![7; 3 << 20]);
        assert!(client.send("POST", "/echo", large.clone()).await?.body == large);
        assert_eq!(client.get("/trap").await?.status, 500);
        assert_eq!(
            client
                .send("CONNECT", "", Bytes::new())
                .await
                .map_or(501, |reply| reply.status.as_u16()),
            501
        );
        assert_eq!(client.get("/hello").await?.status, 200, "the connection lives on");
        drop(client);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn streams_of_one_connection_do_not_wait_for_each_other() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server =
            fixture.start(fixture.setup("c", guest)?.annotation("request-timeout", "5s")).await?;
        let client = Client::connect(server.address).await?;
        let began = Instant::now();
        let hello = async {
            for _ in 0..20 {
                assert_eq!(client.get("/hello").await?.status, 200);
            }
            Result::Ok(began.elapsed())
        };
        let (spin, slow, also, hello) = tokio::join!(
            client.get("/spin"),
            client.get("/slow?ms=1000"),
            client.get("/slow?ms=1000"),
            hello
        );
        assert_eq!(spin?.status, 504);
        assert_eq!((slow?.status.as_u16(), also?.status.as_u16()), (200, 200));
        let took = hello?;
        assert!(took < Duration::from_millis(4500), "{guest}: {took:?} behind a spinner");
        drop(client);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_lets_streams_finish() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let client = Client::connect(server.address).await?;
    let ending = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill(SIGTERM).await
    };
    let (slow, body, ending) =
        tokio::join!(client.get("/slow?ms=1000"), client.get("/slow-body?chunks=4&ms=300"), ending);
    ending?;
    assert_eq!((slow?.text().lines().count(), body?.text().lines().count()), (1, 4));
    assert_eq!(timeout(SOON, server.ended()).await??.status, 0);
    assert!(client.get("/hello").await.is_err());
    Ok(())
}

#[tokio::test]
async fn client_of_http2_may_wait_with_its_first_request() -> Result {
    let fixture = Fixture::new().await?;
    let setup = fixture.setup("c", APP)?.annotation("header-timeout", "300ms");
    let server = fixture.start(setup).await?;
    let client = Client::connect(server.address).await?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(client.get("/hello").await?.status, 200);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn one_server_speaks_both_versions() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let client = Client::connect(server.address).await?;
    let (new, old) = tokio::join!(client.get("/count"), server.get("/count"));
    assert_eq!((new?.text(), old?.text()), ("1\n".into(), "1\n".into()));
    drop(client);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn client_that_gives_no_window_keeps_neither_a_slot_nor_the_drain() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, at_once) in [(APP, "1"), (P3, "1"), (P3, "16")] {
        let setup = fixture
            .setup("c", guest)?
            .annotation("concurrent-reuse", at_once)
            .annotation("idle-timeout", "300ms")
            .annotation("queue-timeout", "20s")
            .annotation("max-requests", "1");
        let server = fixture.start(setup).await?;
        let client = Client::with_window(server.address, 0).await?;
        let waits = client.begin("GET", "/hello", Bytes::new()).await?;
        assert_eq!(waits.status(), 200);
        assert_eq!(server.get("/hello").await?.status, 200, "{guest}: its slot is free");
        assert!(reply(waits).await.is_err(), "{guest}: it is not complete");
        let client = Client::with_window(server.address, 0).await?;
        let waits = client.begin("GET", "/hello", Bytes::new()).await?;
        server.stop().await?;
        drop(waits);
    }
    Ok(())
}

#[tokio::test]
async fn stream_that_is_not_read_ends_alone() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let setup = fixture
            .setup("c", guest)?
            .annotation("idle-timeout", "1s")
            .annotation("queue-timeout", "20s")
            .annotation("max-requests", "2");
        let server = fixture.start(setup).await?;
        let client = Client::with_window(server.address, 1000).await?;
        // It goes on for longer than a request waits for its turn.
        let mut read = client.begin("GET", "/slow-body?ms=5000", Bytes::new()).await?;
        let unread = client.begin("GET", "/bytes?count=10000000", Bytes::new()).await?;
        // There are two places, and one of them becomes free.
        assert_eq!(server.get("/hello").await?.status, 200, "{guest}");
        let frame = timeout(3 * SOON, read.frame()).await?.ok_or("the body has ended")??;
        assert_eq!(frame.into_data().map_err(|_| "trailers")?, "chunk 0\n", "{guest}");
        assert!(reply(unread).await.is_err(), "{guest}: it is not complete");
        drop((read, client));
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn stream_is_cut_also_if_the_socket_is_full_meanwhile() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let (client, switch) = Client::with_switch(server.address).await?;
        let mut cut = client.begin("GET", "/cut?ms=4000", Bytes::new()).await?;
        let frame = timeout(3 * SOON, cut.frame()).await?.ok_or("the body has ended")??;
        assert_eq!(frame.into_data().map_err(|_| "trailers")?, "begun\n", "{guest}");
        let one = fixture.usage("c")?.memory.used;
        // More than the buffers of both sockets hold.
        let large = client.begin("GET", "/bytes?count=40000000", Bytes::new()).await?;
        switch.send(false)?;
        // The other instance is left.
        let deadline = Instant::now() + 3 * SOON;
        while fixture.usage("c")?.memory.used > one * 3 / 2 {
            assert!(Instant::now() < deadline, "{guest}: {:?}", fixture.usage("c")?.memory);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // It has ended; its stream is polled once more.
        tokio::time::sleep(Duration::from_millis(300)).await;
        switch.send(true)?;
        let ended = timeout(3 * SOON, cut.frame()).await?;
        assert!(matches!(ended, Some(Err(_))), "{guest}: {ended:?}");
        drop((cut, large, client));
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn answers_without_a_body_are_heads_alone() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, at_once) in [(APP, "1"), (P3, "1"), (P3, "16")] {
        let setup = fixture
            .setup("c", guest)?
            .annotation("concurrent-reuse", at_once)
            .annotation("max-requests", "1")
            .annotation("queue-timeout", "2s")
            // For the end of a shared instance whose guest still sleeps.
            .annotation("request-timeout", "2s");
        let server = fixture.start(setup).await?;
        let client = Client::connect(server.address).await?;
        for _ in 0..3 {
            let head = client.send("HEAD", "/hello", Bytes::new()).await?;
            assert_eq!(head.said(), (200, String::new()), "{guest}, {at_once} at once");
        }
        if guest == APP {
            let empty = client.send("GET", "/status?code=204", Bytes::new()).await?;
            assert_eq!(empty.said(), (204, String::new()));
        }
        // The only place is taken.
        let slow = client.begin("GET", "/slow-body?ms=60000", Bytes::new()).await?;
        let refused = client.send("HEAD", "/hello", Bytes::new()).await?;
        assert_eq!(refused.said(), (503, String::new()), "{guest}, {at_once} at once");
        drop(slow);
        assert_eq!(client.get("/hello").await?.status, 200, "the connection lives on");
        drop(client);
        server.stop().await?;
    }
    Ok(())
}
