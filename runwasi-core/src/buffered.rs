//! Buffered reads of a connection.
//!
//! ttrpc reads the header of a message and then its payload, and finds that there is nothing more by
//! a third call: three system calls for a message that came in one piece. Here the first of them
//! takes all there is. What the reader has not asked for yet waits in memory, which a connection
//! without such a rest does not keep.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that is read in advance. Nearly all messages are shorter.
const CHUNK: usize = 4096;

/// A connection whose reads are buffered.
#[derive(Debug)]
pub(crate) struct Buffered<S> {
    stream: S,
    /// Bytes in advance of the reader. Empty most of the time.
    rest: Vec<u8>,
    /// Bytes of `rest` that the reader has got.
    taken: usize,
}

impl<S> Buffered<S> {
    /// A connection from which nothing was read yet.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, rest: Vec::new(), taken: 0 }
    }

    /// Gives the reader what fits of the rest.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let rest = self.rest.get(self.taken..).unwrap_or_default();
        let given = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..given).unwrap_or_default());
        self.taken += given;
        if self.taken == self.rest.len() {
            self.rest = Vec::new();
            self.taken = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Buffered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.rest.is_empty() {
            self.give(buf);
            return Poll::Ready(Ok(()));
        }
        if buf.remaining() >= CHUNK {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let mut chunk = [MaybeUninit::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut chunk))?;
        let (now, later) = chunk.filled().split_at(chunk.filled().len().min(buf.remaining()));
        buf.put_slice(now);
        // Allocates nothing if it is empty.
        self.rest = later.to_vec();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Buffered<S> {
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
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Counts the reads of a stream.
    struct Counted(tokio::io::DuplexStream, usize);

    impl AsyncRead for Counted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    #[tokio::test]
    async fn message_in_one_piece_is_read_by_one_call() {
        let (mut client, server) = tokio::io::duplex(CHUNK);
        let mut server = Buffered::new(Counted(server, 0));
        for length in [0_usize, 1, 100, 2000] {
            let calls = server.stream.1;
            let message: Vec<u8> = (0..10 + length).map(|n| n as u8).collect();
            client.write_all(&message).await.unwrap();
            let mut header = [0; 10];
            server.read_exact(&mut header).await.unwrap();
            let mut payload = vec![0; length];
            server.read_exact(&mut payload).await.unwrap();
            assert_eq!([&header[..], &payload].concat(), message);
            assert_eq!(server.stream.1, calls + 1, "{length}");
            assert_eq!((server.rest.capacity(), server.taken), (0, 0), "{length}");
        }
    }

    #[tokio::test]
    async fn bytes_keep_their_order_whatever_is_asked_for() {
        let (mut client, server) = tokio::io::duplex(3 * CHUNK);
        let mut server = Buffered::new(server);
        let sent: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let write = async move { client.write_all(&sent).await.unwrap() };
        let read = async {
            let mut got = Vec::new();
            for length in [1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 10, 2 * CHUNK].into_iter().cycle() {
                let mut part = vec![0; length.min(expected.len() - got.len())];
                server.read_exact(&mut part).await.unwrap();
                got.extend(part);
                if got.len() == expected.len() {
                    break;
                }
            }
            got
        };
        let ((), got) = tokio::join!(write, read);
        assert_eq!(got, expected);
        // The other end is gone.
        assert_eq!(server.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
