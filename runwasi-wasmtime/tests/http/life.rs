//! From the start of a server to its end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use http_body_util::Full;
use runwasi_core::network::{Entrance, Network};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Result,
    fixture::{APP, Client, Fixture, HELLO, P3, SIGKILL, SIGTERM, SOON, Served, address, reply},
};

/// Types of frames of HTTP/2 (RFC 9113, section 6).
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// The beginning of HTTP/2, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn a_component_of_p2_answers() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(HELLO).await?;
    let reply = server.get("/").await?;
    assert_eq!(reply.said(), (200, "Hello from wasm!\n".into()));
    assert!(reply.headers.contains_key("date"), "{reply:?}");
    let ended = server.stop().await?;
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    Ok(())
}

#[tokio::test]
async fn a_server_listens_in_its_own_network_on_port_8080_of_every_address() -> Result {
    let inside = Network::with_process(Entrance::New)?;
    let fixture = Fixture::in_network(inside.clone()).await?;
    let server = fixture.start(fixture.setup_without_address("c", HELLO)?).await?;
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    let connect = move || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1));
    let stream = inside.run(connect)??;
    assert!(connect().is_err(), "the host does not reach it");
    stream.set_nonblocking(true)?;
    let reply = Client::over(TcpStream::from_std(stream)?, address).await?.get("/").await?;
    assert_eq!(reply.status, 200);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_address_is_told_by_a_variable_and_the_annotation_wins() -> Result {
    let fixture = Fixture::new().await?;
    let by_variable = address();
    let setup = fixture
        .setup_without_address("c", HELLO)?
        .env(&format!("RUNWASI_HTTP_ADDRESS={by_variable}"));
    let mut server = fixture.start(setup).await?;
    server.address = by_variable;
    assert_eq!(server.get("/").await?.status, 200);
    // The other one has the same variable.
    let setup = fixture.setup("d", HELLO)?.env(&format!("RUNWASI_HTTP_ADDRESS={by_variable}"));
    let other = fixture.start(setup).await?;
    assert_eq!(other.get("/").await?.status, 200);
    server.stop().await?;
    other.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_setting_is_refused_with_its_key() -> Result {
    let fixture = Fixture::new().await?;
    for (n, (key, value)) in
        [("address", "nowhere"), ("max-requests", "0"), ("header-timeout", "soon")]
            .into_iter()
            .enumerate()
    {
        let refused = fixture.create_refused(
            fixture.setup_without_address(&format!("c{n}"), HELLO)?.annotation(key, value),
        );
        let refused = refused.await?.to_string();
        assert!(
            refused.contains(&format!("io.runwasi.http.{key}")) && refused.contains(value),
            "{refused}"
        );
    }
    let setup = fixture.setup_without_address("e", HELLO)?.env("RUNWASI_HTTP_ADDRESS=8080");
    let refused = fixture.create_refused(setup).await?.to_string();
    assert!(refused.contains("RUNWASI_HTTP_ADDRESS"), "{refused}");
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_fails_the_start_and_is_named() -> Result {
    let fixture = Fixture::new().await?;
    let first = fixture.serve(HELLO).await?;
    let refused = fixture
        .start_refused(fixture.setup_without_address("d", HELLO)?.at(first.address))
        .await?
        .to_string();
    assert!(refused.contains(&format!("listen on {}", first.address)), "{refused}");
    assert!(refused.contains("in use"), "{refused}");
    let nowhere = "203.0.113.1:80".parse()?;
    let refused = fixture
        .start_refused(fixture.setup_without_address("e", HELLO)?.at(nowhere))
        .await?
        .to_string();
    assert!(refused.contains("listen on 203.0.113.1:80"), "{refused}");
    first.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_has_started_listens_and_its_address_is_free_when_it_has_ended() -> Result {
    let fixture = Fixture::new().await?;
    let address = address();
    for n in 0..10 {
        let server = fixture
            .start(fixture.setup_without_address(&format!("c{n}"), HELLO)?.at(address))
            .await?;
        // No second try: the start has said that it runs.
        assert_eq!(server.get("/").await?.status, 200);
        server.stop().await?;
    }
    Ok(())
}

/// A request that is under way when the server is told to end: its status and how many lines it
/// got.
async fn under_way(address: SocketAddr, path: &str) -> Result<(u16, usize)> {
    let reply = Client::connect(address).await?.get(path).await?;
    Ok((reply.status.as_u16(), reply.text().lines().count()))
}

#[tokio::test]
async fn sigterm_lets_requests_finish_and_closes_idle_connections() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let address = server.address;
        let mut idle = Client::connect(address).await?;
        idle.get("/hello").await?;
        let _silent = TcpStream::connect(address).await?;
        let ending = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let asked = Instant::now();
            server.kill(SIGTERM).await?;
            idle.closed().await?;
            // Not only with the slow ones.
            assert!(asked.elapsed() < Duration::from_millis(2500), "{:?}", asked.elapsed());
            // More of it changes nothing.
            server.kill(SIGTERM).await?;
            assert!(TcpStream::connect(address).await.is_err(), "nobody new is served");
            Result::Ok(())
        };
        let slow_body =
            if guest == APP { "/slow-body?chunks=5&ms=300" } else { "/slow-body?ms=300" };
        let (slow, long, ending) = tokio::join!(
            under_way(address, "/slow?ms=4000"),
            under_way(address, slow_body),
            ending
        );
        ending?;
        assert_eq!((slow?, long?), ((200, 1), (200, 5)), "{guest}");
        let ended = timeout(SOON, server.ended()).await??;
        assert_eq!(ended.status, 0, "{ended:?}");
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_waits_for_no_client_without_a_request() -> Result {
    let fixture = Fixture::new().await?;
    let setup = fixture.setup("c", APP)?.annotation("max-connections", "1");
    let server = fixture.start(setup).await?;
    let address = server.address;
    assert_eq!(server.get("/hello").await?.status, 200);
    // They are taken one after the other. The time of a head is 10 seconds.
    let _silent = TcpStream::connect(address).await?;
    let mut of_http2 = TcpStream::connect(address).await?;
    of_http2.write_all(PREFACE).await?;
    // It answers no ping, and so does not acknowledge the end.
    let mut deaf = TcpStream::connect(address).await?;
    deaf.write_all(PREFACE).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = Instant::now();
    let (ended, frames) = tokio::join!(server.stop(), answering_pings(of_http2));
    ended?;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert!(frames?.contains(&GOAWAY), "the client is told of the end");
    Ok(())
}

/// Types of the frames of HTTP/2 that come until the end. Pings are answered.
async fn answering_pings(mut stream: TcpStream) -> Result<Vec<u8>> {
    let mut types = Vec::new();
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let [_, high, low, kind, flags, ..] = head;
        let mut payload = vec![0; u16::from_be_bytes([high, low]).into()];
        stream.read_exact(&mut payload).await?;
        if kind == PING && flags == 0 {
            head[4] = 1;
            stream.write_all(&[&head[..], &payload].concat()).await?;
        }
        types.push(kind);
    }
    Ok(types)
}

#[tokio::test]
async fn sigterm_cuts_no_client_in_the_backlog_and_no_request_on_its_way() -> Result {
    let fixture = Fixture::new().await?;
    let setup = fixture.setup("c", APP)?.annotation("max-connections", "1");
    let server = fixture.start(setup).await?;
    let address = server.address;
    let mut kept = Client::connect(address).await?;
    kept.get("/hello").await?;
    // They are connected, and not accepted: there is one place.
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(Client::connect(address).await?);
    }
    server.kill(SIGTERM).await?;
    let reply = kept.get("/hello").await?;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers.get("connection").map(String::as_str), Some("close"), "{reply:?}");
    for mut client in waiting {
        assert_eq!(client.get("/hello").await?.status, 200);
    }
    assert_eq!(timeout(SOON, server.ended()).await??.status, 0);
    Ok(())
}

