//! What is special about servers of WASI p3: their instances serve more than one request.

use std::time::Duration;

use super::{
    Result,
    fixture::{Bed, Client, P3},
};

#[tokio::test]
async fn an_instance_serves_one_request_after_the_other_up_to_its_limit() -> Result {
    let bed = Bed::new().await?;
    let server = bed.start(bed.setup("c", P3)?.annotation("max-reuse", "3")).await?;
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
    let bed = Bed::new().await?;
    let server = bed.serve(P3).await?;
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
async fn an_instance_that_trapped_serves_no_more() -> Result {
    let bed = Bed::new().await?;
    let server = bed.serve(P3).await?;
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
    let bed = Bed::new().await?;
    let server = bed.serve(P3).await?;
    let mut client = Client::connect(server.address).await?;
    client.get("/hello").await?;
    let used = bed.usage("c")?.memory.used;
    assert!(used > 1 << 20, "{used} bytes for an instance");
    bed.is_free_of_instances(Duration::from_secs(20)).await?;
    assert_eq!(client.get("/count").await?.text(), "1\n");
    drop(client);
    server.stop().await?;
    Ok(())
}
