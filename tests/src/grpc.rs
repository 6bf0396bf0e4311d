//! One gRPC call to a containerd, with a deadline; used by `cri` and `records`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_prost::ProstCodec;
use tower::service_fn;

use crate::command::DEADLINE;

/// A client. Every call connects anew, so a containerd that was restarted in between is no special case.
#[derive(Debug)]
pub(crate) struct Client {
    socket: PathBuf,
    namespace: Option<String>,
    patience: Duration,
    runtime: Runtime,
}

impl Client {
    /// For the containerd at this gRPC socket; its own services want to know a namespace, its CRI does not.
    pub(crate) fn new(socket: &Path, namespace: Option<&str>) -> Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("no Tokio runtime")?;
        let namespace = namespace.map(str::to_owned);
        Ok(Self { socket: socket.to_owned(), namespace, patience: DEADLINE, runtime })
    }

    /// The same client with another deadline. A call that reaches it loses its connection, as that of a client that was killed.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Calls `/SERVICE/METHOD`.
    pub(crate) fn call<Q, A>(&self, service: &str, method: &str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let patience = self.patience;
        let answer =
            async { tokio::time::timeout(patience, self.answer(service, method, request)).await };
        let answer = self
            .runtime
            .block_on(answer)
            .with_context(|| format!("{method} hung for {patience:?}"))?;
        answer.with_context(|| format!("{method} failed"))
    }

    async fn answer<Q, A>(&self, service: &str, method: &str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut client = Grpc::new(self.connect().await?);
        client.ready().await?;
        let path = format!("/{service}/{method}").parse().ok().context("no path")?;
        let codec = ProstCodec::<Q, A>::default();
        let mut request = tonic::Request::new(request);
        if let Some(namespace) = &self.namespace {
            request.metadata_mut().insert("containerd-namespace", namespace.parse()?);
        }
        Ok(client.unary(request, path, codec).await?.into_inner())
    }

    async fn connect(&self) -> Result<Channel> {
        let socket = self.socket.clone();
        let connector = service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // HTTP wants a host, a Unix socket has none.
        let channel =
            Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        channel.with_context(|| format!("cannot connect to {}", self.socket.display()))
    }
}
