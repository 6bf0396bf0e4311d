//! Body of a response to the client.
//!
//! The body of a guest's response carries the guest's call until the call has returned: polling the
//! body also polls the call. So a handler needs no future beside its connection's. A client that
//! does not read slows its guest down, and a client that disconnects ends it. The work of a guest
//! after its complete response continues as a member of the group.

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

/// Body of a response: a text of the server, or what the guest writes.
pub(super) enum ResponseBody {
    Text(Full<Bytes>),
    Guest(GuestBody),
}

/// Body of a guest's response.
pub(super) struct GuestBody {
    body: WasiBody,
    /// Call of the handler, until it has returned.
    call: Option<Call>,
    /// Bytes left to be sent, if the head declares a length.
    left: Option<u64>,
    /// The client gets the complete response, even if the guest ends now.
    complete: bool,
    /// Held until all work for the request is done.
    ticket: Option<Ticket>,
}

/// Error of a body that ends too early.
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
    /// Response with a body that drives `call`, unless the call has returned.
    pub(super) fn response(
        method: &Method,
        response: Response<WasiBody>,
        call: Option<Call>,
        ticket: Ticket,
    ) -> Response<ResponseBody> {
        let (head, body) = response.into_parts();
        let left = declared_length(&head.headers);
        // hyper sends no body with these, whatever the guest writes: the head completes them.
        let bodiless = *method == Method::HEAD
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let complete = bodiless || left == Some(0);
        let body = Self { body, call, left, complete, ticket: Some(ticket) };
        Response::from_parts(head, ResponseBody::Guest(body))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        // The call comes first: a frame that it writes in this poll is sent in this poll. Both
        // polls register the waker of this task, so progress of either continues the response.
        if let Some(call) = &mut self.call
            && let Poll::Ready(returned) = call.as_mut().poll(cx)
        {
            self.call = None;
            if returned.is_err() {
                // hyper aborts the message on an error: a client cannot take it for complete.
                return Poll::Ready(Some(Err(Cut::Failed)));
            }
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => {
                // hyper drops a body after its declared length and does not poll it to its end.
                if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                    self.complete |= *left == 0;
                }
                // Trailers are the last frame of a body.
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
            // hyper does not poll a body at its end, and only polls of the body run the call.
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
    /// Ends the guest, unless its response is complete.
    fn drop(&mut self) {
        // The client of an incomplete response is gone: dropping the call saves useless work. After
        // a complete response the guest may still have work of its own.
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
