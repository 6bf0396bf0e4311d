//! Limit of the informational responses (1xx) to an outgoing request.
//!
//! hyper skips them all inside one poll, as long as the server has sent more. So their number is
//! counted where hyper tells each, and beyond the limit the stream fails.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use http::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most informational responses before the response. Servers send one or two.
const LIMIT: usize = 64;

/// Number of informational responses to the last request of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Informational(Arc<AtomicUsize>);

impl Informational {
    /// Counts the informational responses to `request`.
    pub(super) fn count<B>(&self, request: &mut Request<B>) {
        self.0.store(0, Ordering::Relaxed);
        let seen = self.0.clone();
        // Relaxed: the same task counts and reads.
        hyper::ext::on_informational(request, move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// A stream that fails after too many of them.
    pub(super) fn limit<S>(&self, stream: S) -> Limited<S> {
        Limited { stream, seen: self.clone() }
    }

    fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) <= LIMIT {
            return Ok(());
        }
        let what = format!("more than {LIMIT} informational responses to a request");
        Err(io::Error::new(io::ErrorKind::InvalidData, what))
    }
}

/// Stream of a connection.
#[derive(Debug)]
pub(super) struct Limited<S> {
    stream: S,
    seen: Informational,
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.seen.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Empty;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const HINT: &[u8] = b"HTTP/1.1 103 Early Hints\r\n\r\n";

    /// Status of the response to a request, if there is one.
    async fn ask(hints: usize) -> Result<u16, hyper::Error> {
        let (client, mut server) = duplex(64 << 10);
        let serving = async move {
            let mut head = [0; 1024];
            let _ = server.read(&mut head).await;
            for _ in 0..hints {
                if server.write_all(HINT).await.is_err() {
                    return;
                }
            }
            let _ = server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        };
        let asking = async move {
            let counted = Informational::default();
            let stream = TokioIo::new(counted.limit(client));
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            let mut request = Request::new(Empty::<Bytes>::new());
            counted.count(&mut request);
            let (response, _) = tokio::join!(sender.send_request(request), connection);
            Ok(response?.status().as_u16())
        };
        tokio::join!(serving, asking).1
    }

    #[tokio::test]
    async fn some_informational_responses_are_skipped() {
        assert_eq!(ask(LIMIT).await.unwrap(), 204);
    }

    #[tokio::test]
    async fn informational_responses_without_end_fail_the_request() {
        let asked = tokio::time::timeout(Duration::from_secs(20), ask(usize::MAX)).await;
        let error = asked.expect("the request goes on").unwrap_err();
        let said = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(said, "more than 64 informational responses to a request");
    }
}
