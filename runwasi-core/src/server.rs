//! One listening socket and its services, until shutdown; then a bounded drain. Called by `bootstrap` and the harness.

use std::os::unix::net::UnixListener;

use containerd_shim_protos::ttrpc::r#async::{Server, transport::Listener};
use tokio::time::timeout;

use crate::{process::signal::Signal, sandbox::Sandbox, service, shutdown::Tasks};

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
pub async fn serve(listener: UnixListener, sandbox: Sandbox) -> Result<(), ServeError> {
    let tasks = sandbox.tasks().clone();
    let mut server =
        Server::new().add_listener(Listener::try_from(listener)?).register_service(service::task::services(&sandbox));
    server.start().await.map_err(|error| ServeError::Ttrpc(error.to_string()))?;
    tasks.stopped().await;
    server.stop_listen().await;
    end_guests(&sandbox, &tasks).await;
    // Waits for the handlers under way, the one that answers `Shutdown` among them.
    server.disconnect().await;
    sandbox.abandon();
    Ok(())
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
