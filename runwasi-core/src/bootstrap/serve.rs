//! The sandbox's server, from the socket that `start` has bound to its last event. The shim's long-lived process.

use std::{fs, sync::Arc, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    BootstrapError, invocation::Invocation, io_error, socket::SocketFile, start::Handover,
};
use crate::{
    cgroups::Cgroups,
    container::host::Host,
    containerd::{events, images},
    engine::{Engine, error::EngineError},
    events::Queue,
    logging,
    network::Network,
    panics, rootfs,
    runtime::{self, GuestRuntime},
    sandbox::Sandbox,
    server,
    shutdown::Tasks,
};

/// What guests, replies and events have after the end was asked for. containerd gives a shim's `Shutdown` 3 s and a `delete` 5 s.
const GRACE: Duration = Duration::from_secs(4);

/// Serves until the sandbox is over or a signal comes.
pub fn serve<E: Engine>(
    invocation: &Invocation,
    mut handover: Handover,
    engine: impl FnOnce() -> Result<E, EngineError>,
) -> Result<(), BootstrapError> {
    logging::to_containerd(invocation.debug);
    panics::log();
    let own = handover.own.take().map(Arc::new);
    let served = panics::fatal(|| run(invocation, handover, engine, own.clone()));
    if let Err(error) = &served {
        // Our stderr is /dev/null: the log is where this can be seen.
        tracing::error!(%error, "the server failed");
    }
    if let Some(own) = own {
        // Usually done already when the drain began.
        own.remove()?;
    }
    served
}

fn run<E: Engine>(
    invocation: &Invocation,
    handover: Handover,
    engine: impl FnOnce() -> Result<E, EngineError>,
    own: Option<Arc<SocketFile>>,
) -> Result<(), BootstrapError> {
    let Handover { listener, network, managed, ttrpc_address, .. } = handover;
    raise_oom_score();
    // Before any thread exists: threads inherit the namespace, so guests have it and `/proc/<pid>/ns/net` is it.
    network.enter()?;
    prepare_rootfs();
    let engine = Arc::new(engine()?);
    let guests = GuestRuntime::start(runtime::pod_workers()).map_err(io_error("guest runtime"))?;
    let control = runtime::control().map_err(io_error("control runtime"))?;
    let result = control.block_on(async {
        let tasks = Tasks::new(GRACE);
        let queue = Queue::start(events::EventForwarder::new(&ttrpc_address), &tasks);
        let host = Host {
            engine,
            publisher: Arc::new(queue.publisher(&invocation.namespace)),
            guests: guests.guests().clone(),
            tasks: tasks.clone(),
            bundle_roots: Arc::default(),
            namespace: invocation.namespace.clone(),
            images: Arc::new(images::ImageClient::new(&invocation.address, &invocation.namespace)),
            cgroups: Some(Arc::new(Cgroups::of_process(guests.threads().clone()))),
            network: Network::of_process(),
        };
        let sandbox = if managed { Sandbox::managed(host) } else { Sandbox::new(host) };
        // The sandbox alone keeps it: its events delivered, nothing does.
        drop(queue);
        stop_on_signals(&tasks)?;
        remove_socket_when_stopped(&tasks, own);
        let served = server::serve(listener, sandbox).await;
        tasks.stop();
        tasks.drained().await;
        Ok(served?)
    });
    guests.end();
    control.shutdown_background();
    result
}

/// While containerd connects. The first container waits for it, and reports its failure.
fn prepare_rootfs() {
    std::thread::spawn(|| panics::fatal(rootfs::prepare));
}

/// SIGTERM, SIGINT and SIGHUP drain.
fn stop_on_signals(tasks: &Tasks) -> Result<(), BootstrapError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(io_error("SIGTERM handler"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io_error("SIGINT handler"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(io_error("SIGHUP handler"))?;
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
            _ = hangup.recv() => tracing::info!("SIGHUP"),
            () = stopping.stopped() => {}
        }
        stopping.stop();
    });
    Ok(())
}

/// First thing in the drain: from then on a `start` of the same group makes a new server instead of joining this one.
fn remove_socket_when_stopped(tasks: &Tasks, own: Option<Arc<SocketFile>>) {
    let stopping = tasks.clone();
    tasks.spawn(async move {
        stopping.stopped().await;
        if let Some(own) = own
            && let Err(error) = own.remove()
        {
            tracing::error!(%error, "the socket stays behind");
        }
    });
}

/// One above containerd's, which we have inherited: the kernel takes pods before it takes containerd.
fn raise_oom_score() {
    let path = "/proc/self/oom_score_adj";
    let raised = fs::read_to_string(path)
        .ok()
        .and_then(|score| score.trim().parse::<i32>().ok())
        .map(|score| (score + 1).min(1000));
    if let Some(score) = raised
        && let Err(error) = fs::write(path, score.to_string())
    {
        tracing::warn!(%error, "oom_score_adj stays as it is");
    }
}
