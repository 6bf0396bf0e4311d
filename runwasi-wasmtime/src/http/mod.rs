//! A component that answers HTTP: `wasi:http/incoming-handler` of WASI p2 or `wasi:http/handler` of
//! p3.
//!
//! ```text
//!             accepts                hyper                  Call                 wasmtime
//!   Server ─────────────▶ connection ──────▶ handler ────────────────▶ instances ─────────▶ guest
//!     ▲                        │  ▲            │ a slot, an instance        │
//!     │ drain                  │  └─ body ◀────┘ head, then the body        │
//!   signal                     └─ timeouts: idle, head, busy                └─ context_pool
//! ```
//!
//! Everything here is polled in the container's group of futures: the server's `run` accepts, each
//! connection is a member, and so is each stream of HTTP/2. Hence pause, kill, metering and the CPU
//! limit hold for a server as for a command. A request of HTTP/1 that a guest answers without
//! waiting costs one turn in the fair queue.
//!
//! | module | one thing |
//! |---|---|
//! | `settings` | annotations: listening address, limits, timeouts |
//! | `drain` | graceful end: stop accepting, finish, leave |
//! | `connection` | one connection, from its acceptance to its end |
//! | `timeouts`, `io`, `preface` | activity of a connection, and its deadlines |
//! | `rest` | rest of what a client sends when its connection has ended |
//! | `stream` | one stream of HTTP/2, and the deadline of its client's windows |
//! | `handler` | one request: admission, the guest's call, response |
//! | `request` | checks of a request |
//! | `body`, `written` | body of a response, which drives the guest; that of a guest that has not returned |
//! | `ticket` | resources of a request until all its work is done |
//! | `instances` | from a request to an instance |
//! | `shared`, `concurrent` | instances that serve several requests at once, and the way to them |
//! | `further` | instances beyond the slots of the engine's pool |
//! | `guest` | the two worlds |
//! | `context_pool` | reuse of WASI contexts |
//! | `error` | failures, and their status for the client |

mod body;
mod concurrent;
mod connection;
mod context_pool;
mod drain;
mod error;
mod further;
mod guest;
mod handler;
mod instances;
mod io;
mod preface;
mod request;
mod rest;
mod settings;
mod shared;
mod stream;
mod ticket;
mod timeouts;
mod written;

use std::{net::SocketAddr, sync::Arc, task::Poll, time::Duration};

use runwasi_core::{
    EngineError, ExitStatus, GuestContext, InstanceSpec,
    artifact::Program,
    network::Network,
    resources::descriptors::{self, Descriptors, Held},
    sys,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::coop::unconstrained,
    time::{sleep, timeout},
};
use wasmtime::component::InstancePre;

use self::{
    drain::Drain,
    guest::Guest,
    instances::{Serving, Spawner},
    settings::Settings,
    stream::Streams,
};
pub(crate) use self::{further::Further, settings::check_annotations};
use crate::{
    component::store::{Component, Imports},
    epoch::Ticker,
    outbound::NetworkAccess,
    shares::Shares,
    start::{failed_start, ready_if_long},
};

/// Time for handshakes that are under way when a drain begins.
const HANDSHAKE: Duration = Duration::from_millis(50);
/// Connections that wait to be accepted. The kernel's `net.core.somaxconn` is a further limit.
const BACKLOG: u32 = 1024;
/// Pause of accepting when the system has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Server of a container.
pub(crate) struct Server {
    guest: Arc<Guest>,
    settings: Settings,
    access: Arc<NetworkAccess>,
    drain: Arc<Drain>,
}

impl Server {
    /// Server of a component that exports `wasi:http/incoming-handler`.
    pub(crate) fn p2(
        pre: InstancePre<Component>,
        program: &Program,
        spec: &InstanceSpec,
        access: Arc<NetworkAccess>,
    ) -> Result<Self, EngineError> {
        Self::new(Guest::p2(pre), program, spec, access)
    }

    /// Server of a component that exports `wasi:http/handler`.
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

    /// Begins the drain: [`Server::run`] returns when the requests under way are done.
    pub(crate) fn stop(&self) {
        self.drain.begin();
    }

