//! Outgoing HTTP/1.1 requests.
//!
//! ```text
//!  guest ── send ──▶ member of the process's group:
//!    ▲                 an idle connection, or look up ─▶ connect ─▶ TLS ─▶ send ─▶ drive it
//!    │                                               │        │ oneshot
//!    │                                       oneshot │        ▼
//!    └── response ◀──────────────────────────────────┘       `io` of the response
//! ```
//!
//! The library runs the future of [`send`], and later `io`, as tasks of its own. Such tasks are not
//! paused, metered or throttled with the guest. So these two only wait, and a member of the group
//! does the work. The member ends when the guest drops the pending request or the response. After a
//! complete response it goes on to drive the connection, which waits in the [`Pool`] for further
//! requests, for some seconds and at the latest until the end of the process.

use std::{error::Error as _, future::poll_fn, io, net::SocketAddr, pin::pin, time::Duration};

use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection},
};
use hyper_util::rt::TokioIo;
use runwasi_core::{
    resources::descriptors::{self, Held},
    traces::Span,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    select,
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{
    Outbound,
    again::Again,
    first_frame::with_body_in_chunks,
    informational::{Informational, Limited},
    pool::{self, Connected, Pool, ResponseId, Server},
    resolver::LookupError,
    sockets, tls,
};
use crate::{paced::Paced, timed_body::TimedBody, trace};

/// Default of each timeout of a request. The library has the same default.
const PATIENCE: Duration = Duration::from_secs(600);
/// Least time to connect to one of several addresses.
const PER_ADDRESS: Duration = Duration::from_secs(2);

/// Pause in which an idle connection that was given up ends.
const FREED: Duration = Duration::from_millis(5);

/// Writes of a p2 guest to a body that wait to be sent.
// A guest's library writes 4 KiB at a time and waits until all of it is taken. Hyper sends as many
// pieces by one system call.
const BODY_CHUNKS: usize = 16;
/// Largest piece of a body that a guest writes.
// One that the allocator has at hand: for larger ones it asks the kernel, whose pages then fault.
const BODY_CHUNK: usize = 64 << 10;

/// Future with the outcome of the exchange, for the library.
type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Exchange = (Response<WasiBody>, Done);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        // The library's own implementation ignores it, too.
        _done: Done,
    ) -> Box<dyn Future<Output = Result<Exchange, Error>> + Send> {
        let span = trace::of_outgoing(&mut request, self.parent.as_ref());
        let request = request.map(|body| self.ended.guard(body).boxed_unsync());
        Box::new(send(self.clone(), (request, span), options.unwrap_or_default()))
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_CHUNKS
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

/// Sends a request. Returns the head of the response, with a body that is yet to come.
async fn send(
    outbound: Outbound,
    request: (Request<WasiBody>, Span),
    options: RequestOptions,
) -> Result<Exchange, Error> {
    let (answer, answered) = oneshot::channel();
    let context = outbound.context.clone();
    context.spawn(serve(outbound, request, options, answer));
    // An error: the process is ending, and the member has been dropped with its group.
    answered.await.unwrap_or(Err(Error::ConnectionTerminated))
}

/// Runs a request as a member of the group, and then the connection that it has opened.
async fn serve(
    outbound: Outbound,
    (request, mut span): (Request<WasiBody>, Span),
    options: RequestOptions,
    mut answer: oneshot::Sender<Result<Exchange, Error>>,
) {
    let exchanged = select! {
        exchanged = exchange(&outbound, request, &options) => exchanged,
        // The guest has dropped the request. Returning closes a connection of its own.
        () = answer.closed() => return,
    };
    let (response, connected, opened) = match exchanged {
        Ok(exchanged) => exchanged,
        Err(error) => {
            tracing::debug!(%error, "an outgoing request has failed");
            span.fail(&error);
            // Fails if the guest has dropped the request.
            let _ = answer.send(Err(error));
            return;
        }
    };
    span.set_number("http.response.status_code", response.status().as_u16().into());
    drop(span);
    let id = connected.id();
    // Before the guest has the response, and so before its next request.
    let under_way = outbound.pool.keep(connected);
    let (done, ended) = oneshot::channel();
    // An error: the member has ended, and nothing is left to transfer.
    let io = async move { ended.await.unwrap_or(Ok(())) };
    if answer.send(Ok((response, Box::new(io)))).is_err() {
        outbound.pool.give_up(under_way);
        return;
    }
    let received = received(&outbound.pool, under_way, done);
    match opened {
        None => drop(received.await),
        Some(opened) => opened.drive(&outbound.pool, id, received).await,
    }
}

/// Waits until the response is complete. False if its connection is of no further use.
async fn received(
    pool: &Pool,
    response: ResponseId,
    mut done: oneshot::Sender<Result<(), Error>>,
) -> bool {
    let ready = select! {
        biased;
        ready = poll_fn(|cx| pool.poll_received(response, cx)) => ready,
        // The guest has dropped the response, of which something is left to transfer.
        () = done.closed() => {
            pool.give_up(response);
            false
        }
    };
    // The body has the error if it is not complete. A failed send: the guest has dropped the
    // response meanwhile.
    let _ = done.send(Ok(()));
    ready
}

type Driver = Connection<TokioIo<Limited<Box<dyn Stream>>>, WasiBody>;

/// A connection that this member has opened, with its shares of the container's limits.
struct Opened {
    /// Absent after its end.
    driver: Option<Driver>,
    _permit: OwnedSemaphorePermit,
    _held: Held,
}

impl Opened {
    /// Drives the connection until it ends or has been idle for too long. `received` is the wait
    /// for the first response.
    async fn drive(mut self, pool: &Pool, id: u64, received: impl Future<Output = bool>) {
        let mut received = pin!(received);
        let mut first = true;
        let mut look = pin!(sleep(pool::LONGEST));
        while let Some(driver) = &mut self.driver {
            select! {
                moved = driver => {
                    if let Err(error) = moved {
                        tracing::debug!(%error, "an outgoing connection has failed");
                    }
                    // Dropped, so that its sending side is closed.
                    self.driver = None;
                }
                kept = &mut received, if first => {
                    first = false;
                    if !kept {
                        return;
                    }
                }
                () = &mut look => match pool.next_look(id, Instant::now()) {
                    Some(next) => look.as_mut().reset(next),
                    None => return,
                },
            }
        }
        if first {
            received.await;
        }
    }
}

/// A response, its connection, and that again if this request has opened it.
type Exchanged = (Response<WasiBody>, Connected, Option<Opened>);

/// Sends the request and receives the head of the response.
async fn exchange(
    outbound: &Outbound,
    request: Request<WasiBody>,
    options: &RequestOptions,
) -> Result<Exchanged, Error> {
    if request.method() == Method::CONNECT {
        // A response to it is a tunnel, which no world of WASI has.
        return Err(Error::HttpRequestMethodInvalid);
    }
    let server = Server::of(request.uri())?;
    let mut request = with_body_in_chunks(request).await;
    // Only the path: the absolute form of a URI is meant for proxies. hyper sends what it is given.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() =
        Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    let first_byte = options.first_byte_timeout.unwrap_or(PATIENCE);
    let received = |response: Response<Incoming>| {
        let pause = options.between_bytes_timeout.unwrap_or(PATIENCE);
        response
            .map(|incoming| TimedBody::new(incoming, pause, |error| meaning(&error)).boxed_unsync())
    };
    let rules = &outbound.access.rules;
    while let Some(mut connected) = outbound.pool.take(&server, rules, Instant::now()) {
        let (mut repeatable, again) = Again::of(request);
        connected.informational.count(&mut repeatable);
        let sent = connected.sender.try_send_request(repeatable);
        match timeout(first_byte, sent).await.map_err(|_| Error::ConnectionReadTimeout)? {
            Ok(response) => return Ok((received(response), connected, None)),
            // The server has closed the connection meanwhile.
            Err(mut failed) => match failed.take_message().or_else(|| again?.request()) {
                Some(unsent) => request = unsent,
                None => return Err(meaning(failed.error())),
            },
        }
    }
    let patience = options.connect_timeout.unwrap_or(PATIENCE);
    let opened = timeout(patience, open(outbound, server, patience)).await;
    let (mut connected, mut opened) = opened.unwrap_or(Err(Error::ConnectionTimeout))?;
    connected.informational.count(&mut request);
    let head = head(&mut connected, &mut opened.driver, request);
    let head = timeout(first_byte, head).await;
    let response = head.unwrap_or(Err(Error::ConnectionReadTimeout))?;
    Ok((received(response), connected, Some(opened)))
}

/// Sends a request over a new connection, which moves only while this polls it.
async fn head(
    connected: &mut Connected,
    driver: &mut Option<Driver>,
    request: Request<WasiBody>,
) -> Result<Response<Incoming>, Error> {
    let mut failure = None;
    let mut sending = pin!(connected.sender.send_request(request));
    loop {
        let moving = async {
            match driver.as_mut() {
                Some(driver) => driver.await,
                // Ended: `sending` still has to return the head or its error.
                None => std::future::pending().await,
            }
        };
        select! {
            biased;
            // A head counts that has arrived before the connection failed.
            head = &mut sending => {
                return head.map_err(|error| meaning(failure.as_ref().unwrap_or(&error)));
            }
            moved = moving => {
                *driver = None;
                failure = moved.err();
            }
        }
    }
}

/// Connects, with TLS if the scheme demands it.
async fn open(
    outbound: &Outbound,
    server: Server,
    patience: Duration,
) -> Result<(Connected, Opened), Error> {
    let (permit, held) = shares(outbound).await?;
    let (stream, peer) = connect(outbound, &server, patience).await?;
    // Else small pieces of a request wait until earlier ones are acknowledged (Nagle's algorithm).
    // A failure only makes the request slower, so it is ignored.
    let _ = stream.set_nodelay(true);
    let stream = Paced::new(stream);
    let stream: Box<dyn Stream> = if server.secure {
        // A URI has IPv6 addresses in brackets, rustls wants them without.
        let name = server.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| Error::HttpRequestUriInvalid)?;
        let connector = outbound.access.trust.connector().await?;
        Box::new(connector.connect(name, stream).await.map_err(|error| tls::meaning(&error))?)
    } else {
        Box::new(stream)
    };
    let informational = Informational::default();
    let io = TokioIo::new(informational.limit(stream));
    let (sender, driver) = http1::handshake(io).await.map_err(|error| meaning(&error))?;
    let connected = outbound.pool.connected(server, peer, sender, informational);
    Ok((connected, Opened { driver: Some(driver), _permit: permit, _held: held }))
}

