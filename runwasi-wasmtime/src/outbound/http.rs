//! Outgoing HTTP/1.1 requests.
//!
//! ```text
//!  guest ── send ──▶ member of the process's group:
//!    ▲                 look up ─▶ connect ─▶ TLS ─▶ send ─▶ drive the connection
//!    │                                               │        │ oneshot
//!    │                                       oneshot │        ▼
//!    └── response ◀──────────────────────────────────┘       `io` of the response
//! ```
//!
//! The library runs the future of [`send`], and later `io`, as tasks of its own. Such tasks are not
//! paused, metered or throttled with the guest. So these two only wait, and a member of the group
//! does the work. The member ends when the guest drops the pending request or the response, and at
//! the latest with the process.

use std::{error::Error as _, io, net::SocketAddr, time::Duration};

use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use runwasi_core::resources::descriptors;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    select,
    sync::oneshot,
    time::{Instant, timeout},
};
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{
    Outbound,
    informational::{Informational, Limited},
    resolver::LookupError,
    sockets, tls,
};
use crate::timed_body::TimedBody;

/// Default of each timeout of a request. The library has the same default.
const PATIENCE: Duration = Duration::from_secs(600);
/// Least time to connect to one of several addresses.
const PER_ADDRESS: Duration = Duration::from_secs(2);

/// Future with the outcome of the exchange, for the library.
type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = (Response<WasiBody>, Done);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        // The library's own implementation ignores it, too.
        _done: Done,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(send(self.clone(), request, options.unwrap_or_default()))
    }
}

/// Sends a request. Returns the head of the response, with a body that is yet to come.
async fn send(
    outbound: Outbound,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let (answer, answered) = oneshot::channel();
    let context = outbound.context.clone();
    context.spawn(serve(outbound, request, options, answer));
    // An error: the process is ending, and the member has been dropped with its group.
    answered.await.unwrap_or(Err(Error::ConnectionTerminated))
}

/// Runs a request as a member of the group, from the lookup to the end of the connection.
async fn serve(
    outbound: Outbound,
    request: Request<WasiBody>,
    options: RequestOptions,
    mut answer: oneshot::Sender<Result<Sent, Error>>,
) {
    // Not waited for: a guest that holds all its connections would wait for itself.
    let Ok(_permit) = outbound.access.connections.clone().try_acquire_owned() else {
        // Fails if the guest has dropped the request: it needs no answer then.
        let _ = answer.send(Err(Error::ConnectionLimitReached));
        return;
    };
    let mut held = outbound.descriptors.hold();
    if !held.add() || !descriptors::left_for_guests() {
        // The same.
        let _ = answer.send(Err(Error::ConnectionLimitReached));
        return;
    }
    let exchanged = select! {
        exchanged = exchange(&outbound, request, &options) => exchanged,
        // The guest has dropped the request. Returning closes the connection.
        () = answer.closed() => return,
    };
    let (response, connection) = match exchanged {
        Ok(exchanged) => exchanged,
        Err(error) => {
            tracing::debug!(%error, "an outgoing request has failed");
            // Fails if the guest has dropped the request.
            let _ = answer.send(Err(error));
            return;
        }
    };
    let (mut done, ended) = oneshot::channel();
    // An error: the connection has ended in `exchange` without a failure, or the process is ending.
    let io = async move { ended.await.unwrap_or(Ok(())) };
    if answer.send(Ok((response, Box::new(io)))).is_err() {
        return;
    }
    let Some(connection) = connection else { return };
    select! {
        // The body has the error if it is not complete. After a complete one it means nothing to
        // the guest. A failed send: the guest has dropped the response meanwhile.
        moved = connection => {
            if let Err(error) = moved {
                tracing::debug!(%error, "an outgoing connection has failed");
            }
            drop(done.send(Ok(())));
        }
        // The library drops `io` with the response: nothing is left to transfer.
        () = done.closed() => {}
    }
}

type Open = Connection<TokioIo<Limited<Box<dyn Stream>>>, WasiBody>;
type Exchanged = (Response<WasiBody>, Option<Open>);

/// Sends the request and receives the head. Returns the connection if it is still open.
async fn exchange(
    outbound: &Outbound,
    mut request: Request<WasiBody>,
    options: &RequestOptions,
) -> Result<Exchanged, Error> {
    let patience = options.connect_timeout.unwrap_or(PATIENCE);
    let opened = timeout(patience, open(outbound, request.uri(), patience)).await;
    let (mut sender, mut connection, informational) =
        opened.unwrap_or(Err(Error::ConnectionTimeout))?;
    informational.count(&mut request);
    // Only the path: the absolute form of a URI is meant for proxies. hyper sends what it is given.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() =
        Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut open = true;
    let head = async {
        let mut failure = None;
        let mut sending = std::pin::pin!(sender.send_request(request));
        loop {
            select! {
                biased;
                // A head counts that has arrived before the connection failed.
                head = &mut sending => {
                    return head.map_err(|error| meaning(failure.as_ref().unwrap_or(&error)));
                }
                // The connection moves its bytes only while it is polled. After its end it must not
                // be polled, while `sending` still has to return the head or its error.
                moved = &mut connection, if open => {
                    open = false;
                    failure = moved.err();
                }
            }
        }
    };
    let head = timeout(options.first_byte_timeout.unwrap_or(PATIENCE), head).await;
    let response = head.unwrap_or(Err(Error::ConnectionReadTimeout))?;
    let pause = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let response = response
        .map(|incoming| TimedBody::new(incoming, pause, |error| meaning(&error)).boxed_unsync());
    Ok((response, open.then_some(connection)))
}

/// Connects, with TLS if the scheme demands it.
async fn open(
    outbound: &Outbound,
    uri: &Uri,
    patience: Duration,
) -> Result<(SendRequest<WasiBody>, Open, Informational), Error> {
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = connect(outbound, host, port, patience).await?;
    // Else small pieces of a request wait until earlier ones are acknowledged (Nagle's algorithm).
    // A failure only makes the request slower, so it is ignored.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = if secure {
        // A URI has IPv6 addresses in brackets, rustls wants them without.
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| Error::HttpRequestUriInvalid)?;
        let connector = tls::connector().await?;
        Box::new(connector.connect(name, stream).await.map_err(|error| tls::meaning(&error))?)
    } else {
        Box::new(stream)
    };
    let informational = Informational::default();
    let io = TokioIo::new(informational.limit(stream));
    let (sender, connection) = http1::handshake(io).await.map_err(|error| meaning(&error))?;
    Ok((sender, connection, informational))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Tries one address after the other, each with its share of the time.
async fn connect(
    outbound: &Outbound,
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + patience;
    let found = outbound.resolver().look_up(host).await.map_err(unknown)?;
    // The policy checks addresses, not the name: see `policy` on DNS rebinding.
    let allowed = found
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
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
            Ok(Ok(stream)) => return Ok(stream),
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
