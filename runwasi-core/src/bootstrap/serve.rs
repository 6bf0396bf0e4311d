//! The sandbox's server, from the socket that `start` has bound to the last event: the shim's
//! long-lived process.

use std::{ffi::CString, fs, future::pending, sync::Arc, thread::Builder, time::Duration};

use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    BootstrapError,
    invocation::{About, Invocation},
    io_error,
    socket::SocketFile,
    start::Handover,
};
use crate::{
    blocking::{self, blocking},
    cgroups::Cgroups,
    container::host::Host,
    containerd::{events, images},
    engine::{Engine, error::EngineError},
    events::Queue,
    logging,
    metrics::exposition::{Build, Exposition, Sources},
    native::{NativeHost, setting::NativeRuntime},
    network::Network,
    panics, rootfs,
    runtime::{self, GuestRuntime},
    sandbox::Sandbox,
    scrape::shim,
    server,
    shutdown::Tasks,
    start_memory, sys,
};

/// Time for guests, replies and events after the end has been requested.
// containerd gives a shim's `Shutdown` 3 s and a `delete` 5 s.
const GRACE: Duration = Duration::from_secs(4);

/// How long after a start a server returns memory that only the start has needed.
// Longer than a start, and short beside the life of a pod.
const SETTLED: Duration = Duration::from_secs(1);

/// Serves until the sandbox is over or a signal comes.
pub fn serve<E: Engine>(
    about: &About,
    invocation: &Invocation,
    mut handover: Handover,
    engine: impl FnOnce() -> Result<E, EngineError>,
) -> Result<(), BootstrapError> {
    logging::to_containerd(invocation.debug, about.runtime);
    panics::log();
    if let Err(error) = rustix::thread::set_name(&process_name(about.runtime)) {
        tracing::debug!(%error, "the process keeps its name");
    }
    let own = handover.own.take().map(Arc::new);
    let served = panics::fatal(|| run((about, invocation), handover, engine, own.clone()));
    if let Err(error) = &served {
        // Our stderr is /dev/null, so the log is the only place for the error.
        tracing::error!(%error, "the server failed");
    }
    if let Some(own) = own {
        // Usually removed already at the start of the drain.
        own.remove_left()?;
    }
    served
}

/// The cgroups of this process.
fn cgroups(guests: &GuestRuntime, network: &Network) -> Cgroups {
    let network = network.clone();
    Cgroups::of_process(guests.threads().clone(), move || network.process())
}

/// Name of the serving process for `ps` and for the kernel's messages: `wasmtime serve`.
// Its arguments stay those of `start`, since it does not `exec`.
fn process_name(runtime: &str) -> CString {
    // `io.containerd.NAME.v1`. With ` serve` after it, the kernel has room for 9 bytes of the name.
    let name = runtime.split('.').nth(2).unwrap_or(runtime);
    CString::new(format!("{name:.9} serve")).unwrap_or_default()
}

fn run<E: Engine>(
    (about, invocation): (&About, &Invocation),
    handover: Handover,
    engine: impl FnOnce() -> Result<E, EngineError>,
    own: Option<Arc<SocketFile>>,
) -> Result<(), BootstrapError> {
    let Handover { listener, namespaces, group, managed, ttrpc_address, .. } = handover;
    raise_oom_score();
    // Each heap of a thread takes pages of its own. One for each worker, and one for all others.
    sys::limit_heaps(runtime::pod_workers() + 1);
    prepare_rootfs();
    // This process stays in the host's namespaces, as hooks and loggers must.
    let network = if namespaces.are_host() {
        Network::of_host(&namespaces)
    } else {
        Network::with_process_or_failure(namespaces)
    };
    let engine = Arc::new(engine()?);
    let guests = GuestRuntime::start(runtime::pod_workers()).map_err(io_error("guest runtime"))?;
    let control = runtime::control().map_err(io_error("control runtime"))?;
    let result = control.block_on(async {
        let tasks = Tasks::new(GRACE);
        let images = images::ImageClient::new(&invocation.address, &invocation.namespace);
        let images = Arc::new(images);
        let queue = Queue::start(events::EventForwarder::new(&ttrpc_address), &tasks);
        let host = Host {
            engine,
            publisher: Arc::new(queue.publisher(&invocation.namespace)),
            guests: guests.guests().clone(),
            tasks: tasks.clone(),
            bundle_roots: Arc::default(),
            namespace: invocation.namespace.clone(),
            sandbox: group,
            images: images.clone(),
            cgroups: Some(Arc::new(cgroups(&guests, &network))),
            native: NativeHost {
                runtime: NativeRuntime::default(),
                fixed: false,
                is_shim: true,
                grpc_address: invocation.address.clone(),
                ttrpc_address,
            },
            network,
        };
        serve_metrics(about, &host);
        let sandbox = if managed { Sandbox::managed(host, images) } else { Sandbox::new(host) };
        // Only the sandbox keeps the queue open then: its task ends after the sandbox's last event.
        drop(queue);
        stop_on_signals(&tasks)?;
        return_memory_of_starts(&tasks);
        let served = server::serve_until(listener, sandbox, remove_socket(own)).await;
        // Also after an error of the server, which stops no task itself.
        tasks.stop();
        tasks.drained().await;
        Ok(served?)
    });
    // Neither waits: a guest may be in a long poll, and nothing of the runtimes is needed any more.
    guests.end();
    control.shutdown_background();
    result
}

