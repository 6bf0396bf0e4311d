//! Handling of one request: admission, the guest's call, and the response.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body, Incoming};
use runwasi_core::metrics::http as metrics;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep, timeout},
};
use tracing::Level;
use wasmtime_wasi_http::{Error, WasiBody};

use super::{
    body::{GuestBody, ResponseBody},
    error::Failure,
    guest::Head,
    instances::Serving,
    request,
    ticket::{Busy, Call, OwnCall, Ticket},
    timeouts::Activity,
    written::{self, Broken},
};
use crate::{timed_body::TimedBody, trace};

/// Fields of a request in the access log.
struct Access {
    method: Method,
    path: String,
}

impl Access {
    /// Fields of `request`, if the log has the debug level.
    fn of<B>(request: &Request<B>) -> Option<Self> {
        // The copies cost time in every request, so they are made only for a line that is written.
        let read = tracing::enabled!(Level::DEBUG);
        read.then(|| Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
        })
    }

    fn log(
        self,
        serving: &Serving,
        status: StatusCode,
        duration: Duration,
        failure: Option<&Failure>,
    ) {
        let Self { method, path } = self;
        let status = status.as_u16();
        let failure = failure.map(ToString::to_string);
        let container = &serving.spec.container;
        tracing::debug!(%container, %method, path, status, ?duration, failure, "request");
    }
}

/// Answers a request. A failure becomes a response, too.
pub(super) fn answer(
    serving: Arc<Serving>,
    activity: Arc<Activity>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
    // From here on the connection is busy: its timeouts must not fire while the request waits. Not
    // from the first poll on, before which hyper looks for the end of the client's data.
    let busy = Busy::new(activity.clone(), request.version() == Version::HTTP_2);
    answered_by(serving, activity, busy, request)
}

async fn answered_by(
    serving: Arc<Serving>,
    activity: Arc<Activity>,
    busy: Busy,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    serving.notes.count_request();
    if activity.turn_is_over() {
        // A client may send many requests at once. One turn must not answer them all: other guests
        // wait for theirs.
        tokio::task::yield_now().await;
    }
    let began = Instant::now();
    // hyper itself leaves out the body of an answer to HEAD for HTTP/1 alone.
    let is_bare = request.version() == Version::HTTP_2 && request.method() == Method::HEAD;
    let access = Access::of(&request);
    let mut span = trace::of_request(&mut request, &serving.spec);
    let answer = handle(&serving, &activity, busy, request).await;
    let status = match &answer {
        Ok(response) => response.status(),
        Err(failure) => {
            metrics::failed(failure.counted());
            span.fail(failure);
            failure.status()
        }
    };
    span.set_number("http.response.status_code", status.as_u16().into());
    // Ends at the head of the response, as the time in the metrics does.
    drop(span);
    let duration = began.elapsed();
    metrics::answered(status.as_u16(), duration);
    if let Some(access) = access {
        access.log(&serving, status, duration, answer.as_ref().err());
    }
    Ok(answer.unwrap_or_else(|failure| failed(failure, is_bare)))
}

async fn handle(
    serving: &Arc<Serving>,
    activity: &Arc<Activity>,
    busy: Busy,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    // Most requests have none. Before all that may fail: the client may go on sending then.
    let arriving = (!request.body().is_end_stream())
        .then(|| activity.body_arrives(request::keeps_body_back(&request)));
    // Checked first: a bad request is refused without waiting for a slot.
    request::check(&mut request, &serving.authority)?;
    let slot = serving.admit().await?;
    let ticket = Ticket::new(serving.clone(), slot.clone(), busy);
    let version = request.version();
    let method = request.method().clone();
    // A client that stops in the middle of its request is as idle as one between two requests.
    let patience = serving.settings.idle_timeout;
    let request = request.map(|body| TimedBody::new(body, patience, Error::from).telling(arriving));
    let request = Box::new(request);
    let time = serving.settings.request_timeout;
    // A failure drops the ticket, which frees the slot, after the call, which ends the guest.
    let (response, call) = match &serving.shared {
        Some(shared) => {
            let asked = timeout(time, serving.ask(shared, request)).await;
            let (response, place) = asked.unwrap_or(Err(Failure::TimedOut))?;
            (response, Some(Call::Shared(place)))
        }
        None => {
            let (sender, head) = oneshot::channel();
            let call = Box::pin(serving.clone().call(request, sender, slot));
            let (response, call) = answered(call, (&method, head), time).await?;
            (response, call.map(Call::Own))
        }
    };
    if response.status().is_informational() {
        // A guest has one response. After this one its client would wait for the final response.
        return Err(Failure::Status);
    }
    Ok(GuestBody::response((version, &method), response, call, ticket))
}

/// Drives the call until the guest has answered. Returns the response and the call, unless the call
/// has returned: it must not be polled again.
async fn answered(
    mut call: OwnCall,
    (method, mut head): (&Method, oneshot::Receiver<Head>),
    time: Duration,
) -> Result<(Response<WasiBody>, Option<OwnCall>), Failure> {
    let mut expiry: Option<Pin<Box<Sleep>>> = None;
    // Not spawned: the guest runs within this poll, in the same turn of the fair queue.
    let (response, returned) = poll_fn(|cx| {
        let returned = match call.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(Broken { failure, store })) => {
                let response =
                    head.try_recv().ok().and_then(Result::ok).filter(|_| store.is_some());
                let whole = response.and_then(|response| written::whole(method, response, cx));
                return Poll::Ready(whole.map(|response| (response, true)).ok_or(failure));
            }
            Poll::Pending => false,
        };
        // The head is sent only from within the call's poll, so never between this look and the
        // next poll. Hence no waker needs to be registered, and `try_recv` is enough.
        match head.try_recv() {
            Ok(head) => Poll::Ready(head.map(|response| (response, returned))),
            Err(_) if returned => Poll::Ready(Err(Failure::Silent)),
            // The timer is made when it is needed first: most guests have answered before.
            Err(_) => {
                let expiry = expiry.get_or_insert_with(|| Box::pin(sleep(time)));
                expiry.as_mut().poll(cx).map(|()| Err(Failure::TimedOut))
            }
        }
    })
    .await?;
    Ok((response, (!returned).then_some(call)))
}

/// Response to the client in place of the guest's. A bare one has no body.
fn failed(failure: Failure, is_bare: bool) -> Response<ResponseBody> {
    let text = if is_bare { String::new() } else { format!("{failure}\n") };
    let mut response = Response::new(ResponseBody::text(text));
    *response.status_mut() = failure.status();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if failure.status() == StatusCode::SERVICE_UNAVAILABLE {
        // Overload passes when other requests end: clients and proxies may try again.
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}
