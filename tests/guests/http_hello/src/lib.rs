//! The guest `http_hello.wasm`, a component that answers every request with a short text by `wasi:http/incoming-handler`.
//! Run by the end-to-end tests and the benchmarks.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("nobody has taken it");
        ResponseOutparam::set(answer, Ok(response));
        let stream = body.write().expect("nobody has taken it");
        // Who has left does not hear it.
        let _ = stream.blocking_write_and_flush(b"Hello from wasm!\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

wasip2::http::proxy::export!(Hello);
