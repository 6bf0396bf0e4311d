//! One listening socket and its services, until shutdown; then a bounded drain. Called by `bootstrap` and the harness.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use containerd_shim_protos::ttrpc::r#async::{Server, Service, transport::Listener};
use futures_core::Stream;
use tokio::{
    net::{UnixListener, UnixStream},
    time::{Sleep, sleep, timeout},
};

use crate::{
    engine::signal::Signal,
    sandbox::Sandbox,
    service::{
        self,
        contained::contained,
        task::{self, TASK_V2},
    },
    shutdown::Tasks,
};

/// Why a server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listening socket cannot be used.
    #[error("listening socket: {0}")]
    Listener(#[from] std::io::Error),
    /// ttrpc's own error.
    #[error("ttrpc server: {0}")]
    Ttrpc(String),
}

/// Serves the sandbox until its tasks are told to stop, then ends what runs and lets replies and events out.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    sandbox: Sandbox,
) -> Result<(), ServeError> {
    let tasks = sandbox.tasks().clone();
    let mut server = Server::new()
        .add_listener(Listener::new(Accept::new(listener)?))
        .register_service(contained(services(&sandbox)));
    server.start().await.map_err(|error| ServeError::Ttrpc(error.to_string()))?;
    stopped(&sandbox).await;
    server.stop_listen().await;
    sandbox.mark_stopping();
    end_guests(&sandbox, &tasks).await;
    sandbox.mark_stopped();
    // Waits for the handlers under way, the one that answers `Shutdown` among them.
    let _ = timeout(tasks.grace() / 4, server.disconnect()).await;
    sandbox.clear();
    Ok(())
}

/// The services of a sandbox's socket: Task under both names, and the Sandbox API if containerd manages the sandbox by it.
fn services(sandbox: &Sandbox) -> HashMap<String, Service> {
    let v2 = task::services(sandbox).into_values().map(|service| (TASK_V2.to_owned(), service));
    let own = sandbox.is_managed().then(|| service::sandbox::services(sandbox));
    task::services(sandbox).into_iter().chain(v2).chain(own.into_iter().flatten()).collect()
}

/// How long a sandbox stays without a container, unless it has a life of its own; a `Create` that comes at just that moment ends with it.
/// A containerd that dies between `start` and `Create`, or between the last `Delete` and `Shutdown`, must not leave a server
/// behind for ever.
const EMPTY: Duration = Duration::from_secs(30);

/// Until `Shutdown`, or the end of a sandbox that nobody uses.
async fn stopped(sandbox: &Sandbox) {
    tokio::select! {
        () = sandbox.tasks().stopped() => {}
        () = sandbox.idle_for(EMPTY) => {
            tracing::info!("no container for {} s", EMPTY.as_secs());
            sandbox.tasks().stop();
        }
    }
}

/// How long nothing is accepted after an accept has failed: trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections of a listening socket as they come. ttrpc's own listener spins when the process is out of file descriptors.
pub struct Accept {
    listener: UnixListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Accept {
    /// On the Tokio runtime that is to watch the socket.
    pub fn new(listener: std::os::unix::net::UnixListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self { listener: UnixListener::from_std(listener)?, pause: None })
    }
}

impl Stream for Accept {
    type Item = std::io::Result<UnixStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => return Poll::Ready(Some(Ok(stream))),
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// SIGTERM first, as Kubernetes does; who has not ended within half the grace is killed.
async fn end_guests(sandbox: &Sandbox, tasks: &Tasks) {
    if sandbox.is_empty() {
        return;
    }
    if timeout(tasks.grace() / 2, sandbox.end_all(Signal::TERM)).await.is_err() {
        let _ = timeout(tasks.grace() / 4, sandbox.end_all(Signal::KILL)).await;
    }
}
