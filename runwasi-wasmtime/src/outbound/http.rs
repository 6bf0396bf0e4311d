//! Outgoing HTTP/1.1 requests.
//!
//! ```text
//!  guest ── send ──▶ a member of the process's group: look up ─▶ connect ─▶ TLS ─▶ send ─▶ move the connection's bytes
//!    ▲                 │ oneshot                                                             │ ends with it: the response's
//!    └── response ◀────┘                                                                     ▼ `io`, or whoever has dropped it
//! ```
//!
//! The library runs what it is given here, and later `io`, as tasks of its own, which nobody would pause, meter or throttle. So these
//! only wait; the work is a member of the group. It ends when the guest has dropped the response or the pending request, and with
//! the process at the latest.

use std::{
    error::Error as _,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    select,
    sync::oneshot,
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::rustls::pki_types::ServerName;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::{Outbound, resolver::LookupError, sockets, tls};

/// What the library waits if the guest says nothing.
const PATIENCE: Duration = Duration::from_secs(600);
/// The least that one of several addresses gets of the time to connect.
const PER_ADDRESS: Duration = Duration::from_secs(2);

type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = (Response<WasiBody>, Done);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _done: Done,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(send(self.clone(), request, options.unwrap_or_default()))
    }
}

/// Sends a request; the answer is the response's head, with a body that is yet to come.
async fn send(
    outbound: Outbound,
    request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let (answer, answered) = oneshot::channel();
    let context = outbound.context.clone();
    context.spawn(serve(outbound, request, options, answer));
    // An error: the process is ending.
    answered.await.unwrap_or(Err(Error::ConnectionTerminated))
}

/// The member of the group.
async fn serve(
    outbound: Outbound,
    request: Request<WasiBody>,
    options: RequestOptions,
    mut answer: oneshot::Sender<Result<Sent, Error>>,
) {
    let Ok(_permit) = outbound.access.connections.clone().try_acquire_owned() else {
        let _ = answer.send(Err(Error::ConnectionLimitReached));
        return;
    };
    let exchanged = select! {
        exchanged = exchange(&outbound, request, &options) => exchanged,
        // The guest waits for it no longer.
        () = answer.closed() => return,
    };
    let (response, connection) = match exchanged {
        Ok(exchanged) => exchanged,
        Err(error) => {
            tracing::debug!(%error, "an outgoing request has failed");
            let _ = answer.send(Err(error));
            return;
        }
    };
    let (mut done, ended) = oneshot::channel();
    let io = async move { ended.await.unwrap_or(Ok(())) };
    if answer.send(Ok((response, Box::new(io)))).is_err() {
        return;
    }
    let Some(connection) = connection else { return };
    select! {
        moved = connection => drop(done.send(moved.map_err(|error| meaning(&error)))),
        () = done.closed() => {}
    }
}

type Open = Connection<TokioIo<Box<dyn Stream>>, WasiBody>;
type Exchanged = (Response<WasiBody>, Option<Open>);

async fn exchange(
    outbound: &Outbound,
    mut request: Request<WasiBody>,
    options: &RequestOptions,
) -> Result<Exchanged, Error> {
    let patience = options.connect_timeout.unwrap_or(PATIENCE);
    let opened = timeout(patience, open(outbound, request.uri(), patience)).await;
    let (mut sender, mut connection) = opened.unwrap_or(Err(Error::ConnectionTimeout))?;
    // What is said to a server, not to a proxy.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() =
        Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    let mut open = true;
    let head = async {
        let mut sending = std::pin::pin!(sender.send_request(request));
        loop {
            select! {
                biased;
                head = &mut sending => return head.map_err(|error| meaning(&error)),
                moved = &mut connection, if open => {
                    open = false;
                    moved.map_err(|error| meaning(&error))?;
                }
            }
        }
    };
    let head = timeout(options.first_byte_timeout.unwrap_or(PATIENCE), head).await;
    let response = head.unwrap_or(Err(Error::ConnectionReadTimeout))?;
    let pause = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let response = response.map(|incoming| ResponseBody::new(incoming, pause).boxed_unsync());
    Ok((response, open.then_some(connection)))
}

async fn open(
    outbound: &Outbound,
    uri: &Uri,
    patience: Duration,
) -> Result<(SendRequest<WasiBody>, Open), Error> {
    let secure = uri.scheme() == Some(&Scheme::HTTPS);
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = connect(outbound, host, port, patience).await?;
    // A request is one small piece, and its answer is waited for.
    let _ = stream.set_nodelay(true);
    let stream: Box<dyn Stream> = if secure {
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(name).map_err(|_| Error::HttpRequestUriInvalid)?;
        let connector = tls::connector().await?;
        Box::new(connector.connect(name, stream).await.map_err(|error| tls::meaning(&error))?)
    } else {
        Box::new(stream)
    };
    http1::handshake(TokioIo::new(stream)).await.map_err(|error| meaning(&error))
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One address after the other, each with its part of the time. The policy is asked about addresses, not about the name.
async fn connect(
    outbound: &Outbound,
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + patience;
    let found = outbound.resolver().look_up(host).await.map_err(unknown)?;
    let allowed = found
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .filter(|to| outbound.access.rules.allows(*to));
    let allowed: Vec<_> = allowed.collect();
    let mut last = Error::DestinationIpProhibited;
    for (n, to) in allowed.iter().enumerate() {
        let rest = u32::try_from(allowed.len() - n).unwrap_or(u32::MAX);
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

fn unreachable(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Error::DestinationIpUnroutable
        }
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => {
            tracing::debug!(%error, "no connection");
            Error::DestinationUnavailable
        }
    }
}

/// The library's own translation writes a warning for whatever a server sends.
fn meaning(error: &hyper::Error) -> Error {
    if error.is_timeout() {
        return Error::HttpResponseTimeout;
    }
    if error.is_incomplete_message() {
        return Error::HttpResponseIncomplete;
    }
    if let Some(Error::HttpRequestBodySize(size)) =
        error.source().and_then(|source| source.downcast_ref())
    {
        return Error::HttpRequestBodySize(*size);
    }
    tracing::debug!(%error, "an outgoing request");
    if error.is_closed()
        || error.is_canceled()
        || error.source().is_some_and(|source| source.is::<io::Error>())
    {
        return Error::ConnectionTerminated;
    }
    Error::HttpProtocolError
}

/// A response's body, whose parts do not wait for ever.
struct ResponseBody {
    incoming: Incoming,
    pause: Duration,
    /// Until when the next part has to come; set by the first look for it.
    until: Option<Pin<Box<Sleep>>>,
}

impl ResponseBody {
    fn new(incoming: Incoming, pause: Duration) -> Self {
        Self { incoming, pause, until: None }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let body = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut body.incoming).poll_frame(cx) {
            body.until = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| meaning(&error))));
        }
        let pause = body.pause;
        let until = body.until.get_or_insert_with(|| Box::pin(sleep(pause)));
        until.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
