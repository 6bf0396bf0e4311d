//! Body of a response to the client.
//!
//! The body of a guest's response carries the guest's call until the call has returned: polling the
//! body also polls the call. So a handler needs no future beside its connection's. A client that
//! does not read slows its guest down, and a client that disconnects ends it. The work of a guest
//! after its complete response continues as a member of the group.
//!
//! A body that ends too early ends its connection. At such an error hyper drops what it has not
//! written yet, perhaps even the head. So the error is held back until all that the guest has
//! written is on its way. A stream of HTTP/2 is reset without a wait for the socket, which other
//! streams may stall. A client of HTTP/1.0 may know the end of a body by that of its connection
//! alone: there it gets a reset ([`super::rest`]).

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{
    stream,
    ticket::{Call, Ticket},
    written::{Written, declared_length, is_bodiless},
};

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
    /// The client gets the complete response, even if the guest ends now: hyper has got its last
    /// frame, or takes no frame at all.
    complete: bool,
    /// The head is all that the client may get, and hyper is to be told so.
    is_bare: bool,
    /// The call has failed. What it has written before is still sent.
    failed: bool,
    /// Early end that is held back.
    cut: Option<Cut>,
    /// Held until all work for the request is done.
    ticket: Option<Ticket>,
}

/// Error of a body that ends too early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    #[error("the handler failed in the middle of its response")]
    Failed,
    #[error("the body is {0} bytes shorter than its declared length")]
    Short(u64),
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
        (version, method): (Version, &Method),
        response: Response<WasiBody>,
        call: Option<Call>,
        ticket: Ticket,
    ) -> Response<ResponseBody> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::NO_CONTENT {
            // RFC 9110, section 8.6. Clients of HTTP/2 take the response for a cut one.
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let left = declared_length(&head.headers);
        // hyper knows that for HTTP/1 alone.
        let bodiless = is_bodiless(method, head.status);
        let complete = bodiless || left == Some(0);
        let is_bare = bodiless && ticket.is_http2();
        if version == Version::HTTP_10 && !bodiless && left.is_none() {
            ticket.begins_open_ended();
        }
        let ticket = Some(ticket);
        let body = Self { body, call, left, complete, is_bare, failed: false, cut: None, ticket };
        Response::from_parts(head, ResponseBody::Guest(body))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.cut.is_some() {
            return self.release();
        }
        // The call comes first: a frame that it writes in this poll is sent in this poll. Both
        // polls register the waker of this task, so progress of either continues the response.
        self.drive(cx);
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        // After the poll: a shared instance is marked as failed before its end, which ends the
        // body.
        self.failed |= self.has_lost_its_instance();
        let cut = match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.complete |= self.is_last(&frame);
                return Poll::Ready(Some(Ok(frame)));
            }
            // Nothing more is owed. HTTP/2 asks all the same.
            Poll::Ready(_) | Poll::Pending if self.complete && self.failed => {
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(_))) | Poll::Ready(None) | Poll::Pending if self.failed => {
                Cut::Failed
            }
            Poll::Ready(Some(Err(error))) => Cut::Body(error),
            Poll::Ready(None) => match self.left {
                Some(left @ 1..) if !self.complete => Cut::Short(left),
                _ => {
                    self.complete = true;
                    return Poll::Ready(None);
                }
            },
            Poll::Pending => return Poll::Pending,
        };
        self.cut = Some(cut);
        // hyper writes what it has after this poll, and polls again.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ends the message with the error that is held back. hyper aborts it: a client cannot take it
    /// for complete.
    fn release(&mut self) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if self.ticket.as_ref().is_some_and(Ticket::holds_ends) {
            // The socket wakes this task when the client has taken something.
            return Poll::Pending;
        }
        Poll::Ready(self.cut.take().map(Err))
    }

    /// True if the instance that the request shares with others has failed.
    fn has_lost_its_instance(&self) -> bool {
        matches!(&self.call, Some(Call::Shared(place)) if place.has_failed())
    }

    /// Polls the call in an instance of its own, unless it has returned.
    fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(Call::Own(call)) = &mut self.call else { return };
        let Poll::Ready(returned) = call.as_mut().poll(cx) else { return };
        // It must not be polled again.
        self.call = None;
        if let Err(broken) = returned {
            let written = Written::of(&mut self.body, cx);
            self.failed = !written.has_ended || broken.store.is_none();
            self.body = written.into_body();
        }
    }

    /// Counts the bytes of a frame. True if hyper needs no further frame.
    fn is_last(&mut self, frame: &Frame<Bytes>) -> bool {
        // hyper drops a body after its declared length and does not poll it to its end.
        if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
            *left = left.saturating_sub(data.len() as u64);
            return *left == 0;
        }
        frame.is_trailers()
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let polled = match self.get_mut() {
            Self::Text(text) => Pin::new(text).poll_frame(cx).map_err(|never| match never {}),
            Self::Guest(body) => body.poll(cx),
        };
        let data = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(|data| !data.is_empty());
        stream::polled(matches!(&polled, Poll::Ready(Some(Ok(frame))) if data(frame)));
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            // hyper does not poll a body at its end, and only polls of the body run the call.
            // A bare one is dropped at once, and its call goes on.
            Self::Guest(body) => {
                let has_ended =
                    || !matches!(body.call, Some(Call::Own(_))) && body.body.is_end_stream();
                body.is_bare || has_ended()
            }
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
        // Incomplete: the client is gone, or the guest or its body has failed. The fields are
        // dropped in their order, so the guest has ended when the ticket frees its slot.
        if !self.complete {
            return;
        }
        // Complete: hyper may drop the body before its end, while the guest still has work of its
        // own. Without a call the guest has returned, and the ticket is dropped here.
        if let (Some(Call::Own(call)), Some(ticket)) = (self.call.take(), self.ticket.take()) {
            ticket.go_on(call);
        }
    }
}
