//! Server of the manager API: decodes a request, makes one call to the daemon, encodes the reply.

use std::{
    collections::HashMap,
    io,
    os::unix::net::UnixListener,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use async_trait::async_trait;
use containerd_shim_protos::ttrpc::{
    self, Code, Request as Frame, Response,
    r#async::{MethodHandler, Server, Service, TtrpcContext, transport::Listener},
};
use futures_core::Stream;
use prost::Message;
use runwasi_core::{
    bootstrap::delete::Ended,
    sanitize,
    server::{Accept, ServeError},
    service::contained::contained,
};
use tokio::net::UnixStream;

use super::{
    Method, PROTOCOL, SERVICE,
    connections::{Connection, ConnectionLimit},
    messages::{DeleteReply, ListReply, Plain, Request, RetireRequest, SandboxReply, VersionReply},
};
use crate::{
    daemon::{Daemon, DaemonError},
    retirement::Retirement,
};

/// Serves the manager API on one socket until the server is dropped or stopped. At most `most`
/// clients are connected at the same time.
pub(crate) async fn serve(
    listener: UnixListener,
    daemon: Arc<Daemon>,
    most: usize,
) -> Result<Server, ServeError> {
    let connections = LimitedAccept {
        accept: Accept::new(listener)?,
        limit: ConnectionLimit::new(most),
        pending: None,
    };
    let mut server = Server::new()
        .add_listener(Listener::new(connections))
        .register_service(contained(services(&daemon)));
    server.start().await.map_err(|error| ServeError::Ttrpc(error.to_string()))?;
    Ok(server)
}

/// Accepted connections within the limit.
struct LimitedAccept {
    accept: Accept,
    limit: ConnectionLimit,
    /// Accepted, and waiting for a permit.
    pending: Option<UnixStream>,
}

impl Stream for LimitedAccept {
    type Item = io::Result<Connection>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { accept, limit, pending } = &mut *self;
        if pending.is_none() {
            match ready!(Pin::new(accept).poll_next(cx)) {
                Some(Ok(stream)) => *pending = Some(stream),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        // After the accept: without a new client there is no reason to evict another one. A
        // connection that waits here stays in `pending`.
        let permit = ready!(limit.poll_permit(cx));
        Poll::Ready(pending.take().map(|stream| Ok(limit.admit(stream, permit))))
    }
}

fn services(daemon: &Arc<Daemon>) -> HashMap<String, Service> {
    let methods = Method::ALL.into_iter().map(|method| {
        let handler: Box<dyn MethodHandler + Send + Sync> =
            Box::new(Handler { method, daemon: daemon.clone() });
        (method.name().to_owned(), handler)
    });
    let service = Service { methods: methods.collect(), streams: HashMap::new() };
    [(SERVICE.to_owned(), service)].into()
}

struct Handler {
    method: Method,
    daemon: Arc<Daemon>,
}

#[async_trait]
impl MethodHandler for Handler {
    async fn handler(&self, _: TtrpcContext, frame: Frame) -> ttrpc::Result<Response> {
        let answer = self.answer(frame.payload.as_slice()).await;
        // Not returned as an error: ttrpc would replace its code by `UNKNOWN`.
        let (status, payload) = match answer {
            Ok(payload) => (ttrpc::get_status(Code::OK, ""), payload),
            // Sanitized, since errors quote ids and paths of the request.
            Err(refusal) => {
                (ttrpc::get_status(refusal.code, sanitize::text(&refusal.text)), Vec::new())
            }
        };
        let mut response = Response { payload, ..Response::default() };
        response.set_status(status);
        Ok(response)
    }
}

/// Status of a request that failed.
struct Refusal {
    code: Code,
    text: String,
}

impl From<DaemonError> for Refusal {
    fn from(error: DaemonError) -> Self {
        Self { code: code(&error), text: error.to_string() }
    }
}

impl Handler {
    /// Calls the daemon and returns the encoded reply.
    async fn answer(&self, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let daemon = &self.daemon;
        Ok(match self.method {
            Method::Create => sandbox(daemon.create(self.decode(payload)?).await?).encode_to_vec(),
            Method::Delete => deleted(daemon.delete(&self.decode(payload)?).await?).encode_to_vec(),
            // Requests without arguments are decoded for their protocol number.
            Method::List => {
                self.decode::<Plain>(payload)?;
                ListReply { sandboxes: daemon.list() }.encode_to_vec()
            }
            Method::Version => {
                self.decode::<Plain>(payload)?;
                self.version().encode_to_vec()
            }
            Method::Retire => {
                let request: RetireRequest = self.decode(payload)?;
                daemon.retire(Retirement::of(request.drained));
                self.version().encode_to_vec()
            }
            Method::Status => daemon.status(&self.decode(payload)?).await.encode_to_vec(),
            Method::Containers => daemon.containers(&self.decode(payload)?).encode_to_vec(),
            Method::Events => daemon.events(&self.decode(payload)?).await.encode_to_vec(),
            Method::Reload => {
                self.decode::<Plain>(payload)?;
                daemon.reload().await?;
                self.version().encode_to_vec()
            }
            Method::Metrics => daemon.metrics(&self.decode(payload)?).await?.encode_to_vec(),
        })
    }

    /// The version of the daemon's program.
    fn version(&self) -> VersionReply {
        VersionReply {
            version: self.daemon.version().to_owned(),
            protocol: PROTOCOL,
            pid: std::process::id(),
        }
    }

    /// Decodes a request and checks its protocol number.
    fn decode<Q: Request>(&self, payload: &[u8]) -> Result<Q, Refusal> {
        let invalid = |error: prost::DecodeError| Refusal {
            code: Code::INVALID_ARGUMENT,
            text: error.to_string(),
        };
        let request = Q::decode(payload).map_err(invalid)?;
        match request.protocol() {
            PROTOCOL => Ok(request),
            other => Err(Refusal {
                code: Code::FAILED_PRECONDITION,
                text: format!(
                    "manager protocol {other} is not spoken here, \
                     this daemon (version {}) speaks {PROTOCOL}: \
                     install daemon and shim of one version",
                    self.daemon.version()
                ),
            }),
        }
    }
}

fn sandbox((address, pid): (String, u32)) -> SandboxReply {
    SandboxReply { address, pid }
}

fn deleted(ended: Option<Ended>) -> DeleteReply {
    let found =
        |ended: Ended| DeleteReply { found: true, pid: ended.pid, exit_status: ended.status };
    ended.map(found).unwrap_or_default()
}

/// The ttrpc code of an error.
fn code(error: &DaemonError) -> Code {
    match error {
        DaemonError::Id(_) | DaemonError::Bundle(_) => Code::INVALID_ARGUMENT,
        DaemonError::Bootstrap(_)
        | DaemonError::Network(_)
        | DaemonError::Record(_)
        | DaemonError::Sandbox(_) => Code::UNKNOWN,
        // The only code for which a client tries again: a successor may take the request.
        DaemonError::Leaving => Code::UNAVAILABLE,
        DaemonError::NoGuard | DaemonError::NotReloaded { .. } => Code::FAILED_PRECONDITION,
        DaemonError::Squatted { .. } => Code::ALREADY_EXISTS,
        DaemonError::Lost { .. } => Code::INTERNAL,
    }
}
