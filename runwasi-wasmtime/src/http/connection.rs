//! One connection: a member of the container's group, from its acceptance to its end.
//!
//! Requests of HTTP/1 are handled within this future, one turn in the fair queue each. Requests of
//! HTTP/2 are members of their own.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, Version, header};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use runwasi_core::{lock::Mutex, metrics::http as metrics};
use tokio::{
    net::TcpStream,
    time::{Sleep, sleep, sleep_until},
};

use super::{
    drain, handler,
    instances::Serving,
    io::Wire,
    rest,
    stream::Streams,
    timeouts::{Activity, GOODBYE, Verdict},
};

/// Largest read, and largest head of an HTTP/1 request, in bytes.
const BUFFER: usize = 64 << 10;
/// Concurrent requests of one HTTP/2 connection.
const STREAMS: u32 = 128;
/// Largest head of an HTTP/2 request, in bytes.
const HEADERS: u32 = 32 << 10;
/// Bytes of a stream of HTTP/2 that its client may send before a guest has taken any.
const WINDOW: u32 = 64 << 10;
/// The same of all streams of a connection.
// All that the streams may send: bodies of streams that wait for a slot must not keep those back
// of the streams that have one.
const WINDOWS: u32 = STREAMS * WINDOW;
/// Bytes of a stream of HTTP/2 that may wait for the socket before a further piece is taken.
// hyper's default is 400 KiB: 50 MiB of a container's limit for a client that reads nothing.
const UNSENT: usize = 64 << 10;
/// Time that an idle connection of a draining server stays open.
const LINGER: Duration = Duration::from_millis(250);

/// Settings of hyper, shared by all connections of a server.
pub(super) fn builder<E>(executor: E) -> auto::Builder<E> {
    let mut builder = auto::Builder::new(executor);
    // `Activity` has the timeouts: hyper's would make a timer for every request.
    builder.http1().header_read_timeout(None).max_buf_size(BUFFER);
    builder
        .http2()
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_send_buf_size(UNSENT);
    builder
}

/// Serves a connection until the client ends it, a timeout is over, or the server drains.
///
/// ```text
///         idle for too long, or the server drains            the next timeout
///   open ────────────────────────────────────────▶ closing ──────────────────▶ dropped
///     └──────────────── a head or a write takes too long ────────────────────────▲
/// ```
///
/// A closing connection finishes its requests and takes no further one. The drain finds an HTTP/1
/// connection idle when its response is over, unless the head of that has told of the close. When a
/// connection ends that is not dropped, the client may still be sending: see [`rest`].
pub(super) async fn serve(
    serving: Arc<Serving>,
    builder: Arc<auto::Builder<Streams>>,
    stream: TcpStream,
    drain: drain::Listener,
) {
    let _counted = metrics::connection();
    let settings = &serving.settings;
    let activity = Arc::new(Activity::new(settings.header_timeout, settings.idle_timeout));
    let socket = Arc::new(Mutex::new(stream));
    let _reset = rest::ResetIfOpenEnded(&socket, &activity);
    let wire = Wire::new(socket.clone(), activity.clone(), serving.spec.memory.clone());
    if !run(&serving, &builder, wire, &activity, drain).await {
        return;
    }
    if activity.is_open_ended() {
        rest::arrived(&socket).await;
    } else {
        rest::drop_rest(&socket, &activity).await;
    }
}

