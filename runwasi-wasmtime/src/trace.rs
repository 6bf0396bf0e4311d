//! Spans of HTTP requests, to a guest and of a guest, by the names of OpenTelemetry.
//!
//! ```text
//! client ── traceparent ──▶ span of the request ── its traceparent ──▶ guest
//! guest ── that, or another traceparent, or none ──▶ span of the outgoing request ──▶ server
//! ```
//!
//! Without a tracer requests are passed on as they are.

use http::{Method, Request, Uri};
use runwasi_core::{
    InstanceSpec,
    traces::{Kind, Span, context::SpanContext, is_on},
};

/// Begins the span of a request to a guest, and names it in the request's header fields.
pub(crate) fn of_request<B>(request: &mut Request<B>, spec: &InstanceSpec) -> Span {
    if !is_on() {
        return Span::default();
    }
    let parent = SpanContext::of_headers(request.headers());
    let mut span = begin(request, Kind::Server, parent.as_ref());
    span.set_text("url.scheme", "http");
    span.set_text("url.path", request.uri().path());
    span.set_text("container.id", spec.container.as_str());
    span
}

/// Begins the span of a guest's request, and names it in the request's header fields. It is a part
/// of the span that these name, else of `current`.
pub(crate) fn of_outgoing<B>(request: &mut Request<B>, current: Option<&SpanContext>) -> Span {
    if !is_on() {
        return Span::default();
    }
    let named = SpanContext::of_headers(request.headers());
    let mut span = begin(request, Kind::Client, named.as_ref().or(current));
    span.set_text("server.address", request.uri().host().unwrap_or_default());
    if let Some(port) = request.uri().port_u16() {
        span.set_number("server.port", port.into());
    }
    span.set_text("url.full", &without_query(request.uri()));
    span
}

/// The context that a request's header fields name, if it matters.
pub(crate) fn current<B>(request: &Request<B>) -> Option<SpanContext> {
    if is_on() { SpanContext::of_headers(request.headers()) } else { None }
}

fn begin<B>(request: &mut Request<B>, kind: Kind, parent: Option<&SpanContext>) -> Span {
    let method = method(request.method());
    let mut span = Span::begin(method, kind, parent);
    span.set_text("http.request.method", method);
    if let Some(context) = span.context() {
        context.write_to(request.headers_mut());
    }
    span
}

/// The name of a method, one of a few.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}

/// A URI without its query, which may have secrets.
fn without_query(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("http");
    // Without user and password.
    let host = uri.host().unwrap_or_default();
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_uri_are_left_out() {
        let uri = |uri: &'static str| without_query(&Uri::from_static(uri));
        assert_eq!(uri("https://me:secret@host:8/a?token=b"), "https://host:8/a");
        assert_eq!(uri("http://[::1]/"), "http://[::1]/");
    }

    #[test]
    fn without_a_tracer_requests_stay_as_they_are() {
        let mut request = Request::builder().header("traceparent", "x").body(()).unwrap();
        let span = of_outgoing(&mut request, None);
        assert!(span.context().is_none() && current(&request).is_none());
        assert_eq!(request.headers()["traceparent"], "x");
    }

    #[test]
    fn methods_have_few_names() {
        let wild = Method::from_bytes(b"WILD").unwrap();
        assert_eq!((method(&Method::GET), method(&wild)), ("GET", "_OTHER"));
    }
}
