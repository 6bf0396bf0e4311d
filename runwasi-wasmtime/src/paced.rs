//! I/O of the host in steps, which end the turn of the guest ([`crate::turns`]).
//!
//! For the ends of streams that another end in the host may follow without a yield, and for
//! connections: their peer may keep them ready for ever.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::turns::Steps;

/// An end of a stream or a connection whose reads and writes are steps.
pub(crate) struct Paced<S> {
    stream: S,
    steps: Steps,
}

impl<S: Unpin> Paced<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, steps: Steps::default() }
    }

    /// Makes a step, which returns its number of bytes.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        step: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.steps.poll_next(cx));
        let result = ready!(step(Pin::new(&mut self.stream), cx));
        self.steps.count(*result.as_ref().unwrap_or(&0));
        Poll::Ready(result)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.poll_step(cx, |stream, cx| {
            let before = buffer.filled().len();
            ready!(stream.poll_read(cx, buffer))?;
            Poll::Ready(Ok(buffer.filled().len() - before))
        });
        read.map_ok(drop)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_step(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_step(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{empty, repeat};

    use super::*;

    /// Calls until the turn ends.
    fn calls(mut call: impl FnMut(&mut Context<'_>) -> bool) -> usize {
        let mut context = Context::from_waker(Waker::noop());
        (0..1000).take_while(|_| call(&mut context)).count()
    }

    #[test]
    fn end_that_is_always_ready_ends_its_turn_and_goes_on() {
        let mut from = Paced::new(repeat(1));
        let mut to = Paced::new(empty());
        let mut bytes = [0; 8 << 10];
        for _ in 0..2 {
            let read = calls(|cx| {
                Pin::new(&mut from).poll_read(cx, &mut ReadBuf::new(&mut bytes)).is_ready()
            });
            let written = calls(|cx| Pin::new(&mut to).poll_write(cx, &bytes).is_ready());
            assert_eq!([read, written], [128, 128]);
        }
    }
}
