//! Bodies of outgoing requests whose method usually has none.
//!
//! hyper leaves out a body of GET, HEAD and CONNECT whose length it does not know, without a word:
//! most bodies of such requests are empty, and not every server takes chunks there. So the first
//! frame is waited for. With data the body is sent in chunks.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, Request, header};
use http_body::{Body, Frame};
use http_body_util::{BodyDataStream, BodyExt, Empty, StreamBody};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, WasiBody};

/// Time for the first frame. Guests end a body that they do not use at once, but some do so only
/// after the response.
const PATIENCE: Duration = Duration::from_millis(20);

/// The request with a body that hyper sends, if there is one. A body that has begun too late is
/// dropped: the guest's writes to it fail.
pub(super) async fn with_body_in_chunks(mut request: Request<WasiBody>) -> Request<WasiBody> {
    let is_usual = !matches!(*request.method(), Method::GET | Method::HEAD);
    let is_told = request.headers().contains_key(header::CONTENT_LENGTH);
    if is_usual || is_told || request.body().is_end_stream() {
        return request;
    }
    let first = timeout(PATIENCE, request.body_mut().frame()).await;
    match first.ok().flatten() {
        Some(first) => {
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(header::TRANSFER_ENCODING, chunked);
            request.map(|rest| after(first, rest))
        }
        None => request.map(|_| Empty::new().map_err(|never| match never {}).boxed_unsync()),
    }
}

fn after(first: Result<Frame<Bytes>, Error>, rest: WasiBody) -> WasiBody {
    let rest = BodyDataStream::new(rest).map(|data| data.map(Frame::data));
    StreamBody::new(stream::iter([first]).chain(rest)).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const FRAMES: [&str; 2] = ["ab", "c"];

    fn request(method: Method, body: WasiBody) -> Request<WasiBody> {
        Request::builder().method(method).body(body).unwrap()
    }

    fn frames() -> WasiBody {
        let frames = FRAMES.map(|text| Ok(Frame::data(Bytes::from(text))));
        StreamBody::new(stream::iter(frames)).boxed_unsync()
    }

    async fn sent(request: Request<WasiBody>) -> (bool, Bytes) {
        let request = with_body_in_chunks(request).await;
        let chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        (chunked, request.into_body().collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn a_body_of_a_get_is_sent_in_chunks_and_an_absent_one_not() {
        assert_eq!(sent(request(Method::GET, frames())).await, (true, "abc".into()));
        let none = StreamBody::new(stream::iter([])).boxed_unsync();
        assert_eq!(sent(request(Method::GET, none)).await, (false, "".into()));
        let late = stream::once(pending::<Result<Frame<Bytes>, Error>>());
        let late = request(Method::GET, StreamBody::new(late).boxed_unsync());
        assert_eq!(sent(late).await, (false, "".into()));
    }

    #[tokio::test]
    async fn bodies_that_hyper_sends_anyway_are_left_alone() {
        assert_eq!(sent(request(Method::POST, frames())).await, (false, "abc".into()));
        let mut told = request(Method::GET, frames());
        told.headers_mut().insert(header::CONTENT_LENGTH, 3.into());
        assert_eq!(sent(told).await, (false, "abc".into()));
    }
}
