//! Body from a connection of hyper, with a limit for the time between its frames.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::Error;

use crate::turns::Steps;

/// Body of a request or a response. The peer may let its reader wait for `patience` at most.
pub(crate) struct TimedBody {
    incoming: Incoming,
    patience: Duration,
    /// Translation of hyper's errors.
    meaning: fn(hyper::Error) -> Error,
    /// Deadline of the next frame, set while the reader waits.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of a guest that has it copied by the host.
    steps: Steps,
    /// Absent when the body has arrived.
    arrival: Option<Box<dyn Arrival>>,
}

/// The arrival of a body. Dropped with a body that is given up before its end.
pub(crate) trait Arrival: Send + Sync {
    /// Takes note that the body is asked for.
    fn asked(&mut self);

    /// Takes note that the body has arrived wholly.
    fn complete(self: Box<Self>);
}

impl TimedBody {
    pub(crate) fn new(
        incoming: Incoming,
        patience: Duration,
        meaning: fn(hyper::Error) -> Error,
    ) -> Self {
        let steps = Steps::default();
        Self { incoming, patience, meaning, deadline: None, steps, arrival: None }
    }

    /// Tells of its arrival, if something wants to know of it.
    pub(crate) fn telling(mut self, arrival: Option<impl Arrival + 'static>) -> Self {
        self.arrival = arrival.map(|arrival| Box::new(arrival) as _);
        self
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = &mut *self;
        ready!(body.steps.poll_next(cx));
        if let Some(arrival) = &mut body.arrival {
            arrival.asked();
        }
        if let Poll::Ready(frame) = Pin::new(&mut body.incoming).poll_frame(cx) {
            // The next frame has the whole time again, from the poll that does not find it.
            body.deadline = None;
            body.steps.count(frame.as_ref().map_or(0, length));
            // A reader need not ask for what comes after the last byte of a declared length.
            let has_arrived = frame.is_none() || body.incoming.is_end_stream();
            if let Some(arrival) = body.arrival.take_if(|_| has_arrived) {
                arrival.complete();
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(body.meaning)));
        }
        // Made only when the reader has to wait: a body that is there needs no timer.
        let patience = body.patience;
        let deadline = body.deadline.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// Number of bytes of a frame.
fn length(frame: &Result<Frame<Bytes>, hyper::Error>) -> usize {
    frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len)
}
