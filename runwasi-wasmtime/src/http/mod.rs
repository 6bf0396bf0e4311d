//! A component that answers HTTP: `wasi:http/incoming-handler` of WASI p2 or `wasi:http/handler` of p3.
//!
//! ```text
//!             accepts                hyper                  Call                 wasmtime
//!   Server ─────────────▶ connection ──────▶ handler ────────────────▶ instances ─────────▶ guest
//!     ▲                        │  ▲            │ a slot, an instance        │
//!     │ drain                  │  └─ body ◀────┘ head, then the body        │
//!   signal                     └─ timeouts: idle, head, busy                └─ context_pool
//! ```
//!
//! Everything here is polled in the container's group of futures: the server's `run` accepts, each connection is a member, and so is
//! each stream of HTTP/2. Hence pause, kill, metering and the CPU limit hold for a server as for a command. A request of HTTP/1 that
//! a guest answers without waiting costs one turn in the fair queue.
//!
//! | module | one thing |
//! |---|---|
//! | `settings` | annotations: where it listens, limits, timeouts |
//! | `drain` | the polite end: stop accepting, finish, leave |
//! | `connection` | one connection, from its acceptance to its end |
//! | `timeouts`, `io` | what a connection is doing, and until when it may |
//! | `handler` | one request: admitted, given to a guest, answered |
//! | `request` | what must be true of it |
//! | `request_body`, `body` | what the client sends, what it gets; the second drives the guest |
//! | `ticket` | what a request holds until all of it is done |
//! | `instances` | from a request to an instance |
//! | `guest` | the two worlds |
//! | `context_pool` | WASI contexts, used again |
//! | `error` | what a client is told instead of an answer |

mod body;
mod connection;
mod context_pool;
mod drain;
mod error;
mod guest;
mod handler;
mod instances;
mod io;
mod request;
mod request_body;
mod settings;
mod ticket;
mod timeouts;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use runwasi_core::{
    EngineError, ExitStatus, GuestContext, InstanceSpec, artifact::Program, network::Network,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use wasmtime::component::InstancePre;

use self::{
    drain::Drain,
    guest::Guest,
    instances::{Serving, Spawner},
    settings::Settings,
};
use crate::{
    component::store::{Component, Imports},
    epoch::Ticker,
    outbound::NetworkAccess,
    start::{failed_start, ready_if_long},
};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long nobody is accepted when the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// A container that serves.
pub(crate) struct Server {
    guest: Arc<Guest>,
    settings: Settings,
    access: Arc<NetworkAccess>,
    drain: Arc<Drain>,
}

impl Server {
    /// Of a component that exports `wasi:http/incoming-handler`.
    pub(crate) fn p2(
        pre: InstancePre<Component>,
        program: &Program,
        spec: &InstanceSpec,
        access: Arc<NetworkAccess>,
    ) -> Result<Self, EngineError> {
        Self::new(Guest::p2(pre), program, spec, access)
    }

    /// Of one that exports `wasi:http/handler`.
    pub(crate) fn p3(
        pre: InstancePre<Component>,
        program: &Program,
        spec: &InstanceSpec,
        access: Arc<NetworkAccess>,
    ) -> Result<Self, EngineError> {
        Self::new(Guest::p3(pre), program, spec, access)
    }

    fn new(
        guest: wasmtime::Result<Guest>,
        program: &Program,
        spec: &InstanceSpec,
        access: Arc<NetworkAccess>,
    ) -> Result<Self, EngineError> {
        let invalid = |error| EngineError::Invalid {
            path: program.path.clone(),
            reason: format!("{error:#}"),
        };
        let guest = Arc::new(guest.map_err(invalid)?);
        Ok(Self { guest, settings: Settings::new(spec)?, access, drain: Arc::default() })
    }

    /// Begins the polite end: [`Server::run`] returns when the requests under way are done.
    pub(crate) fn stop(&self) {
        self.drain.begin();
    }

    /// Serves until it is stopped. Ready when it listens and an instance has been seen to begin.
    pub(crate) async fn run(
        &self,
        spec: &InstanceSpec,
        ticker: Arc<Ticker>,
        context: &GuestContext,
    ) -> Result<ExitStatus, EngineError> {
        let settings = &self.settings;
        let listener = listen(&spec.network, settings.address)?;
        let imports = Imports::begin(spec, &self.access, context).await?;
        let mut store = Component::store(self.guest.engine(), spec, imports.clone())?;
        let begun = timeout(
            settings.request_timeout,
            ready_if_long(context, self.guest.instantiate(&mut store)),
        )
        .await;
        match begun {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return failed_start(error, spec).await,
            Err(_) => {
                return Err(EngineError::Failed(
                    "an instance takes longer to begin than a request may take".into(),
                ));
            }
        }
        context.ready();
        let spawner = Spawner::new(context.clone(), ticker);
        let serving = Serving::new(
            spec.clone(),
            settings.clone(),
            spawner.clone(),
            self.guest.clone(),
            store,
            imports,
        );
        tracing::info!(container = %spec.container, address = %settings.address, "serves HTTP");
        self.accept(listener, Arc::new(serving), spawner).await;
        tracing::info!(container = %spec.container, "has served its last request");
        Ok(ExitStatus::SUCCESS)
    }

    /// Gives every connection a future of its own, until the server drains; then waits for them.
    async fn accept(&self, listener: TcpListener, serving: Arc<Serving>, spawner: Spawner) {
        let most = self.settings.max_connections;
        let connections = Arc::new(Semaphore::new(most as usize));
        let builder = Arc::new(connection::builder(spawner.clone()));
        let mut drain = self.drain.listener();
        loop {
            let next = async {
                // Who is one too many waits in the backlog. Nobody closes the semaphore.
                let place = connections.clone().acquire_owned().await.ok();
                (place, accepted(&listener).await)
            };
            let (place, stream) = tokio::select! {
                next = next => next,
                () = self.guest.tidy() => continue,
                () = drain.begun() => break,
            };
            let connection =
                connection::serve(serving.clone(), builder.clone(), stream, self.drain.listener());
            spawner.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        // Clients that come now are told so by the system.
        drop(listener);
        let _ = connections.acquire_many(most).await;
        serving.idle().await;
        self.guest.forget_kept();
    }
}

fn listen(network: &Network, address: SocketAddr) -> Result<TcpListener, EngineError> {
    let open = || -> std::io::Result<TcpListener> {
        // The socket belongs to the network it is made in, wherever it is used.
        let socket = network.run(move || {
            if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
        })??;
        // A server that is started again need not wait for the connections of the one before it.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| EngineError::Failed(format!("listen on {address}: {error}")))
}

/// The next client.
async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Responses are written whole: waiting for more only delays them. It cannot fail on a TCP socket.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            // The client's connection was gone before it was accepted; or there is no file descriptor, and one must be given back.
            Err(error) if is_clients(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "no client can be accepted for now");
                sleep(PAUSE).await;
            }
        }
    }
}

fn is_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
