//! The sandbox's server, from the socket that `start` has bound to its last event. The shim's long-lived process.

use std::{fs, os::fd::AsFd, sync::Arc, time::Duration};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tokio::signal::unix::{SignalKind, signal};

use super::{
    BootstrapError, io_error,
    socket::Own,
    start::{Entrance, Handover},
};
use crate::{
    cli::Invocation,
    engine::{Engine, EngineError},
    events::Queue,
    logging, runtime,
    sandbox::Sandbox,
    server,
    service::forward,
    shutdown::Tasks,
};

/// What guests, replies and events have after the end was asked for. containerd gives a shim's `Shutdown` 3 s and a `delete` 5 s.
const GRACE: Duration = Duration::from_secs(4);

/// How long after its start a server waits for its first container.
const UNUSED: Duration = Duration::from_secs(60);

/// Serves until the last container is gone or a signal comes.
pub fn serve<E: Engine>(
    invocation: &Invocation,
    mut handover: Handover,
    engine: impl FnOnce() -> Result<E, EngineError>,
) -> Result<(), BootstrapError> {
    logging::to_containerd(invocation.debug);
    let own = handover.own.take().map(Arc::new);
    let served = run(invocation, handover, engine, own.clone());
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
    own: Option<Arc<Own>>,
) -> Result<(), BootstrapError> {
    let Handover { listener, network, ttrpc_address, .. } = handover;
    raise_oom_score();
    // Before any thread exists: threads inherit the namespace.
    enter_network(network)?;
    let engine = Arc::new(engine()?);
    let guests = runtime::guest().map_err(io_error("guest runtime"))?;
    let control = runtime::control().map_err(io_error("control runtime"))?;
    let result = control.block_on(async {
        let tasks = Tasks::new(GRACE);
        let events = Queue::start(forward::Containerd::new(&ttrpc_address, invocation.namespace.as_str()), &tasks);
        let sandbox =
            Sandbox::new(engine, Arc::new(events), guests.handle().clone(), tasks.clone(), std::process::id());
        stop_on_signals(&tasks)?;
        remove_socket_when_stopped(&tasks, own);
        leave_if_unused(&sandbox);
        let served = server::serve(listener, sandbox).await;
        tasks.stop();
        tasks.drained().await;
        Ok(served?)
    });
    // Guest threads may be in a long poll; nothing of them is needed any more.
    guests.shutdown_background();
    control.shutdown_background();
    result
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

/// A containerd that dies between `start` and `Create` must not leave a server behind for ever.
fn leave_if_unused(sandbox: &Sandbox) {
    let unused = sandbox.clone();
    sandbox.tasks().spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(UNUSED) => {
                if unused.is_empty() {
                    tracing::info!("nobody has created a container");
                    unused.tasks().stop();
                }
            }
            () = unused.tasks().stopped() => {}
        }
    });
}

/// First thing in the drain: from then on a `start` of the same group makes a new server instead of joining this one.
fn remove_socket_when_stopped(tasks: &Tasks, own: Option<Arc<Own>>) {
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

/// The pod's network becomes this process's own, so that guests have it and `/proc/<pid>/ns/net` is it.
fn enter_network(network: Entrance) -> Result<(), BootstrapError> {
    match network {
        Entrance::Host => Ok(()),
        Entrance::New => {
            // SAFETY: only the network namespace changes, no file descriptors or memory; and no other thread exists.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::NEWNET) };
            unshared.map_err(|error| io_error("new network namespace")(error.into()))
        }
        Entrance::Opened(namespace) => {
            let entered = move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network));
            entered.map_err(|error| io_error("enter the network namespace")(error.into()))
        }
    }
}
