//! One listening socket and its services, until shutdown, followed by a bounded drain.

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
    io::BufReader,
    net::{UnixListener, UnixStream},
    time::{Instant, Sleep, sleep, timeout},
};

use crate::{
    buffered::buffered,
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
    /// An error of ttrpc.
    #[error("ttrpc server: {0}")]
    Ttrpc(String),
}

/// Serves the sandbox until its tasks are told to stop. Then ends its processes and lets replies
/// and events out.
pub async fn serve(
    listener: std::os::unix::net::UnixListener,
    sandbox: Sandbox,
) -> Result<(), ServeError> {
    serve_until(listener, sandbox, async {}).await
}

/// Like [`serve`], with work between the stop and the end of the listener: the removal of its file
/// ([`SocketFile`](crate::bootstrap::socket::SocketFile)).
pub async fn serve_until(
    listener: std::os::unix::net::UnixListener,
    sandbox: Sandbox,
    leave: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let tasks = sandbox.tasks().clone();
    let mut server = Server::new()
        .add_listener(Listener::new(BufferedAccept(Accept::new(listener)?)))
        .register_service(contained(services(&sandbox)));
    server.start().await.map_err(|error| ServeError::Ttrpc(error.to_string()))?;
    stopped(&sandbox).await;
    sandbox.note_end();
    leave.await;
    // No new connections from here on. Existing ones are served until `disconnect`.
    server.stop_listen().await;
    // The last quarter of the grace is for replies and events.
    let deadline = Instant::now() + tasks.grace() * 3 / 4;
    sandbox.mark_stopping();
    end_guests(&sandbox, &tasks).await;
    sandbox.mark_stopped();
    sandbox.await_deletes(deadline).await;
    // Waits for the handlers under way, the one that answers `Shutdown` among them. A handler that
    // exceeds this time is abandoned: the shutdown must stay within the grace.
    let _ = timeout(tasks.grace() / 4, server.disconnect()).await;
    // Last: a handler under way may still need its container.
    sandbox.clear();
    Ok(())
}

/// The services of a sandbox's socket: Task under both names, and the Sandbox API if containerd
/// manages the sandbox by it.
fn services(sandbox: &Sandbox) -> HashMap<String, Service> {
    let v2 = task::services(sandbox).into_values().map(|service| (TASK_V2.to_owned(), service));
    let own = sandbox.is_managed().then(|| service::sandbox::services(sandbox));
    task::services(sandbox).into_iter().chain(v2).chain(own.into_iter().flatten()).collect()
}

/// How long a sandbox may be without a container and a managed life. A `Create` that
/// comes just at the end of this time ends with the sandbox.
// A containerd that dies between `start` and `Create`, or between the last `Delete` and `Shutdown`,
// must not leave a server behind for ever.
const EMPTY: Duration = Duration::from_secs(30);

/// Waits for `Shutdown`, or for the end of a sandbox without containers or without a record.
async fn stopped(sandbox: &Sandbox) {
    tokio::select! {
        () = sandbox.tasks().stopped() => {}
        () = sandbox.idle_for(EMPTY) => {
            tracing::info!("no container for {} s", EMPTY.as_secs());
            sandbox.tasks().stop();
        }
        () = sandbox.forgotten() => sandbox.tasks().stop(),
    }
}

/// How long nothing is accepted after an accept has failed: another attempt at once would only burn
/// CPU time.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections of a listening socket. Replaces ttrpc's own listener, which spins when the
/// process is out of file descriptors.
pub struct Accept {
    listener: UnixListener,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Accept {
    /// Registers the socket with the current Tokio runtime.
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
                // Not an item of the stream: the server goes on after a pause.
                Err(error) => {
                    tracing::error!(%error, "cannot accept a connection");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// The same connections, read in few system calls.
struct BufferedAccept(Accept);

impl Stream for BufferedAccept {
    type Item = std::io::Result<BufReader<UnixStream>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(cx).map(|next| next.map(|stream| stream.map(buffered)))
    }
}

/// Ends all processes: with SIGTERM first, as Kubernetes does, and after half the grace with
/// SIGKILL.
async fn end_guests(sandbox: &Sandbox, tasks: &Tasks) {
    if sandbox.is_empty() {
        return;
    }
    if timeout(tasks.grace() / 2, sandbox.end_all(Signal::TERM)).await.is_err() {
        // The last quarter of the grace is for replies. A process that has not ended by then ends
        // with the sandbox.
        let _ = timeout(tasks.grace() / 4, sandbox.end_all(Signal::KILL)).await;
    }
}
