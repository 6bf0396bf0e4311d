//! A guest's own request as `wasmtime serve` sends it: by the library's default, without its TLS, which
//! no measured guest uses. The feature that has the default would build wasmtime a second time.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::net::TcpStream;
use tokio::time::{Interval, interval, timeout};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// Of each timeout, if the guest sets none.
const PATIENCE: Duration = Duration::from_secs(600);

pub(crate) type Done = Box<dyn Future<Output = Result<(), Error>> + Send>;
pub(crate) type Sent = (Response<WasiBody>, Done);

pub(crate) async fn send(
    mut request: Request<WasiBody>,
    options: Option<RequestOptions>,
) -> Result<Sent, Error> {
    let options = options.unwrap_or_default();
    let authority = request.uri().authority().ok_or(Error::HttpRequestUriInvalid)?;
    let address = match authority.port() {
        Some(_) => authority.to_string(),
        None => format!("{authority}:80"),
    };
    let connect = options.connect_timeout.unwrap_or(PATIENCE);
    let late = |_| Error::ConnectionTimeout;
    let stream = timeout(connect, TcpStream::connect(&address)).await.map_err(late)?;
    let stream = TokioIo::new(stream.map_err(Error::Connect)?);
    let handshake = timeout(connect, http1::Builder::new().handshake(stream)).await;
    let (mut sender, connection) = handshake.map_err(late)??;
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() =
        Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;
    let first_byte = options.first_byte_timeout.unwrap_or(PATIENCE);
    let between = options.between_bytes_timeout.unwrap_or(PATIENCE);
    let sending = async move {
        let sent = timeout(first_byte, sender.send_request(request)).await;
        let response = sent.map_err(|_| Error::ConnectionReadTimeout)??;
        let mut timeout = interval(between.max(Duration::from_nanos(1)));
        timeout.reset();
        Ok(response.map(|incoming| TimedBody { incoming, timeout }.boxed_unsync()))
    };
    let mut connection = Some(connection);
    let response = head(sending, &mut connection).await?;
    let done = async move {
        match connection {
            Some(connection) => connection.await.map_err(Error::from),
            None => Ok(()),
        }
    };
    Ok((response, Box::new(done)))
}

/// Drives the connection until the head of the response is there.
async fn head(
    sending: impl Future<Output = Result<Response<WasiBody>, Error>>,
    connection: &mut Option<impl Future<Output = Result<(), hyper::Error>> + Unpin>,
) -> Result<Response<WasiBody>, Error> {
    let mut sending = pin!(sending);
    poll_fn(|cx| {
        if let Poll::Ready(sent) = sending.as_mut().poll(cx) {
            return Poll::Ready(sent);
        }
        let Some(driven) = connection.as_mut() else { return Poll::Pending };
        let ended = ready!(Pin::new(driven).poll(cx));
        *connection = None;
        match ended {
            Ok(()) => sending.as_mut().poll(cx),
            Err(error) => Poll::Ready(Err(error.into())),
        }
    })
    .await
}

/// A response's body, with a timeout between its frames.
struct TimedBody {
    incoming: Incoming,
    timeout: Interval,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.timeout.reset();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Error::from))),
            Poll::Pending => {
                ready!(self.timeout.poll_tick(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
