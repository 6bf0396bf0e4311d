//! One connection: a member of the container's group, from its acceptance to its end. Started by `mod`.
//!
//! Requests of HTTP/1 are handled within this very future, one turn in the fair queue each; those of HTTP/2 are members of their own.

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

/// Read at once, and at most the head of a request.
const BUFFER: usize = 64 << 10;
/// Requests of one client at once over HTTP/2.
const STREAMS: u32 = 128;
/// Their heads.
const HEADERS: u32 = 32 << 10;

/// How hyper serves.
pub(super) fn builder(spawner: Spawner) -> auto::Builder<Spawner> {
    let mut builder = auto::Builder::new(spawner);
    // Timeouts are ours: hyper's would make a timer for every request.
    builder.http1().header_read_timeout(None).max_buf_size(BUFFER);
    builder.http2().max_concurrent_streams(STREAMS).max_header_list_size(HEADERS);
    builder
}

/// Serves it until the client is done with it, keeps us waiting, or the server drains.
pub(super) async fn serve(
    serving: Arc<Serving>,
    builder: Arc<auto::Builder<Spawner>>,
    stream: TcpStream,
    mut drain: drain::Listener,
) {
    let settings = &serving.settings;
    let activity = Arc::new(Activity::new(settings.header_timeout, settings.idle_timeout));
    let answer = {
        let (serving, activity) = (serving.clone(), activity.clone());
        move |request| handler::answer(serving.clone(), activity.clone(), request)
    };
    let wire = Wire::new(stream, activity.clone());
    let mut connection = pin!(builder.serve_connection(wire, service_fn(answer)));
    let mut watch = Watch { activity: &activity, timer: None };
    let mut closing = false;
    poll_fn(|cx| {
        activity.turn_begins();
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    tracing::debug!(container = %serving.spec.container, error, "a connection ended badly");
                }
                return Poll::Ready(());
            }
            let draining = !closing && drain.poll(cx).is_ready();
            match watch.poll(cx) {
                Poll::Ready(Verdict::Drop) => return Poll::Ready(()),
                // It has been asked to leave, and has had its time.
                Poll::Ready(_) if closing => return Poll::Ready(()),
                Poll::Ready(_) => watch.look_again(Instant::now() + settings.header_timeout),
                Poll::Pending if draining => {}
                Poll::Pending => return Poll::Pending,
            }
            closing = true;
            // What it means for the connection shows when it is polled again.
            connection.as_mut().graceful_shutdown();
        }
    })
    .await;
}

/// Looks after a connection's [`Activity`] with one timer, which is set anew only when it has gone off.
struct Watch<'a> {
    activity: &'a Activity,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch<'_> {
    /// Ready when something is due; [`Verdict::LookAt`] is not among the answers.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
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
