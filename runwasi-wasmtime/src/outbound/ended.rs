//! Bodies of outgoing requests of a guest that is ended in the middle.
//!
//! The body of a guest ends when its sender is dropped, with the store at the latest, and looks
//! complete then: hyper would end the message, and a server take a part of an upload for all of it.
//! So the owner of a store holds a [`Running`], which it drops before the store. A body that ends
//! after that is an error, which ends the connection in the middle of the message.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::{Error, WasiBody};

/// The end of a guest, told to the bodies of its requests.
// Relaxed: it is set before the senders of the bodies are dropped, and read after a body has found
// its sender gone. The channel between them orders the two.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<AtomicBool>);

/// A guest that makes requests with bodies. To be dropped before its store.
#[must_use]
pub(crate) struct Running(Option<Ended>);

/// Body of a request, by a guest.
pub(super) struct BodyOf {
    body: WasiBody,
    ended: Ended,
}

impl Ended {
    pub(super) fn running(&self) -> Running {
        Running(Some(self.clone()))
    }

    pub(super) fn guard(&self, body: WasiBody) -> BodyOf {
        BodyOf { body, ended: self.clone() }
    }
}

impl Running {
    /// The guest has returned, and what it has left may go on by itself.
    pub(crate) fn returned(mut self) {
        self.0 = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(ended) = &self.0 {
            ended.0.store(true, Relaxed);
        }
    }
}

impl Body for BodyOf {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.ended.0.load(Relaxed) {
            // As for a body that its guest gives up.
            return Poll::Ready(Some(Err(Error::HttpProtocolError)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.ended.0.load(Relaxed)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    fn body_of(ended: &Ended) -> BodyOf {
        let text = Full::new(Bytes::from("text")).map_err(|never| match never {});
        ended.guard(text.boxed_unsync())
    }

    #[tokio::test]
    async fn a_body_is_complete_only_if_its_guest_was_not_ended_before() {
        let ended = Ended::default();
        let running = ended.running();
        assert_eq!(body_of(&ended).collect().await.unwrap().to_bytes(), "text");
        running.returned();
        assert_eq!(body_of(&ended).collect().await.unwrap().to_bytes(), "text");
        drop(ended.running());
        let mut body = body_of(&ended);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "text");
        assert!(!body.is_end_stream());
        assert!(body.frame().await.unwrap().is_err());
    }
}
