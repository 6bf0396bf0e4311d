//! Requests that can be sent a second time, over another connection.
//!
//! A server may close an idle connection at any moment, also after a request was written to it.
//! Such a request is repeated if its method changes nothing (RFC 9110, 9.2.2) and its body has
//! given no bytes yet.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use runwasi_core::lock::Mutex;
use wasmtime_wasi_http::{Error, WasiBody};

/// Parts of a request that are needed to send it again.
pub(super) struct Again {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Returnable,
}

impl Again {
    /// Takes part in a request, if its method allows it.
    pub(super) fn of(request: Request<WasiBody>) -> (Request<WasiBody>, Option<Self>) {
        if !request.method().is_safe() {
            return (request, None);
        }
        let (head, body) = request.into_parts();
        let body = Returnable::new(body);
        let again = Self {
            method: head.method.clone(),
            uri: head.uri.clone(),
            headers: head.headers.clone(),
            body: body.clone(),
        };
        (Request::from_parts(head, body.boxed_unsync()), Some(again))
    }

    /// The request once more, unless something of its body is lost.
    pub(super) fn request(self) -> Option<Request<WasiBody>> {
        let mut request = Request::new(self.body.take()?);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        Some(request)
    }
}

/// A body that can be taken back as long as it has given nothing.
#[derive(Clone)]
struct Returnable(Arc<Mutex<State>>);

struct State {
    body: WasiBody,
    /// It has given a frame.
    given: bool,
    /// It must not be polled again.
    ended: bool,
}

impl Returnable {
    fn new(body: WasiBody) -> Self {
        let ended = body.is_end_stream();
        Self(Arc::new(Mutex::new(State { body, given: false, ended })))
    }

    fn take(self) -> Option<WasiBody> {
        let mut state = self.0.lock();
        let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
        match (state.given, state.ended) {
            (true, _) => None,
            (false, true) => Some(empty),
            (false, false) => Some(mem::replace(&mut state.body, empty)),
        }
    }
}

impl Body for Returnable {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.0.lock();
        let frame = ready!(Pin::new(&mut state.body).poll_frame(cx));
        match &frame {
            Some(_) => state.given = true,
            None => state.ended = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn request(method: Method, text: &'static str) -> Request<WasiBody> {
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(body);
        *request.method_mut() = method;
        request
    }

    #[tokio::test]
    async fn requests_are_repeated_as_long_as_nothing_of_their_body_is_lost() {
        assert!(Again::of(request(Method::POST, "")).1.is_none());
        let (unused, again) = Again::of(request(Method::GET, "text"));
        drop(unused);
        let repeated = again.unwrap().request().unwrap();
        assert_eq!(repeated.into_body().collect().await.unwrap().to_bytes(), "text");
        let (used, again) = Again::of(request(Method::GET, "text"));
        used.into_body().collect().await.unwrap();
        assert!(again.unwrap().request().is_none());
        let (used, again) = Again::of(request(Method::GET, ""));
        used.into_body().collect().await.unwrap();
        let repeated = again.unwrap().request().unwrap();
        assert!(repeated.into_body().collect().await.unwrap().to_bytes().is_empty());
    }
}
