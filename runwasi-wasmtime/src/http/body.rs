//! The body of a response: what the client gets.
//!
//! It carries the guest's call as long as that has not returned: polling the one runs the other. So a handler
//! needs no future beside its connection's, a client that does not read slows its guest down, and one that goes away ends it. What a
//! guest still does when its response is complete goes on as a member of the group.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use wasmtime_wasi_http::{Error, WasiBody};

use super::ticket::{Call, Ticket};

/// What the client gets.
pub(super) enum ResponseBody {
    Text(Full<Bytes>),
    Guest(GuestBody),
}

/// Of a guest.
pub(super) struct GuestBody {
    body: WasiBody,
    /// Until it has returned.
    call: Option<Call>,
    /// How many bytes are left to be sent, if the head says it.
    left: Option<u64>,
    /// The client will have all of it.
    complete: bool,
    /// Given back when all is done.
    ticket: Option<Ticket>,
}

/// A body that ends too early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the handler failed in the middle of its response")]
    Failed,
    #[error("the body: {0}")]
    Body(Error),
}

impl ResponseBody {
    pub(super) fn text(text: String) -> Self {
        Self::Text(Full::new(text.into()))
    }
}

impl GuestBody {
    /// `call` is what is left of it, if anything.
    pub(super) fn response(
        method: &Method,
        response: Response<WasiBody>,
        call: Option<Call>,
        ticket: Ticket,
    ) -> Response<ResponseBody> {
        let (head, body) = response.into_parts();
        let left = declared_length(&head.headers);
        let bodiless = *method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let complete = bodiless || left == Some(0);
        let body = Self { body, call, left, complete, ticket: Some(ticket) };
        Response::from_parts(head, ResponseBody::Guest(body))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(call) = &mut self.call
            && let Poll::Ready(returned) = call.as_mut().poll(cx)
        {
            self.call = None;
            if returned.is_err() {
                return Poll::Ready(Some(Err(Cut::Failed)));
            }
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                    self.complete |= *left == 0;
                }
                self.complete |= frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(Cut::Body(error)))),
            None => {
                self.complete = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Guest(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::Guest(body) => body.call.is_none() && body.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::Guest(body) => body.body.size_hint(),
        }
    }
}

impl Drop for GuestBody {
    /// A response that is complete does not end its guest; one that nobody will get does.
    fn drop(&mut self) {
        if self.complete
            && let (Some(call), Some(ticket)) = (self.call.take(), self.ticket.take())
        {
            ticket.go_on(call);
        }
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