#[tokio::test]
async fn sigterm_within_a_response_leaves_the_connection_a_further_request() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, slow_body, at_once) in [
        (APP, "/slow-body?chunks=5&ms=200", "1"),
        (P3, "/slow-body?ms=200", "1"),
        (P3, "/slow-body?ms=200", "16"),
    ] {
        let setup =
            || Result::Ok(fixture.setup("c", guest)?.annotation("concurrent-reuse", at_once));
        // On a machine that stands still for a while the signal or the request may come too late.
        let mut answered = false;
        for _ in 0..5 {
            answered =
                further_request_is_answered(fixture.start(setup()?).await?, slow_body).await?;
            if answered {
                break;
            }
        }
        assert!(answered, "{guest}, {at_once} at once");
    }
    Ok(())
}

/// Sends a request after a response that was under way at SIGTERM.
async fn further_request_is_answered(server: Served, slow_body: &str) -> Result<bool> {
    let mut client = Client::connect(server.address).await?;
    // Its head does not tell of a close, so the client is free to ask again.
    let response = client.send("GET", slow_body, Full::default()).await?;
    server.kill(SIGTERM).await?;
    let killed = Instant::now();
    let first = reply(response).await?;
    assert_eq!((first.text().lines().count(), first.headers.get("connection")), (5, None));
    let was_under_way = killed.elapsed() > Duration::from_millis(300);
    let further = client.get("/hello").await;
    assert_eq!(timeout(SOON, server.ended()).await??.status, 0);
    let Ok(further) = further else { return Ok(false) };
    assert_eq!(further.status, 200);
    assert_eq!(further.headers.get("connection").map(String::as_str), Some("close"));
    Ok(was_under_way)
}

