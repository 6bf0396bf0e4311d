//! One request: admitted, given to a guest, answered. Called by hyper for every request of a connection.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};
use tracing::Level;

use super::{
    body::{GuestBody, ResponseBody},
    error::Failure,
    instances::Serving,
    request,
    request_body::RequestBody,
    ticket::{Busy, Call, Ticket},
    timeouts::Activity,
};

/// What the access log says of a request.
struct Access {
    method: Method,
    path: String,
    began: Instant,
}

impl Access {
    /// Nothing, unless somebody reads it.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let read = tracing::enabled!(Level::DEBUG);
        read.then(|| Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            began: Instant::now(),
        })
    }

    fn log(self, serving: &Serving, answer: Result<u16, Failure>) {
        let Self { method, path, began } = self;
        let status = answer.unwrap_or_else(|failure| failure.status().as_u16());
        let failure = answer.err().map(|failure| failure.to_string());
        let (container, duration) = (&serving.spec.container, began.elapsed());
        tracing::debug!(%container, %method, path, status, ?duration, failure, "request");
    }
}

/// Answers a request. What goes wrong becomes an answer, too.
pub(super) async fn answer(
    serving: Arc<Serving>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let busy = Busy::new(activity.clone(), request.version() == Version::HTTP_2);
    if activity.turn_is_over() {
        // Of a client that sends its requests all at once, one turn does not answer all.
        tokio::task::yield_now().await;
    }
    let access = Access::of(&request);
    let answer = handle(&serving, busy, request).await;
    if let Some(access) = access {
        let status = answer.as_ref().map(|response| response.status().as_u16());
        access.log(&serving, status.map_err(|failure| *failure));
    }
    Ok(answer.unwrap_or_else(failed))
}

async fn handle(
    serving: &Arc<Serving>,
    busy: Busy,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    request::check(&mut request, &serving.authority)?;
    let slot = serving.admit().await?;
    let ticket = Ticket::new(serving.clone(), slot, busy);
    let method = request.method().clone();
    let request = request.map(|body| RequestBody::new(body, serving.settings.idle_timeout));
    let (sender, mut head) = oneshot::channel();
    let mut call: Call = Box::pin(serving.clone().call(request, sender));
    let mut expiry = None;
    let (response, returned) = poll_fn(|cx| {
        let returned = call.as_mut().poll(cx);
        if let Poll::Ready(Err(failure)) = returned {
            return Poll::Ready(Err(failure));
        }
        // Sent from within the call only, hence never between this look and the next poll: nobody must be woken by it.
        match head.try_recv() {
            Ok(head) => Poll::Ready(head.map(|response| (response, returned.is_ready()))),
            Err(_) if returned.is_ready() => Poll::Ready(Err(Failure::Silent)),
            Err(_) => expired(&mut expiry, serving, cx).map(|()| Err(Failure::TimedOut)),
        }
    })
    .await?;
    if response.status().is_informational() {
        return Err(Failure::Status);
    }
    Ok(GuestBody::response(&method, response, (!returned).then_some(call), ticket))
}

/// Whether the guest has had its time. The timer is made when it is needed: most guests have answered before.
fn expired(
    expiry: &mut Option<Pin<Box<Sleep>>>,
    serving: &Serving,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let timeout = serving.settings.request_timeout;
    expiry.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx)
}

/// What the client is told instead of an answer.
fn failed(failure: Failure) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(format!("{failure}\n")));
    *response.status_mut() = failure.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