/// Runs a connection to its end. False if it is dropped before that.
async fn run(
    serving: &Arc<Serving>,
    builder: &auto::Builder<Streams>,
    wire: Wire,
    activity: &Arc<Activity>,
    drain: drain::Listener,
) -> bool {
    let answer = {
        let serving = serving.clone();
        let activity = activity.clone();
        let drain = drain.drain().clone();
        move |request: Request<Incoming>| {
            let version = request.version();
            let answered = handler::answer(serving.clone(), activity.clone(), request);
            with_close(answered, version, activity.clone(), drain.clone())
        }
    };
    let mut connection = pin!(builder.serve_connection(TokioIo::new(wire), service_fn(answer)));
    let watch = Watch { activity, timer: None };
    let mut end = End { watch, drain, linger: None, closing: false };
    poll_fn(|cx| {
        activity.turn_begins();
        loop {
            // Polled before the timeouts are looked at: the poll reads, writes and ends requests,
            // and so moves the deadlines.
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                match ended {
                    Ok(()) => activity.has_sent_all(),
                    Err(error) => {
                        let container = &serving.spec.container;
                        tracing::debug!(%container, error, "a connection ended badly");
                    }
                }
                return Poll::Ready(true);
            }
            match ready!(end.poll(cx)) {
                Ending::Drop => return Poll::Ready(false),
                // This only changes the connection's state. The next poll acts on it and registers
                // the wakers of what it waits for then, hence the loop. It turns once more at most:
                // `end` asks for a graceful end only once.
                Ending::Graceful => {
                    activity.ends_between_requests();
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    })
    .await
}

/// Tells of the close in the head of a response of HTTP/1, if no further request is taken.
async fn with_close<B>(
    answered: impl Future<Output = Result<Response<B>, Infallible>>,
    version: Version,
    activity: Arc<Activity>,
    drain: Arc<drain::Drain>,
) -> Result<Response<B>, Infallible> {
    let mut response = answered.await?;
    let closes = drain.has_begun() || activity.keeps_body_back();
    if closes && version != Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// The two ends that the server gives to a connection.
enum Ending {
    /// Finish the requests under way.
    Graceful,
    /// Drop at once.
    Drop,
}

/// Decides on the end of a connection: by its timeouts, and by the drain of the server.
struct End<'a> {
    watch: Watch<'a>,
    drain: drain::Listener,
    /// Made when the drain finds the connection idle.
    linger: Option<Pin<Box<Sleep>>>,
    /// A graceful end has begun.
    closing: bool,
}

impl End<'_> {
    /// True if a graceful end cuts no request that a draining server has still to answer.
    fn may_close(&mut self, cx: &mut Context<'_>) -> bool {
        let activity = self.watch.activity;
        if activity.is_idle() {
            // The client has not got the end of the last response.
            if activity.is_stalled() {
                return false;
            }
            // A client may have sent a request that has not arrived yet.
            let linger = self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
            return linger.as_mut().poll(cx).is_ready();
        }
        // HTTP/1: between its first byte and its end, hyper would drop the head of a request. After
        // the head of a response that does not tell of the close, the client may send a further
        // request. HTTP/2 names the last stream that is answered, and clients repeat later ones.
        activity.has_streams()
    }

    /// Ready when the connection has to end: with [`Ending::Graceful`] once, then with
    /// [`Ending::Drop`].
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        // Looked at until the connection is closing: then a drain asks for nothing more.
        let draining = !self.closing && self.drain.poll(cx).is_ready() && self.may_close(cx);
        match self.watch.poll(cx) {
            Poll::Ready(Verdict::Drop) => return Poll::Ready(Ending::Drop),
            // The graceful end began earlier, and its time is over.
            Poll::Ready(_) if self.closing => return Poll::Ready(Ending::Drop),
            // Idle for too long.
            Poll::Ready(_) => {}
            Poll::Pending if draining => {}
            Poll::Pending => return Poll::Pending,
        }
        self.watch.look_again(Instant::now() + GOODBYE);
        self.closing = true;
        Poll::Ready(Ending::Graceful)
    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use bytes::Bytes;
    use futures_util::{future::try_join_all, stream};
    use http::Response;
    use http_body::{Body, Frame};
    use http_body_util::{BodyExt, Empty, Full, StreamBody};
    use hyper::client::conn::http2;
    use hyper_util::rt::TokioExecutor;
    use tokio::{
        io::{duplex, join},
        sync::{Semaphore, oneshot},
        task::yield_now,
        time::timeout,
    };

    use super::*;

    const PIECE: usize = 16 << 10;
    const SOON: Duration = Duration::from_secs(10);

    /// A body without end, which counts its pieces.
    struct Endless(Arc<AtomicUsize>);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.fetch_add(1, Relaxed);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; PIECE])))))
        }
    }

    #[tokio::test]
    async fn a_stream_keeps_little_for_a_client_that_does_not_read() {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let answer = service_fn(move |_: Request<Incoming>| {
            let body = Endless(count.clone());
            async move { Ok::<_, Infallible>(Response::new(body)) }
        });
        let (near, far) = duplex(1024);
        let (_unread, silent) = duplex(1);
        let builder = builder(TokioExecutor::new());
        let server = builder.serve_connection(TokioIo::new(far), answer);
        let client = async {
            let mut client = http2::Builder::new(TokioExecutor::new());
            // The windows are no bound.
            client.initial_stream_window_size(1 << 30).initial_connection_window_size(1 << 30);
            let io = TokioIo::new(join(silent, near));
            let (mut sender, connection) = client.handshake(io).await.unwrap();
            let request = Request::get("http://a/").body(Empty::<Bytes>::new()).unwrap();
            tokio::join!(connection, sender.send_request(request))
        };
        let fills = async {
            while taken.load(Relaxed) * PIECE < UNSENT {
                yield_now().await;
            }
            for _ in 0..1000 {
                yield_now().await;
            }
        };
        tokio::select! {
            _ = server => panic!("the server has ended"),
            _ = client => panic!("the client has ended"),
            filled = timeout(SOON, fills) => filled.unwrap(),
        }
        // One piece waits, and others are on their way.
        assert!(taken.load(Relaxed) * PIECE <= UNSENT + 4 * PIECE, "{taken:?}");
    }

    #[tokio::test]
    async fn bodies_of_streams_that_wait_do_not_keep_back_those_that_are_read() {
        const REQUESTS: usize = 60;
        const AT_ONCE: usize = 2;
        // More than a window in all, and of each stream.
        const BODY: usize = 100 << 10;
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        let begun = Arc::new(AtomicUsize::new(0));
        let count = begun.clone();
        let answer = service_fn(move |request: Request<Incoming>| {
            count.fetch_add(1, Relaxed);
            let slots = slots.clone();
            async move {
                let _slot = slots.acquire().await.unwrap();
                let body = request.into_body().collect().await?.to_bytes();
                Ok::<_, hyper::Error>(Response::new(Full::new(body)))
            }
        });
        let (near, far) = duplex(1 << 20);
        let builder = builder(TokioExecutor::new());
        let server = builder.serve_connection(TokioIo::new(far), answer);
        let client = http2::Builder::new(TokioExecutor::new());
        let (mut sender, connection) = client.handshake(TokioIo::new(near)).await.unwrap();
        let (bodies, answers): (Vec<_>, Vec<_>) = (0..REQUESTS)
            .map(|_| {
                let (body, bytes) = oneshot::channel();
                let frame = async { Ok::<_, Infallible>(Frame::data(bytes.await.unwrap())) };
                let frames = StreamBody::new(Box::pin(stream::once(frame)));
                (body, sender.send_request(Request::post("http://a/").body(frames).unwrap()))
            })
            .unzip();
        let all = async {
            while begun.load(Relaxed) < REQUESTS {
                yield_now().await;
            }
            // The last streams, which wait for a slot, send first.
            for body in bodies.into_iter().rev() {
                body.send(Bytes::from(vec![0; BODY])).unwrap();
                yield_now().await;
            }
        };
        let answered = async {
            let (_, answers) = tokio::join!(all, try_join_all(answers));
            for answer in answers.unwrap() {
                assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), BODY);
            }
        };
        tokio::select! {
            _ = server => panic!("the server has ended"),
            _ = connection => panic!("the client has ended"),
            answered = timeout(SOON, answered) => answered.expect("streams wait for each other"),
        }
    }
}
