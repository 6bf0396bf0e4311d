//! One request: admitted, given to a guest, answered. Called by hyper for every request of a connection.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Sleep, sleep, timeout},
};
use tracing::Level;
use wasmtime_wasi_http::WasiBody;

use super::{
    body::{Call, GuestBody, RequestBody, ResponseBody},
    error::Failure,
    instances::Serving,
    request,
    timeouts::Activity,
};

/// The head of a guest's response, as the guest's call hands it over.
pub(super) type Head = Result<Response<WasiBody>, Failure>;

/// What a request holds until all of it is done.
pub(super) struct Ticket {
    serving: Arc<Serving>,
    /// One of the requests that may be worked on at once.
    _slot: OwnedSemaphorePermit,
    _busy: Busy,
}

/// Says that the connection has a request.
struct Busy(Arc<Activity>);

impl Ticket {
    /// The client has all it gets, the guest goes on: in the group, for as long as it might have taken for the response.
    pub(super) fn go_on(self, call: Call) {
        let Self { serving, _slot, _busy } = self;
        let patience = serving.settings.request_timeout;
        serving.spawner.clone().spawn(async move {
            if timeout(patience, call).await.is_err() {
                tracing::debug!("a guest was ended that did not return after its response");
            }
            drop(_slot);
        });
    }
}

impl Busy {
    fn new(activity: Arc<Activity>, http2: bool) -> Self {
        activity.request_begins(http2);
        Self(activity)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

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
    Ok(answer.unwrap_or_else(Failure::response))
}

async fn handle(
    serving: &Arc<Serving>,
    busy: Busy,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Failure> {
    request::check(&mut request, &serving.authority)?;
    let slot = serving.admit().await?;
    let ticket = Ticket { serving: serving.clone(), _slot: slot, _busy: busy };
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
fn expired(expiry: &mut Option<Pin<Box<Sleep>>>, serving: &Serving, cx: &mut Context<'_>) -> Poll<()> {
    let timeout = serving.settings.request_timeout;
    expiry.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx)
}
