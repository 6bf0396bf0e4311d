//! What a guest has written of a response when its call ends without a return: by a trap, an exit,
//! or a limit.
//!
//! A response may be complete by then, and its client gets it. The end of a store looks like the
//! end of each of its bodies, so this is found out while the store lives.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
use wasmtime::Store;
use wasmtime_wasi_http::WasiBody;

use super::error::Failure;
use crate::component::store::Component;

/// End of a call whose guest has not returned.
pub(super) struct Broken {
    pub(super) failure: Failure,
    /// Keeps what the guest has written until it is looked at: see [`Written`].
    pub(super) store: Option<Store<Component>>,
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self { failure, store: None }
    }
}

/// The rest of a body.
pub(super) struct Written {
    // As many as the guest may write ahead of its client.
    frames: Vec<Frame<Bytes>>,
    /// The guest has ended the body.
    pub(super) has_ended: bool,
}

impl Written {
    /// Takes what a body has at hand.
    pub(super) fn of(body: &mut WasiBody, cx: &mut Context<'_>) -> Self {
        let mut frames = Vec::new();
        loop {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frames.push(frame),
                end => return Self { frames, has_ended: matches!(end, Poll::Ready(None)) },
            }
        }
    }

    /// Number of bytes.
    fn bytes(&self) -> u64 {
        let lengths = self.frames.iter().filter_map(Frame::data_ref).map(Bytes::len);
        lengths.sum::<usize>() as u64
    }

    /// A body of what was written.
    pub(super) fn into_body(self) -> WasiBody {
        StreamBody::new(stream::iter(self.frames.into_iter().map(Ok))).boxed_unsync()
    }
}

/// The response, if all of it is written.
pub(super) fn whole(
    method: &Method,
    response: Response<WasiBody>,
    cx: &mut Context<'_>,
) -> Option<Response<WasiBody>> {
    let (head, mut body) = response.into_parts();
    let written = Written::of(&mut body, cx);
    let is_whole = is_bodiless(method, head.status)
        || written.has_ended
        || declared_length(&head.headers) == Some(written.bytes());
    is_whole.then(|| Response::from_parts(head, written.into_body()))
}

/// True if the head is all of a response, whatever the guest writes.
pub(super) fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures_util::StreamExt;
    use wasmtime_wasi_http::Error;

    use super::*;

    /// A response with a body of these bytes, which its guest has ended or not.
    fn response(text: &'static str, has_ended: bool) -> Response<WasiBody> {
        let frame = stream::iter([Ok::<_, Error>(Frame::data(Bytes::from(text)))]);
        let body = match has_ended {
            true => StreamBody::new(frame).boxed_unsync(),
            false => StreamBody::new(frame.chain(stream::pending())).boxed_unsync(),
        };
        Response::new(body)
    }

    fn is_whole(method: Method, response: Response<WasiBody>) -> bool {
        whole(&method, response, &mut Context::from_waker(Waker::noop())).is_some()
    }

    #[test]
    fn a_response_is_whole_by_its_end_its_length_or_its_head() {
        let with_length = |length: u64| {
            let mut response = response("abc", false);
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
            response
        };
        assert!(is_whole(Method::GET, response("abc", true)));
        assert!(!is_whole(Method::GET, response("abc", false)));
        assert!(is_whole(Method::GET, with_length(3)));
        assert!(!is_whole(Method::GET, with_length(4)));
        assert!(is_whole(Method::HEAD, with_length(4)));
        let mut empty = response("", false);
        *empty.status_mut() = StatusCode::NO_CONTENT;
        assert!(is_whole(Method::GET, empty));
    }

    #[tokio::test]
    async fn the_body_of_a_whole_response_is_what_was_written() {
        let whole = std::future::poll_fn(|cx| {
            Poll::Ready(whole(&Method::GET, response("abc", true), cx).unwrap())
        });
        assert_eq!(whole.await.into_body().collect().await.unwrap().to_bytes(), "abc");
    }
}
