//! What is special about servers of WASI p3: their instances serve more than one request.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    Result,
    fixture::{Client, Fixture, P3, SOON},
};

#[tokio::test]
async fn an_instance_serves_one_request_after_the_other_up_to_its_limit() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.start(fixture.setup("c", P3)?.annotation("max-reuse", "3")).await?;
    let mut client = Client::connect(server.address).await?;
    let mut counts = Vec::new();
    for _ in 0..7 {
        counts.push(client.get("/count").await?.text());
    }
    assert_eq!(counts.concat(), "1\n2\n3\n1\n2\n3\n1\n");
    drop(client);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn requests_at_once_have_instances_of_their_own() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(P3).await?;
    let after = async |millis, path| {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        server.get(path).await
    };
    let (slow, count) = tokio::join!(after(0, "/slow?ms=1000"), after(300, "/count"));
    assert_eq!((slow?.text(), count?.text()), ("late\n".into(), "1\n".into()));
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn upload_that_goes_on_after_its_response_is_not_cut() -> Result {
    let fixture = Fixture::new().await?;
    for at_once in ["1", "16"] {
        let setup = fixture.setup("c", P3)?.annotation("concurrent-reuse", at_once);
        let server = fixture.start(setup.annotation("header-timeout", "1s")).await?;
        let mut stream = TcpStream::connect(server.address).await?;
        let head = "POST /length-later HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n";
        stream.write_all(head.as_bytes()).await?;
        // Longer than the head of a request may take, and than the answer does.
        for _ in 0..10 {
            stream.write_all(&[b'x'; 100]).await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        stream.shutdown().await?;
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await??;
        assert!(answer.contains("already"), "{answer}");
        assert_eq!(server.stop().await?.stdout, "1000 bytes\n", "{at_once} at once");
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_that_trapped_serves_no_more() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(P3).await?;
    let mut client = Client::connect(server.address).await?;
    assert_eq!(client.get("/count").await?.text(), "1\n");
    assert_eq!(client.get("/trap").await?.status, 500);
    assert_eq!(client.get("/count").await?.text(), "1\n");
    drop(client);
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn instances_that_wait_leave_after_some_seconds() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(P3).await?;
    let mut client = Client::connect(server.address).await?;
    client.get("/hello").await?;
    let used = fixture.usage("c")?.memory.used;
    assert!(used > 1 << 20, "{used} bytes for an instance");
    fixture.is_free_of_instances(Duration::from_secs(20)).await?;
    assert_eq!(client.get("/count").await?.text(), "1\n");
    drop(client);
    server.stop().await?;
    Ok(())
}
