//! Servers of WASI p3 whose instances serve several requests at once.

use std::{
    thread::available_parallelism,
    time::{Duration, Instant},
};

use futures_util::future::{join_all, try_join_all};

use http_body_util::Full;

use super::{
    Result,
    fixture::{APP, Client, Fixture, P3, SIGKILL, SIGTERM, SOON, Served, reply},
};

async fn serve(fixture: &Fixture, annotations: &[(&str, &str)]) -> Result<Served> {
    let setup = fixture.setup("c", P3)?.annotation("concurrent-reuse", "100");
    fixture
        .start(annotations.iter().fold(setup, |setup, (key, value)| setup.annotation(key, value)))
        .await
}

/// Instances that a server makes before one of them gets a second request.
fn workers() -> Result<usize> {
    Ok(available_parallelism()?.get())
}

/// Has the server make an instance for each worker: a further one is made when none is free.
async fn warm(server: &Served) -> Result {
    let requests = (0..2 * workers()?).map(async |number| {
        tokio::time::sleep(Duration::from_millis(50) * number as u32).await;
        server.get("/slow?ms=1000").await
    });
    try_join_all(requests).await?;
    Ok(())
}

#[tokio::test]
async fn requests_at_once_share_an_instance_for_each_worker() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[]).await?;
    warm(&server).await?;
    let requests = 20 * workers()?;
    let began = Instant::now();
    let slow = try_join_all((0..requests).map(|_| server.get("/slow?ms=4000")));
    let look = async {
        // All of them are there by then.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Result::Ok((server.get("/count").await?.text(), fixture.usage("c")?.memory.used))
    };
    let (slow, look) = tokio::join!(slow, look);
    assert!(slow?.iter().all(|reply| reply.text() == "late\n"));
    assert!(began.elapsed() < Duration::from_secs(4) * 3, "{:?}", began.elapsed());
    let (count, memory) = look?;
    // An instance of its own would cost 1.6 MB for each request.
    println!("{memory} bytes for {requests} requests in {} instances", workers()?);
    assert!(memory < 3_000_000 * workers()? as u64, "{memory} bytes");
    let count: usize = count.trim().parse()?;
    assert!((20..=26).contains(&count), "the instance of the last request has had {count}");
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn shared_instance_serves_requests_up_to_its_limit_and_leaves_when_idle() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[("max-reuse", "3")]).await?;
    let mut client = Client::connect(server.address).await?;
    let mut counts = Vec::new();
    for _ in 0..7 {
        counts.push(client.get("/count").await?.text());
    }
    assert_eq!(counts.concat(), "1\n2\n3\n1\n2\n3\n1\n");
    assert!(fixture.usage("c")?.memory.used > 1 << 20, "an instance waits for the next request");
    fixture.is_free_of_instances(2 * SOON).await?;
    assert_eq!(client.get("/count").await?.text(), "1\n");
    drop(client);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn trap_ends_the_requests_of_its_instance_and_no_others() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[]).await?;
    let (address, workers) = (server.address, workers()?);
    warm(&server).await?;
    // One in each instance; the head of each response is there.
    let mut bodies = Vec::new();
    for _ in 0..workers {
        let mut client = Client::connect(address).await?;
        let response = client.send("GET", "/slow-body?ms=1000", Full::default()).await?;
        bodies.push((client, response));
    }
    assert_eq!(server.get("/trap").await?.said(), (500, "the handler failed\n".into()));
    let bodies = bodies.into_iter().map(async |(client, response)| {
        let reply = reply(response).await;
        drop(client);
        reply
    });
    let (whole, cut): (Vec<_>, Vec<_>) =
        join_all(bodies).await.into_iter().partition(|reply| reply.is_ok());
    assert_eq!((whole.len(), cut.len()), (workers - 1, 1), "{whole:?} {cut:?}");
    assert!(whole.iter().flatten().all(|reply| reply.text().lines().count() == 5), "{whole:?}");
    assert_eq!(server.get("/hello").await?.status, 200);
    let stderr = server.stop().await?.stderr;
    assert_eq!(stderr.matches("wasm backtrace").count(), 1, "{stderr}");
    Ok(())
}