/// Serves the metrics of this process, if the environment asks for them.
fn serve_metrics(about: &About, host: &Host) {
    // Looked at first: most shims need no registry.
    if !shim::is_on() {
        return;
    }
    let build = Build { program: about.runtime, version: about.version, engine: about.engine };
    let exposition = Exposition::new(Sources {
        build,
        states: None,
        engine: host.engine.clone(),
        guests: host.guests.clone(),
    });
    shim::start(exposition, &host.namespace, &host.sandbox, &host.tasks);
}

/// Prepares the mount namespace while containerd connects.
// The thread and its result may be dropped: the first container waits for the namespace and reports
// a failure.
fn prepare_rootfs() {
    let prepare = || panics::fatal(rootfs::prepare);
    // Without the thread, too: the first container prepares it then.
    drop(Builder::new().spawn(prepare));
}

/// Returns to the system what only the starts of the pod and of its containers have needed.
fn return_memory_of_starts(tasks: &Tasks) {
    let stopped = tasks.clone();
    let give_back = || {
        blocking::eventually(&Handle::current(), || {
            sys::trim_memory();
            sys::unmap_program();
        });
    };
    tasks.spawn(async move {
        tokio::select! {
            () = start_memory::return_after_starts(SETTLED, give_back) => {}
            () = stopped.stopped() => {}
        }
    });
}

/// Begins the drain on SIGTERM and SIGINT. Ignored are SIGHUP, since the terminal of containerd may
/// be closed without an end of its containers, and SIGUSR1: containerd and its own shims dump their
/// stacks, and `systemctl kill` sends it to all processes of containerd's unit.
fn stop_on_signals(tasks: &Tasks) -> Result<(), BootstrapError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(io_error("SIGTERM handler"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io_error("SIGINT handler"))?;
    let hangup = signal(SignalKind::hangup()).map_err(io_error("SIGHUP handler"))?;
    let dump = signal(SignalKind::user_defined1()).map_err(io_error("SIGUSR1 handler"))?;
    let stopping = tasks.clone();
    tasks.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
            // Ends this task, too, when another cause has begun the drain.
            () = stopping.stopped() => {}
            () = ignore(hangup) => {}
            () = ignore(dump) => {}
        }
        stopping.stop();
    });
    Ok(())
}

/// Takes a signal whenever it comes. Never returns.
// A handler and not `SIG_IGN`, which hooks and loggers would inherit.
async fn ignore(mut signal: Signal) {
    while signal.recv().await.is_some() {}
    pending::<()>().await;
}

/// Removes the socket at the start of the drain.
// From then on a `start` of the same group makes a new server instead of joining this one.
async fn remove_socket(own: Option<Arc<SocketFile>>) {
    let Some(own) = own else { return };
    // On the blocking pool: it waits for the lock of the directory.
    let removed = blocking(move || own.remove(), io_error("remove the socket"));
    if let Err(error) = removed.await {
        tracing::error!(%error, "the socket is not removed yet");
    }
}

/// Sets our OOM score to one above containerd's, which we have inherited.
// The kernel then kills pods before it kills containerd.
fn raise_oom_score() {
    let path = "/proc/self/oom_score_adj";
    let raised = fs::read_to_string(path)
        .ok()
        .and_then(|score| score.trim().parse::<i32>().ok())
        // The kernel's maximum is 1000.
        .map(|score| (score + 1).min(1000));
    if let Some(score) = raised
        && let Err(error) = fs::write(path, score.to_string())
    {
        tracing::warn!(%error, "oom_score_adj stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_name_has_room_for_the_word_serve() {
        let name = |runtime: &str| process_name(runtime).into_string().unwrap();
        assert_eq!(name("io.containerd.wasmtime.v1"), "wasmtime serve");
        assert_eq!(name("io.containerd.abcdefghijk.v1"), "abcdefghi serve");
        assert_eq!(name("noded"), "noded serve");
    }
}
