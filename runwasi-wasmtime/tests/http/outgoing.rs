//! Requests of the guests themselves.

use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    Result,
    fixture::{APP, Client, Fixture, P3, SOON, Served, nothing},
};

/// How a guest is ended in the middle of an upload.
#[derive(Clone, Copy, Debug)]
enum End {
    ClientLeaves,
    Trap,
}

/// Accepts a request and reads until a part of its body is there.
async fn half_of(listener: &TcpListener) -> Result<(TcpStream, Vec<u8>)> {
    let (mut stream, _) = listener.accept().await?;
    let mut got = Vec::new();
    while !String::from_utf8_lossy(&got).contains("half") {
        if stream.read_buf(&mut got).await? == 0 {
            return Err("the request ended before its body".into());
        }
    }
    Ok((stream, got))
}

/// What a server gets of a guest's request that is ended in the middle.
async fn upload(server: &Served, end: End) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let millis = match end {
        End::ClientLeaves => 600_000,
        // Long enough for the beginning of the request.
        End::Trap => 3000,
    };
    let path = format!("/post-half?ms={millis}&url=http://{}/", listener.local_addr()?);
    let mut client = Client::connect(server.address).await?;
    let mut asked = Box::pin(client.send("GET", &path, nothing()));
    let (mut stream, mut got) = tokio::select! {
        half = timeout(SOON, half_of(&listener)) => half??,
        answer = &mut asked => return Err(format!("too early: {answer:?}").into()),
    };
    match end {
        End::ClientLeaves => {
            drop(asked);
            drop(client);
        }
        End::Trap => assert_eq!(asked.await?.status(), 500),
    }
    // A reset is an end, too.
    let _ = timeout(SOON, stream.read_to_end(&mut got)).await?;
    Ok(String::from_utf8_lossy(&got).into_owned())
}

#[tokio::test]
async fn body_of_a_get_is_sent() -> Result {
    let fixture = Fixture::new().await?;
    let server = fixture.serve(APP).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let path = format!("/get-with-body?url=http://{}/", listener.local_addr()?);
    let answering = async {
        let (mut stream, _) = listener.accept().await?;
        let mut got = Vec::new();
        while !got.ends_with(b"0\r\n\r\n") {
            assert!(stream.read_buf(&mut got).await? > 0, "{}", String::from_utf8_lossy(&got));
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfound").await?;
        Result::Ok(String::from_utf8(got)?)
    };
    let (answer, got) = tokio::join!(server.get(&path), timeout(SOON, answering));
    assert_eq!(answer?.said(), (200, "found".into()));
    let got = got??;
    assert!(got.contains("transfer-encoding: chunked\r\n"), "{got}");
    assert!(got.ends_with("\r\n5\r\nquery\r\n0\r\n\r\n"), "{got}");
    server.stop().await?;
    Ok(())
}

#[tokio::test]
async fn upload_whose_guest_is_ended_does_not_look_complete() -> Result {
    let fixture = Fixture::new().await?;
    for (guest, at_once) in [(APP, "1"), (P3, "1"), (P3, "16")] {
        let setup = fixture.setup("c", guest)?.annotation("concurrent-reuse", at_once);
        let server = fixture.start(setup).await?;
        for end in [End::ClientLeaves, End::Trap] {
            // Many: it depended on which worker was faster. A trap ends all requests of an
            // instance.
            let number = if matches!((at_once, end), ("16", End::Trap)) { 1 } else { 8 };
            let uploads = try_join_all((0..number).map(|_| upload(&server, end))).await?;
            for got in uploads {
                let head = got.starts_with("POST / HTTP/1.1\r\n");
                assert!(head && got.contains("\r\n4\r\nhalf\r\n"), "{got}");
                assert!(!got.contains("\r\n0\r\n"), "{guest}, {at_once} at once, {end:?}: {got}");
            }
        }
        server.stop().await?;
    }
    Ok(())
}