    /// Serves until it is stopped. Reports ready when it listens and an instance has been made.
    /// `further`: the room for instances beyond the shares.
    pub(crate) async fn run(
        &self,
        spec: &InstanceSpec,
        ticker: Arc<Ticker>,
        context: &GuestContext,
        (shares, further): (&Shares, Option<Further>),
    ) -> Result<ExitStatus, EngineError> {
        let settings = &self.settings;
        // Clients that connect while the first instance is made wait in the backlog.
        let listener = listen(&spec.network, settings.address)?;
        let imports = Imports::begin(spec, &self.access, context, shares).await?;
        let mut store = Component::store(self.guest.engine(), spec, imports.clone())?;
        // One instance before any request: a component that cannot begin fails the start of its
        // container and not each of its requests.
        let begun = timeout(
            settings.request_timeout,
            ready_if_long(context, self.guest.instantiate(&mut store)),
        )
        .await;
        match begun {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                return failed_start(store.data().explain(error), spec, context).await;
            }
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
            (self.guest.clone(), further),
            store,
            imports,
        );
        tracing::info!(container = %spec.container, address = %settings.address, "serves HTTP");
        self.accept(listener, Arc::new(serving), spawner, &shares.descriptors).await;
        tracing::info!(container = %spec.container, "has served its last request");
        Ok(ExitStatus::SUCCESS)
    }

    /// Serves every connection in a future of its own until the server drains, then waits for all.
    async fn accept(
        &self,
        listener: TcpListener,
        serving: Arc<Serving>,
        spawner: Spawner,
        descriptors: &Arc<Descriptors>,
    ) {
        let most = self.settings.max_connections;
        let connections = Arc::new(Semaphore::new(most as usize));
        let streams = Streams::new(spawner.clone(), self.settings.idle_timeout);
        let builder = Arc::new(connection::builder(streams));
        let mut closing = Box::pin(closing(self.drain.listener(), &listener));
        let serve = |place: (Option<OwnedSemaphorePermit>, Held), stream| {
            let connection =
                connection::serve(serving.clone(), builder.clone(), stream, self.drain.listener());
            spawner.spawn(async move {
                connection.await;
                // The place is free only when the connection has ended.
                drop(place);
            });
        };
        loop {
            let next = async {
                // The place comes first: a connection beyond the limit waits in the backlog. `ok`
                // hides no error: the semaphore is never closed.
                let place = connections.clone().acquire_owned().await.ok();
                let held = descriptor(descriptors).await;
                ((place, held), accepted(&listener).await)
            };
            // A drain loses no connection: `next` is either complete or has not accepted.
            let (place, stream) = tokio::select! {
                next = next => next,
                // Never ends. It is polled here because this future lives as long as the server.
                () = self.guest.tidy() => continue,
                () = &mut closing => break,
            };
            serve(place, stream);
        }
        // Clients in the backlog count as connected.
        for _ in 0..BACKLOG {
            let place = connections.clone().acquire_owned().await.ok();
            let held = descriptor(descriptors).await;
            let Some(stream) = waiting(&listener).await else { break };
            serve((place, held), stream);
        }
        // It borrows the listener.
        drop(closing);
        // From here on the kernel refuses clients.
        drop(listener);
        // All places are free when all connections have ended. The semaphore is never closed.
        let _ = connections.acquire_many(most).await;
        // A guest may go on after its response, and so after its connection.
        serving.idle().await;
        // The server itself may live longer than its last request: waiting instances must not.
        serving.end().await;
    }
}

fn listen(network: &Network, address: SocketAddr) -> Result<TcpListener, EngineError> {
    let open = || -> std::io::Result<TcpListener> {
        // A socket belongs to the network namespace it is made in, whichever thread uses it.
        let socket = network.run(move || {
            if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
        })??;
        // A restarted server need not wait for connections of its predecessor in `TIME_WAIT`.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    open().map_err(|error| EngineError::Failed(format!("listen on {address}: {error}")))
}

/// Completes when the server drains and no further client can connect: those that are in the
/// backlog then are the last.
async fn closing(mut drain: drain::Listener, listener: &TcpListener) {
    drain.begun().await;
    // A client that connected just before the close would be cut. Its handshake is not answered
    // from here on; it tries again when the socket is closed. An error: the kernel has no memory.
    let _ = sys::ignore_connects(listener);
    sleep(HANDSHAKE).await;
}

/// Waits until the container may have one more connection, and counts it.
async fn descriptor(descriptors: &Arc<Descriptors>) -> Held {
    let mut held = descriptors.hold();
    // Nothing notifies of a closed descriptor. Meanwhile the client stays in the backlog.
    while !(descriptors::left_for_guests() && held.add()) {
        sleep(PAUSE).await;
    }
    held
}

/// Accepts a client that is in the backlog already.
async fn waiting(listener: &TcpListener) -> Option<TcpStream> {
    let waiting = std::future::poll_fn(|cx| match listener.poll_accept(cx) {
        Poll::Ready(accepted) => Poll::Ready(accepted.ok()),
        Poll::Pending => Poll::Ready(None),
    });
    // With a budget, tokio says "pending" now and then although a client is there.
    let (stream, _) = unconstrained(waiting).await?;
    // Cannot fail, as below.
    let _ = stream.set_nodelay(true);
    Some(stream)
}

/// Accepts the next client.
async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Responses are written whole: waiting for more data only delays them. This cannot
                // fail on a TCP socket.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            // The client's connection was gone before it was accepted.
            Err(error) if is_clients(&error) => {}
            Err(error) => {
                // No file descriptor is left, and one must be closed first. The client stays in the
                // backlog, so without a pause this loop would spin.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_clients_of_the_backlog_are_found() {
        // More than the 128 operations that tokio allows a task at a time, two of them for each
        // client.
        const CLIENTS: usize = 130;
        let listener = listen(&Network::of_process(), ([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| std::net::TcpStream::connect(address).unwrap();
        let clients: Vec<_> = (0..CLIENTS).map(connect).collect();
        // Its wait lets tokio see the listener.
        let mut streams = vec![accepted(&listener).await];
        while let Some(stream) = waiting(&listener).await {
            streams.push(stream);
        }
        assert_eq!(streams.len(), clients.len());
    }
}
