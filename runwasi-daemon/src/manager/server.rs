//! The daemon's end of the manager API: decode, one call, encode. Protobuf messages end here.

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
    present,
    server::{Accept, ServeError},
};

use super::{
    Method, PROTOCOL, SERVICE,
    messages::{DeleteReply, ListReply, Request, SandboxReply, VersionReply},
    visitors::{Visitor, Visitors},
};
use crate::daemon::{Daemon, DaemonError};

/// Serves the manager API on one socket until it is dropped or stopped.
pub(crate) async fn serve(listener: UnixListener, daemon: Arc<Daemon>) -> Result<Server, ServeError> {
    let guests = Door { accept: Accept::new(listener)?, visitors: Visitors::default() };
    let mut server = Server::new().add_listener(Listener::new(guests)).register_service(services(&daemon));
    server.start().await.map_err(|error| ServeError::Ttrpc(error.to_string()))?;
    Ok(server)
}

/// Connections as they are let in.
struct Door {
    accept: Accept,
    visitors: Visitors,
}

impl Stream for Door {
    type Item = io::Result<Visitor>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let accepted = ready!(Pin::new(&mut self.accept).poll_next(cx));
        Poll::Ready(accepted.map(|stream| stream.map(|stream| self.visitors.welcome(stream))))
    }
}

fn services(daemon: &Arc<Daemon>) -> HashMap<String, Service> {
    let methods = Method::ALL.into_iter().map(|method| {
        let handler: Box<dyn MethodHandler + Send + Sync> = Box::new(Handler { method, daemon: daemon.clone() });
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
        let (daemon, payload) = (&self.daemon, frame.payload.as_slice());
        match self.method {
            Method::Create => reply(daemon.create(decode(payload)?).await.map(sandbox)),
            Method::Connect => reply(daemon.connect(&decode(payload)?).map(sandbox)),
            Method::Delete => reply(daemon.delete(&decode(payload)?).await.map(|ended| match ended {
                Some(ended) => DeleteReply { found: true, pid: ended.pid, exit_status: ended.status },
                None => DeleteReply::default(),
            })),
            Method::List => plain(payload).and_then(|()| reply(Ok(ListReply { sandboxes: daemon.list() }))),
            Method::Version => plain(payload).and_then(|()| reply(Ok(version()))),
            Method::Retire => {
                plain(payload)?;
                daemon.retire();
                reply(Ok(version()))
            }
        }
    }
}

fn sandbox((address, pid): (String, u32)) -> SandboxReply {
    SandboxReply { address, pid }
}

fn version() -> VersionReply {
    VersionReply { version: env!("CARGO_PKG_VERSION").to_owned(), protocol: PROTOCOL, pid: std::process::id() }
}

fn plain(payload: &[u8]) -> ttrpc::Result<()> {
    decode::<super::messages::Plain>(payload).map(drop)
}

fn decode<Q: Request>(payload: &[u8]) -> ttrpc::Result<Q> {
    let invalid = |error: prost::DecodeError| status(Code::INVALID_ARGUMENT, &error.to_string());
    let request = Q::decode(payload).map_err(invalid)?;
    match request.protocol() {
        PROTOCOL => Ok(request),
        other => Err(status(
            Code::FAILED_PRECONDITION,
            &format!(
                "manager protocol {other} is not spoken here, this daemon (version {}) speaks {PROTOCOL}: \
                 install daemon and shim of one version",
                env!("CARGO_PKG_VERSION")
            ),
        )),
    }
}

fn reply(answer: Result<impl Message, DaemonError>) -> ttrpc::Result<Response> {
    let payload = answer.map_err(|error| status(code(&error), &error.to_string()))?.encode_to_vec();
    let mut response = Response { payload, ..Response::default() };
    response.set_status(ttrpc::get_status(Code::OK, ""));
    Ok(response)
}

fn code(error: &DaemonError) -> Code {
    match error {
        DaemonError::Id(_) | DaemonError::Bundle { .. } => Code::INVALID_ARGUMENT,
        DaemonError::Bootstrap(_) | DaemonError::Network(_) | DaemonError::Record(_) | DaemonError::Sandbox(_) => {
            Code::UNKNOWN
        }
        DaemonError::Leaving => Code::UNAVAILABLE,
        DaemonError::Squatted { .. } => Code::ALREADY_EXISTS,
        DaemonError::NotFound { .. } => Code::NOT_FOUND,
        DaemonError::Lost { .. } => Code::INTERNAL,
    }
}

fn status(code: Code, text: &str) -> ttrpc::Error {
    ttrpc::Error::RpcStatus(ttrpc::get_status(code, present::text(text)))
}