#[tokio::test]
async fn sigint_sigquit_and_sigterm_drain_and_others_have_their_default() -> Result {
    const SIGHUP: u32 = 1;
    let fixture = Fixture::new().await?;
    for (signal, status) in [(2, 0), (3, 0), (SIGTERM, 0), (SIGHUP, 128 + SIGHUP)] {
        let server = fixture.serve(HELLO).await?;
        server.kill(signal).await?;
        assert_eq!(timeout(SOON, server.ended()).await??.status, status, "signal {signal}");
    }
    Ok(())
}

#[tokio::test]
async fn sigkill_ends_a_server_at_once_also_while_it_drains() -> Result {
    let fixture = Fixture::new().await?;
    for polite in [false, true] {
        let server = fixture.serve(APP).await?;
        let address = server.address;
        let ending = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            if polite {
                server.kill(SIGTERM).await?;
            }
            let asked = Instant::now();
            server.kill(SIGKILL).await?;
            let ended = timeout(SOON, server.ended()).await??;
            assert_eq!(ended.status, 137);
            assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
            Result::Ok(())
        };
        let (slow, spin, ending) =
            tokio::join!(under_way(address, "/slow?ms=60000"), under_way(address, "/spin"), ending);
        ending?;
        assert!(slow.is_err() && spin.is_err(), "{slow:?} {spin:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_paused_server_answers_when_it_is_resumed() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let mut client = Client::connect(server.address).await?;
    client.get("/hello").await?;
    fixture.client.pause("c").await?;
    let asked = Instant::now();
    let resuming = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        fixture.client.resume("c").await
    };
    // On a connection that is there, and on one that is not accepted meanwhile.
    let (old, new, resumed) = tokio::join!(client.get("/hello"), server.get("/hello"), resuming);
    resumed?;
    assert_eq!((old?.status.as_u16(), new?.status.as_u16()), (200, 200));
    assert!(asked.elapsed() >= Duration::from_millis(500), "{:?}", asked.elapsed());
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn output_of_all_requests_is_the_containers() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.start(fixture.setup("c", APP)?.env("GREETING=hi")).await?;
    for _ in 0..3 {
        assert_eq!(server.get("/log?secret").await?.text(), "logged\n");
    }
    let environment = server.get("/env").await?.text();
    assert!(environment.lines().any(|line| line == "GREETING=hi"), "{environment}");
    assert_eq!(server.stop().await?.stdout, "GET /log\n".repeat(3));
    Ok(())
}

#[tokio::test]
async fn two_servers_of_one_sandbox_serve_on_their_own_addresses() -> Result {
    let fixture = Fixture::new().await?;
    let one = fixture.start(fixture.setup("one", HELLO)?).await?;
    let other = fixture.start(fixture.setup("other", P3)?).await?;
    assert_eq!(one.get("/hello").await?.text(), "Hello from wasm!\n");
    assert_eq!(other.get("/hello").await?.text(), "Hello from p3!\n");
    one.kill(SIGKILL).await?;
    assert_eq!(one.ended().await?.status, 137);
    assert_eq!(other.get("/hello").await?.status, 200);
    other.stop().await?;
    Ok(())
}
