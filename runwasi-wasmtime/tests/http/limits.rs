//! Requests that want too much fail alone; clients that keep a server waiting are left.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Result,
    fixture::{APP, Client, Fixture, P3, SOON, nothing, raw},
};

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn a_request_that_traps_fails_alone_and_its_story_is_told() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let mut client = Client::connect(server.address).await?;
        let slow = async { server.get("/slow?ms=500").await };
        let trap = async {
            let reply = client.get("/trap").await?;
            // On the same connection, too.
            Result::Ok((reply, client.get("/hello").await?))
        };
        let (slow, trap) = tokio::join!(slow, trap);
        let (trapped, next) = trap?;
        assert_eq!(trapped.said(), (500, "the handler failed\n".into()));
        assert_eq!((next.status.as_u16(), slow?.status.as_u16()), (200, 200));
        drop(client);
        let stderr = server.stop().await?.stderr;
        assert!(
            stderr.contains("unreachable") && stderr.contains("wasm backtrace"),
            "{guest}: {stderr}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn complete_answer_arrives_also_if_its_guest_ends_by_itself() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    // Many: it depended on how much of the answer was under way.
    for code in [0, 1].repeat(8) {
        let reply = server.get(&format!("/exit?code={code}")).await?;
        assert_eq!(reply.said(), (200, "the last word\n".into()), "status {code}");
    }
    let ended = server.stop().await?;
    assert_eq!(ended.stderr.matches("Error: ").count(), 8, "of success alone: {}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn full_stderr_neither_completes_a_cut_response_nor_delays_a_failure() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let (server, full) = fixture.start_with_full_stderr(fixture.setup("c", guest)?).await?;
        let request = b"GET /cut?ms=100 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let said = raw(server.address, request).await?;
        assert!(said.starts_with("HTTP/1.1 200 ") && said.contains("begun\n"), "{guest}: {said}");
        assert!(!said.ends_with("0\r\n\r\n"), "{guest}: it looks complete: {said}");
        let began = Instant::now();
        for _ in 0..10 {
            let reply = server.get("/trap").await?;
            assert_eq!(reply.said(), (500, "the handler failed\n".into()), "{guest}");
        }
        // Each report waits a second for a reader.
        assert!(began.elapsed() < Duration::from_secs(8), "{guest}: {:?}", began.elapsed());
        server.stop().await?;
        drop(full);
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_spins_is_given_up_and_others_go_on() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server =
            fixture.start(fixture.setup("c", guest)?.annotation("request-timeout", "1s")).await?;
        let spin = async {
            let began = Instant::now();
            let reply = server.get("/spin").await?;
            Result::Ok((reply, began.elapsed()))
        };
        let others = async {
            let (mut count, began) = (0, Instant::now());
            let mut client = Client::connect(server.address).await?;
            while began.elapsed() < Duration::from_millis(900) {
                assert_eq!(client.get("/hello").await?.status, 200);
                count += 1;
            }
            Result::Ok(count)
        };
        let (first, second, third, others) =
            tokio::join!(spin, server.get("/spin"), server.get("/spin"), others);
        let (reply, took) = first?;
        assert_eq!(reply.said(), (504, "no answer in time\n".into()), "{guest}");
        assert_eq!((second?.status.as_u16(), third?.status.as_u16()), (504, 504));
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
        assert!(others? > 5, "others starve");
        assert_eq!(server.get("/hello").await?.status, 200);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_request_that_outgrows_the_memory_fails_alone_and_kills_nobody() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.start(fixture.setup("c", APP)?.memory_limit(64 * MIB)).await?;
    assert_eq!(server.get("/alloc?mib=20").await?.said(), (200, "done\n".into()));
    let (large, slow) = tokio::join!(server.get("/alloc?mib=100"), server.get("/slow?ms=500"));
    assert_eq!((large?.status.as_u16(), slow?.status.as_u16()), (500, 200));
    assert_eq!(server.get("/alloc?mib=20").await?.status, 200, "it was given back");
    let events = fixture.harness.events().summary();
    assert!(!events.iter().any(|event| event.starts_with("oom")), "{events:?}");
    let memory = fixture.usage("c")?.memory;
    assert!(memory.failures == 1 && memory.kills == 0, "{memory:?}");
    let stderr = server.stop().await?.stderr;
    assert!(stderr.contains("beyond the container's memory limit"), "{stderr}");
    Ok(())
}

#[tokio::test]
async fn requests_whose_instances_do_not_fit_are_told_to_come_later() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        // Room for a few instances, each of a little more than a megabyte.
        let setup = fixture.setup("c", guest)?.memory_limit(8 * MIB);
        let server = fixture.start(setup.annotation("queue-timeout", "100ms")).await?;
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let address = server.address;
            all.spawn(async move {
                let get = async { Client::connect(address).await?.get("/slow?ms=1000").await };
                get.await
                    .map(|reply| (reply.status.as_u16(), reply.headers.contains_key("retry-after")))
                    .ok()
            });
        }
        let answers = all.join_all().await;
        let of = |wanted| answers.iter().filter(|answer| **answer == Some(wanted)).count();
        let (served, refused) = (of((200, false)), of((503, true)));
        assert!(served >= 2 && refused >= 10 && served + refused == 30, "{guest}: {answers:?}");
        assert_eq!(server.get("/hello").await?.status, 200);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn requests_beyond_the_slots_of_all_guests_get_slots_of_their_own() -> Result {
    for (request_slots, all_fit) in [(40, true), (0, false)] {
        let fixture = Fixture::with_slots(4, request_slots).await?;
        for guest in [APP, P3] {
            let setup = fixture.setup("c", guest)?.annotation("queue-timeout", "500ms");
            let server = fixture.start(setup).await?;
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..12 {
                let address = server.address;
                all.spawn(async move {
                    let reply = Client::connect(address).await?.get("/slow?ms=2000").await?;
                    Result::Ok(reply.status.as_u16())
                });
            }
            let answers = all.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
            let served = answers.iter().filter(|status| **status == 200).count();
            // Three quarters of the slots at most.
            let wanted = if all_fit { 12..=12 } else { 1..=3 };
            assert!(wanted.contains(&served), "{guest}: {answers:?}");
            assert_eq!(server.get("/hello").await?.status, 200);
            server.stop().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn instances_with_a_heap_get_slots_for_requests_beyond_their_share_of_memories() -> Result {
    // Nine memories of twelve for one container: four instances with a memory and a heap.
    let fixture = Fixture::with_slots(8, 40).await?;
    let setup = fixture.setup_of_text("c", include_str!("heap.wat"));
    let server = fixture.start(setup.annotation("queue-timeout", "500ms")).await?;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..5 {
        let address = server.address;
        all.spawn(async move {
            let reply = Client::connect(address).await?.get("/").await?;
            Result::Ok(reply.status.as_u16())
        });
    }
    // It ends without an answer.
    for answer in all.join_all().await {
        assert_eq!(answer?, 500);
    }
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn requests_whose_instances_do_not_fit_wait_for_others_to_end() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        // Room for a few instances, each of a little more than a megabyte.
        let setup = fixture.setup("c", guest)?.memory_limit(8 * MIB);
        let server = fixture.start(setup.annotation("queue-timeout", "60s")).await?;
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let address = server.address;
            all.spawn(async move {
                let reply = Client::connect(address).await?.get("/slow?ms=200").await?;
                Result::Ok(reply.status.as_u16())
            });
        }
        for answer in all.join_all().await {
            assert_eq!(answer?, 200, "{guest}");
        }
        server.stop().await?;
    }
    Ok(())
}

/// A client that asks and closes its sending side.
async fn half_closed(address: SocketAddr, path: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.shutdown().await?;
    Ok(stream)
}

#[tokio::test]
async fn client_that_closes_its_sending_side_gets_its_answer() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        // The last one has pieces for longer than a client that says nothing is waited for.
        for (path, end) in [
            ("/hello", "!\n"),
            ("/slow?ms=100", "late\n"),
            ("/slow-body?ms=450", "chunk 4\n\r\n0\r\n\r\n"),
        ] {
            let mut stream = half_closed(server.address, path).await?;
            let mut answer = String::new();
            timeout(2 * SOON, stream.read_to_string(&mut answer)).await??;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{guest} {path}: {answer}");
            assert!(answer.contains(end), "{guest} {path}: {answer}");
        }
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn client_that_closes_its_sending_side_and_reads_late_gets_all() -> Result {
    const COUNT: usize = 40_000_000;
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server = fixture.serve(guest).await?;
        let mut stream = half_closed(server.address, &format!("/bytes?count={COUNT}")).await?;
        // Longer than a client that says nothing is waited for. The sockets are full meanwhile.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut answer = Vec::new();
        timeout(3 * SOON, stream.read_to_end(&mut answer)).await??;
        assert!(answer.len() > COUNT, "{guest}: {} bytes", answer.len());
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn more_requests_than_allowed_wait_and_are_then_told_to_come_later() -> Result {
    let fixture = Fixture::new().await?;
    let setup =
        fixture.setup("c", APP)?.annotation("max-requests", "1").annotation("queue-timeout", "2s");
    let server = fixture.start(setup).await?;
    let after = async |millis, path| {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        server.get(path).await
    };
    let (first, second) = tokio::join!(after(0, "/slow?ms=500"), after(200, "/hello"));
    assert_eq!(
        (first?.status.as_u16(), second?.status.as_u16()),
        (200, 200),
        "it waits for its turn"
    );
    let (first, second) = tokio::join!(after(0, "/slow?ms=5000"), after(200, "/hello"));
    assert_eq!(
        (first?.status.as_u16(), second?.said()),
        (200, (503, "no instance is free\n".into()))
    );
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() -> Result {
    let fixture = Fixture::new().await?;
    for guest in [APP, P3] {
        let server =
            fixture.start(fixture.setup("c", guest)?.annotation("max-requests", "1")).await?;
        for path in ["/spin", "/slow?ms=60000", "/slow-body?ms=60000"] {
            let mut client = Client::connect(server.address).await?;
            let left =
                timeout(Duration::from_millis(300), client.send("GET", path, nothing())).await;
            assert!(left.is_err() || path.starts_with("/slow-body"), "{path} was answered");
            drop((left, client));
            // There is one place, and it is free again.
            let began = Instant::now();
            assert_eq!(server.get("/hello").await?.status, 200, "{guest} {path}");
            assert!(
                began.elapsed() < Duration::from_secs(4),
                "{guest} {path}: {:?}",
                began.elapsed()
            );
        }
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn more_connections_than_allowed_wait_in_the_backlog() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.start(fixture.setup("c", APP)?.annotation("max-connections", "2")).await?;
    let mut one = Client::connect(server.address).await?;
    let mut two = Client::connect(server.address).await?;
    assert_eq!(
        (one.get("/hello").await?.status, two.get("/hello").await?.status),
        (200.try_into()?, 200.try_into()?)
    );
    let mut three = Client::connect(server.address).await?;
    assert!(
        timeout(Duration::from_millis(500), three.send("GET", "/hello", nothing())).await.is_err()
    );
    drop(one);
    assert_eq!(server.get("/hello").await?.status, 200);
    drop((two, three));
    server.stop().await?;
    Ok(())
}

/// When the server closes a connection on which these bytes were sent, one after the other.
async fn closes(stream: &mut TcpStream, bytes: &[u8], pause: Duration) -> Result<Duration> {
    let began = Instant::now();
    let mut buffer = [0; 4096];
    for byte in bytes {
        if stream.write_all(&[*byte]).await.is_err() {
            return Ok(began.elapsed());
        }
        if let Ok(Ok(0) | Err(_)) = timeout(pause, stream.read(&mut buffer)).await {
            return Ok(began.elapsed());
        }
    }
    while !matches!(timeout(SOON, stream.read(&mut buffer)).await?, Ok(0) | Err(_)) {}
    Ok(began.elapsed())
}

#[tokio::test]
async fn client_without_a_head_in_time_is_disconnected() -> Result {
    let fixture = Fixture::new().await?;
    let setup = fixture
        .setup("c", APP)?
        .annotation("header-timeout", "500ms")
        .annotation("idle-timeout", "30s");
    let server = fixture.start(setup).await?;
    let silence =
        closes(&mut TcpStream::connect(server.address).await?, b"", Duration::ZERO).await?;
    let head = format!("GET /hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(200));
    let slow = Duration::from_millis(50);
    let drip =
        closes(&mut TcpStream::connect(server.address).await?, head.as_bytes(), slow).await?;
    let mut used = TcpStream::connect(server.address).await?;
    used.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    let again = closes(&mut used, b"GET", Duration::from_millis(50)).await?;
    for closed in [silence, drip, again] {
        let wanted = Duration::from_millis(400)..Duration::from_secs(10);
        assert!(wanted.contains(&closed), "{silence:?} {drip:?} {again:?}");
    }
    assert_eq!(server.get("/hello").await?.status, 200);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() -> Result {
    let fixture = Fixture::new().await?;
    let server =
        fixture.start(fixture.setup("c", APP)?.annotation("idle-timeout", "700ms")).await?;
    let mut client = Client::connect(server.address).await?;
    assert_eq!(client.get("/slow?ms=1500").await?.status, 200);
    let began = Instant::now();
    let mut stream = TcpStream::connect(server.address).await?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    closes(&mut stream, b"", Duration::ZERO).await?;
    let closed = began.elapsed();
    assert!(closed >= Duration::from_millis(600) && closed < Duration::from_secs(5), "{closed:?}");
    client.closed().await?;
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_a_body_is_left() -> Result {
    let fixture = Fixture::new().await?;
    let setup = fixture
        .setup("c", APP)?
        .annotation("idle-timeout", "700ms")
        .annotation("max-requests", "1");
    let server = fixture.start(setup).await?;
    // Nothing more is sent.
    let mut stream = TcpStream::connect(server.address).await?;
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf").await?;
    let closed = closes(&mut stream, b"", Duration::ZERO).await?;
    assert!(closed >= Duration::from_millis(600) && closed < Duration::from_secs(8), "{closed:?}");
    // Nothing is read.
    let mut stream = TcpStream::connect(server.address).await?;
    stream.write_all(b"GET /bytes?count=1000000000 HTTP/1.1\r\nHost: a\r\n\r\n").await?;
    stream.read_exact(&mut [0; 8]).await?;
    let began = Instant::now();
    assert_eq!(server.get("/hello").await?.status, 200, "its place is free");
    assert!(
        began.elapsed() >= Duration::from_millis(100) && began.elapsed() < Duration::from_secs(8)
    );
    server.stop().await?;
    Ok(())
}