/// The shares of a connection in the limits of the container. Idle connections go first.
async fn shares(outbound: &Outbound) -> Result<(OwnedSemaphorePermit, Held), Error> {
    loop {
        let permit = outbound.access.connections.clone().try_acquire_owned();
        let mut held = outbound.descriptors.hold();
        if let Ok(permit) = permit
            && descriptors::left_for_guests()
            && held.add()
        {
            return Ok((permit, held));
        }
        // Not waited for if none is idle: a guest that holds all its connections would wait for
        // itself.
        if !outbound.pool.give_up_one() {
            return Err(Error::ConnectionLimitReached);
        }
        // The member that drives it frees its shares.
        sleep(FREED).await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Tries one address after the other, each with its share of the time.
async fn connect(
    outbound: &Outbound,
    server: &Server,
    patience: Duration,
) -> Result<(TcpStream, SocketAddr), Error> {
    let deadline = Instant::now() + patience;
    let found = outbound.resolver().look_up(&server.host).await.map_err(unknown)?;
    // The policy checks addresses, not the name: see `policy` on DNS rebinding.
    let allowed = found
        .into_iter()
        .map(|address| SocketAddr::new(address, server.port))
        .filter(|to| outbound.access.rules.allows(*to));
    let allowed: Vec<_> = allowed.collect();
    // Remains if the policy allows no address: a lookup never returns an empty list.
    let mut last = Error::DestinationIpProhibited;
    for (n, to) in allowed.iter().enumerate() {
        let rest = u32::try_from(allowed.len() - n).unwrap_or(u32::MAX);
        // One dead address must not use up the time of the others. The caller's timeout still
        // bounds the sum of the shares.
        let part = (deadline.saturating_duration_since(Instant::now()) / rest).max(PER_ADDRESS);
        let connecting = async { sockets::tcp(outbound.network(), *to)?.connect(*to).await };
        match timeout(part, connecting).await {
            Ok(Ok(stream)) => return Ok((stream, *to)),
            Ok(Err(error)) => last = unreachable(&error),
            Err(_) => last = Error::ConnectionTimeout,
        }
    }
    Err(last)
}

/// Translates the error of a lookup.
fn unknown(error: LookupError) -> Error {
    match error {
        LookupError::Denied => Error::HttpRequestDenied,
        LookupError::Invalid => Error::HttpRequestUriInvalid,
        LookupError::NoAddress => {
            Error::DnsError { rcode: Some("no such name, or no address".into()), info_code: None }
        }
        LookupError::Temporary => Error::DnsTimeout,
        LookupError::Permanent => {
            Error::DnsError { rcode: Some(error.to_string()), info_code: None }
        }
    }
}

/// Translates the error of a connect.
fn unreachable(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Error::DestinationIpUnroutable
        }
        // The kernel has given up first.
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => {
            tracing::debug!(%error, "no connection");
            Error::DestinationUnavailable
        }
    }
}

/// Translates an error of hyper.
fn meaning(error: &hyper::Error) -> Error {
    // Not the library's own translation: it logs a warning for whatever a server sends.
    if error.is_timeout() {
        return Error::HttpResponseTimeout;
    }
    if error.is_incomplete_message() {
        return Error::HttpResponseIncomplete;
    }
    // An error of the guest's own body, which hyper passes on as its source.
    if let Some(Error::HttpRequestBodySize(size)) =
        error.source().and_then(|source| source.downcast_ref())
    {
        return Error::HttpRequestBodySize(*size);
    }
    tracing::debug!(%error, "an outgoing request");
    // Too many informational responses.
    let failed = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    if failed.is_some_and(|failed| failed.kind() == io::ErrorKind::InvalidData) {
        return Error::HttpProtocolError;
    }
    if error.is_closed()
        || error.is_canceled()
        || error.source().is_some_and(|source| source.is::<io::Error>())
    {
        return Error::ConnectionTerminated;
    }
    Error::HttpProtocolError
}
