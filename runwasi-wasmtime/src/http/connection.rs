//! One connection: a member of the container's group, from its acceptance to its end.
//!
//! Requests of HTTP/1 are handled within this future, one turn in the fair queue each. Requests of
//! HTTP/2 are members of their own.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep_until},
};

use super::{
    drain, handler,
    instances::{Serving, Spawner},
    io::Wire,
    timeouts::{Activity, Verdict},
};

/// Largest read, and largest head of an HTTP/1 request, in bytes.
const BUFFER: usize = 64 << 10;
/// Concurrent requests of one HTTP/2 connection.
const STREAMS: u32 = 128;
/// Largest head of an HTTP/2 request, in bytes.
const HEADERS: u32 = 32 << 10;

/// Settings of hyper, shared by all connections of a server.
pub(super) fn builder(spawner: Spawner) -> auto::Builder<Spawner> {
    let mut builder = auto::Builder::new(spawner);
    // `Activity` has the timeouts: hyper's would make a timer for every request.
    builder.http1().header_read_timeout(None).max_buf_size(BUFFER);
    builder.http2().max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
    builder
}

/// Serves a connection until the client ends it, a timeout is over, or the server drains.
pub(super) async fn serve(
    serving: Arc<Serving>,
    builder: Arc<auto::Builder<Spawner>>,
    stream: TcpStream,
    mut drain: drain::Listener,
) {
    let settings = &serving.settings;
    let activity = Arc::new(Activity::new(settings.header_timeout, settings.idle_timeout));
    let answer = {
        let serving = serving.clone();
        let activity = activity.clone();
        move |request| handler::answer(serving.clone(), activity.clone(), request)
    };
    let wire = Wire::new(stream, activity.clone());
    let mut connection = pin!(builder.serve_connection(wire, service_fn(answer)));
    let mut watch = Watch { activity: &activity, timer: None };
    let mut closing = false;
    poll_fn(|cx| {
        activity.turn_begins();
        loop {
            // Polled before the timeouts are looked at: the poll reads, writes and ends requests,
            // and so moves the deadlines.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    let container = &serving.spec.container;
                    tracing::debug!(%container, error, "a connection ended badly");
                }
                return Poll::Ready(());
            }
            // Looked at until it has begun: from then on the connection is closing.
            let draining = !closing && drain.poll(cx).is_ready();
            match watch.poll(cx) {
                Poll::Ready(Verdict::Drop) => return Poll::Ready(()),
                // The graceful shutdown began earlier, and its time is over.
                Poll::Ready(_) if closing => return Poll::Ready(()),
                // Idle for too long. A request that is on its way has the time of a head to come.
                Poll::Ready(_) => watch.look_again(Instant::now() + settings.header_timeout),
                Poll::Pending if draining => {}
                Poll::Pending => return Poll::Pending,
            }
            closing = true;
            // This only changes the connection's state. The next poll acts on it, hence the loop.
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Watches a connection's [`Activity`] with one timer.
struct Watch<'a> {
    activity: &'a Activity,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch<'_> {
    /// Ready when an action is due. Never returns [`Verdict::LookAt`].
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            // Reset only after it has fired: otherwise every request would set the timer.
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(cx));
            }
            match self.activity.verdict(Instant::now()) {
                Verdict::LookAt(at) => self.look_again(at),
                due => return Poll::Ready(due),
            }
        }
    }

    fn look_again(&mut self, at: Instant) {
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(at.into()),
            None => self.timer = Some(Box::pin(sleep_until(at.into()))),
        }
    }
}