#[tokio::test]
async fn request_without_an_answer_in_time_costs_its_instance() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[("request-timeout", "1s")]).await?;
    let began = Instant::now();
    assert_eq!(server.get("/spin").await?.status, 504);
    assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
    // Nothing spins any more.
    fixture.is_free_of_instances(SOON).await?;
    assert_eq!(server.get("/count").await?.said(), (200, "1\n".into()));
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn guest_that_computes_after_its_answer_is_ended() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[("request-timeout", "1s")]).await?;
    assert_eq!(server.get("/spin-after").await?.said(), (200, "done\n".into()));
    assert!(fixture.usage("c")?.memory.used > 0, "it computes");
    fixture.is_free_of_instances(2 * SOON).await?;
    assert_eq!(server.get("/count").await?.text(), "1\n");
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn open_response_does_not_keep_a_guest_that_computes() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[("request-timeout", "2s")]).await?;
    warm(&server).await?;
    let mut open = Vec::new();
    for _ in 0..workers()? {
        let mut client = Client::connect(server.address).await?;
        let response = client.send("GET", "/slow-body?ms=60000", Full::default()).await?;
        open.push((client, response));
    }
    assert_eq!(server.get("/spin").await?.status, 504);
    // Its instance ends with the response that it has open; the others go on.
    let bodies = open.into_iter().map(async |(client, response)| {
        let cut = tokio::time::timeout(SOON, reply(response)).await;
        drop(client);
        cut
    });
    let bodies = join_all(bodies).await;
    let cut = bodies.iter().filter(|body| matches!(body, Ok(Err(_)))).count();
    let open = bodies.iter().filter(|body| body.is_err()).count();
    assert_eq!((cut, open), (1, workers()? - 1), "{bodies:?}");
    assert_eq!(server.get("/hello").await?.status, 200);
    server.kill(SIGKILL).await?;
    server.ended().await?;
    Ok(())
}

#[tokio::test]
async fn requests_beyond_all_places_wait_in_turn_and_then_get_503() -> Result {
    let fixture = Fixture::new().await?;
    for (queue_timeout, slow, expected) in
        [("20s", "/slow?ms=700", [200; 4]), ("500ms", "/slow?ms=5000", [200, 200, 503, 503])]
    {
        let setup = fixture.setup("c", P3)?.annotation("concurrent-reuse", "2");
        // Room for one instance.
        let setup = setup.annotation("queue-timeout", queue_timeout).memory_limit(3 << 20);
        let server = fixture.start(setup).await?;
        let late = async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            server.get("/hello").await
        };
        // Two that fill the instance, and two that wait.
        let (a, b, c, d) = tokio::join!(server.get(slow), server.get(slow), late(), late());
        assert_eq!([a?, b?, c?, d?].map(|reply| reply.status.as_u16()), expected);
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn client_that_leaves_ends_its_instance_when_the_others_are_done() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[]).await?;
    let slow: Vec<_> = (0..workers()?).map(|_| server.get("/slow?ms=1000")).collect();
    let leaver = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut client = Client::connect(server.address).await?;
        let asked = client.send("GET", "/slow?ms=600000", Full::default());
        // Its connection is closed then.
        assert!(tokio::time::timeout(Duration::from_millis(300), asked).await.is_err());
        Result::Ok(())
    };
    let (slow, left) = tokio::join!(try_join_all(slow), leaver);
    left?;
    assert!(slow?.iter().all(|reply| reply.text() == "late\n"));
    fixture.is_free_of_instances(2 * SOON).await?;
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn client_that_leaves_a_body_costs_no_instance() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[]).await?;
    let mut client = Client::connect(server.address).await?;
    let response = client.send("GET", "/bytes?count=1000000000", Full::default()).await?;
    assert_eq!(response.status(), 200);
    drop((client, response));
    // Nothing tells when the server has found that the client has gone.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(server.get("/count").await?.text(), "2\n");
    assert_eq!(server.stop().await?.stderr, "");
    Ok(())
}

#[tokio::test]
async fn drain_answers_what_shared_instances_have() -> Result {
    let fixture = Fixture::new().await?;
    let server = serve(&fixture, &[]).await?;
    let slow: Vec<_> = (0..10).map(|_| server.get("/slow?ms=500")).collect();
    let drain = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.kill(SIGTERM).await
    };
    let (slow, drained) = tokio::join!(try_join_all(slow), drain);
    drained?;
    assert!(slow?.iter().all(|reply| reply.text() == "late\n"));
    assert_eq!(server.ended().await?.status, 0);
    Ok(())
}

#[tokio::test]
async fn instance_of_p2_serves_one_request_whatever_the_annotation() -> Result {
    let fixture = Fixture::new().await?;
    let setup = fixture.setup("c", APP)?.annotation("concurrent-reuse", "100");
    let server = fixture.start(setup).await?;
    for _ in 0..3 {
        assert_eq!(server.get("/hello").await?.status, 200);
    }
    server.stop().await?;
    Ok(())
}
