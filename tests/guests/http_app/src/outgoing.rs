//! Requests of the guest's own: `/get` and `/get-with-body`, whose answer is passed on, and `/post-half`, whose body has no end.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions,
    Scheme,
};

use crate::answer::Answer;
use crate::query::Query;
use crate::{Outcome, sleep};

pub(crate) fn get(query: &Query, answer: Answer) -> Outcome {
    let Some(request) = request(query.text("url")) else {
        return answer.status(400)?.text("not a URL\n");
    };
    match send(request, options(query)) {
        Ok(response) => pass_on(response, answer),
        Err(error) => answer.status(502)?.text(&format!("{error:?}\n")),
    }
}

/// Writes the body when the request is under way.
pub(crate) fn get_with_body(query: &Query, answer: Answer) -> Outcome {
    let request = request(query.text("url")).ok_or("not a URL")?;
    let body = request.body().map_err(|()| "the body was taken")?;
    let coming = handle(request, None)?;
    let stream = body.write().map_err(|()| "the stream was taken")?;
    stream.blocking_write_and_flush(b"query")?;
    drop(stream);
    OutgoingBody::finish(body, None)?;
    coming.subscribe().block();
    let response = coming.get().ok_or("no answer")?.map_err(|()| "the answer was taken")??;
    pass_on(response, answer)
}

/// Traps in the middle of the body.
pub(crate) fn post_half(query: &Query) -> Outcome {
    let request = request(query.text("url")).ok_or("not a URL")?;
    request.set_method(&Method::Post).map_err(|()| "not a method")?;
    let body = request.body().map_err(|()| "the body was taken")?;
    let stream = body.write().map_err(|()| "the stream was taken")?;
    let _coming = handle(request, None)?;
    stream.blocking_write_and_flush(b"half")?;
    sleep(query.number("ms", 0));
    core::arch::wasm32::unreachable()
}

/// How long the server is waited for: for as long as the host does, unless the query says it.
fn options(query: &Query) -> Option<RequestOptions> {
    let nanos = |name| query.text(name).parse::<u64>().ok().map(|millis| millis * 1_000_000);
    let options = RequestOptions::new();
    options.set_connect_timeout(nanos("connect-ms")).ok()?;
    options.set_first_byte_timeout(nanos("first-byte-ms")).ok()?;
    options.set_between_bytes_timeout(nanos("between-bytes-ms")).ok()?;
    Some(options)
}

fn send(
    request: OutgoingRequest,
    options: Option<RequestOptions>,
) -> Result<IncomingResponse, ErrorCode> {
    let coming = handle(request, options)?;
    coming.subscribe().block();
    let gone = || ErrorCode::InternalError(Some("the answer was taken".to_owned()));
    coming.get().ok_or_else(gone)?.map_err(|()| gone())?
}

fn pass_on(response: IncomingResponse, answer: Answer) -> Outcome {
    let body = response.consume().map_err(|()| "the body was taken")?;
    answer.status(response.status())?.begin()?.pass_on(body)
}

fn request(url: &str) -> Option<OutgoingRequest> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(authority)).ok()?;
    request.set_path_with_query(Some(path)).ok()?;
    Some(request)
}
