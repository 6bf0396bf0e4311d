//! Action `delete`: removes the remains of a container and reports its exit status.
//!
//! It works without a living server, is idempotent, and is bounded: containerd gives it 5 s.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use containerd_shim_protos::{api::DeleteResponse, protobuf::Message};
use tokio::{runtime::Runtime, time::timeout};

use super::{BootstrapError, invocation::Invocation, io_error, protocol, socket};
use crate::{
    bundle::{config::SandboxConfig, hooks, joined},
    cgroups,
    container::{left_exit, prepare::PID_FILE},
    containerd::task_client::{CallError, TaskClient},
    engine::exit::{Exit, ExitStatus},
    native::orphan::Orphan,
    rootfs, runtime,
    scrape::shim,
    service::convert,
};

/// Time for everything that a `delete` does.
// containerd kills it after 5 s, and a loaded node takes its part of that to start it.
const TIME: Duration = Duration::from_secs(4);

/// Part of [`TIME`] for all calls to a server that still lives.
const SERVER_TIME: Duration = Duration::from_secs(3);

/// Time for the `poststop` hooks that the daemon runs for a `delete`.
// Less than `SERVER_TIME`: the answer follows, and the container's end comes before. The server of
// a pod takes it from the timeout of the call.
pub const HOOK_TIME: Duration = Duration::from_secs(2);

/// Point in time at which a `delete` has to be done.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    began: Instant,
}

impl Deadline {
    /// For a `delete` that begins now.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Time left for calls to a living server.
    pub fn for_server(self) -> Duration {
        SERVER_TIME.saturating_sub(self.began.elapsed())
    }

    fn end(self) -> Instant {
        self.began + TIME
    }
}

const SIGKILL: u32 = 9;

/// Code of a call for a container that the server does not have.
const NOT_FOUND: &str = "NOT_FOUND";

/// Exit of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The pid that was reported for it, 0 if there was no report.
    pub pid: u32,
    /// Its exit status.
    pub status: u32,
}

/// Cleans up and returns a protobuf `DeleteResponse` for stdout.
pub fn delete(invocation: &Invocation) -> Result<Vec<u8>, BootstrapError> {
    let deadline = Deadline::start();
    let mut ended = None;
    let mut left = None;
    if let Some(path) = protocol::read_address(&invocation.bundle) {
        if socket::is_alive(&path) {
            let control = runtime::control().map_err(io_error("control runtime"))?;
            match end_container(control, &path, invocation, deadline) {
                Ok(end) => ended = end,
                Err(error) => left = Some(error),
            }
        }
        // A server that was being killed at this moment may still have listened above.
        socket::remove_if_dead(&path)?;
        // A living server removes its own at its end.
        if shim::is_on() && !socket::is_alive(&path) {
            remove_metrics(invocation);
        }
        // A server that has ended meanwhile has taken the container with it.
        left = left.filter(|_| socket::is_alive(&path));
    }
    // In any case: what can be removed is, also beside a server that does not answer.
    let response = finish(invocation, ended, deadline)?;
    left.map_or(Ok(response), Err)
}

/// Removes the socket for metrics of a killed server.
fn remove_metrics(invocation: &Invocation) {
    // An error: the bundle has lost its `config.json`. The next server of this sandbox replaces it.
    if let Ok(config) = SandboxConfig::load(&invocation.bundle, &invocation.id) {
        shim::remove_left(&invocation.namespace, &config.group);
    }
}

/// The part without a server: unmounts leftovers, removes the cgroups, runs the `poststop` hooks
/// and encodes the answer. The status is 137 if no exit is known. After a server that was killed
/// also for the containers of the sandbox that get no `delete`.
pub fn finish(
    invocation: &Invocation,
    ended: Option<Ended>,
    deadline: Deadline,
) -> Result<Vec<u8>, BootstrapError> {
    let bundle = &invocation.bundle;
    let ended = ended.or_else(|| end_native(invocation, deadline));
    let joined = end_joined(invocation, deadline);
    let all = || [bundle].into_iter().chain(&joined);
    for bundle in all() {
        rootfs::unmount_leftovers(bundle);
        cgroups::remove(bundle);
    }
    // Last: `poststop` hooks expect that the container is gone.
    for bundle in all() {
        hooks::stopped(bundle, Some(deadline.end()));
    }
    response(bundle, ended)
        .write_to_bytes()
        .map_err(|error| BootstrapError::Encode(error.to_string()))
}

/// The answer: the exit that a living server has told, else the one that a stopped server has left
/// in the bundle, else that of a killed container.
// containerd publishes a second exit event with this status and time (`sandbox::stop`).
fn response(bundle: &Path, ended: Option<Ended>) -> DeleteResponse {
    let Some(Ended { pid, status }) = ended else {
        let exit = left_exit::read(bundle).unwrap_or_else(|| Exit::now(ExitStatus::KILLED));
        return convert::delete_response(read_pid(bundle), exit);
    };
    let mut response = convert::delete_response(pid, Exit::now(ExitStatus::KILLED));
    // Replaced, since the server tells a plain number and not an `ExitStatus`.
    response.exit_status = status;
    response
}

fn read_pid(bundle: &Path) -> u32 {
    fs::read_to_string(bundle.join(PID_FILE))
        .ok()
        .and_then(|pid| pid.trim().parse().ok())
        .unwrap_or(0)
}

/// Ends a native container that a killed server has left, and its delegate.
fn end_native(invocation: &Invocation, deadline: Deadline) -> Option<Ended> {
    let orphan = Orphan::find(&invocation.bundle, &invocation.id, &invocation.namespace)?;
    let lives = server_lives(&invocation.bundle);
    let (pid, exit) = orphan.end(&invocation.address, deadline.end(), lives)?;
    Some(Ended { pid, status: exit.status.get() })
}

/// The bundles of the containers of this sandbox for which containerd runs no `delete`, if their
/// server was killed. Ends the native ones.
fn end_joined(invocation: &Invocation, deadline: Deadline) -> Vec<PathBuf> {
    let Invocation { bundle, id, namespace, address, .. } = invocation;
    if server_lives(bundle) {
        return Vec::new();
    }
    let joined = joined::bundles(bundle, id, namespace);
    Orphan::end_joined(&Orphan::among(&joined, namespace), address, deadline.end());
    joined
}

fn server_lives(bundle: &Path) -> bool {
    protocol::read_address(bundle).is_some_and(|path| socket::is_alive(&path))
}

/// Ends this container only. The server may be serving the rest of the pod, or have lost its
/// containerd.
// An error: the server still has the container.
fn end_container(
    control: Runtime,
    path: &Path,
    invocation: &Invocation,
    deadline: Deadline,
) -> Result<Option<Ended>, BootstrapError> {
    let patience = deadline.for_server();
    let ended =
        control.block_on(async { timeout(patience, end(path, invocation.id.as_str())).await });
    // Without waiting for blocking threads: the time of this action is limited.
    control.shutdown_background();
    let reason = match ended {
        Ok(Ok(ended)) => return Ok(Some(ended)),
        // Deleted in the ordinary way, before this action.
        Ok(Err(error)) if error.code == NOT_FOUND => return Ok(None),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", SERVER_TIME.as_secs()),
    };
    Err(BootstrapError::ServerLives {
        container: invocation.id.to_string(),
        socket: path.to_owned(),
        reason,
    })
}

async fn end(path: &Path, id: &str) -> Result<Ended, CallError> {
    let server = TaskClient::connect(&path.display().to_string(), SERVER_TIME).await?;
    let ended = end_task(&server, id).await;
    // Also without the task: an unused server must not stay. It leaves only if it is empty. An
    // error of this call does not change the container's exit.
    let _ = server.shutdown(id).await;
    ended
}

async fn end_task(server: &TaskClient, id: &str) -> Result<Ended, CallError> {
    // `NOT_FOUND`: the task was deleted in the ordinary way, and nothing is left to do.
    server.state(id).await?;
    // An error: the task has ended already, and there is no end to wait for.
    if server.kill(id, SIGKILL).await.is_ok() {
        server.wait(id).await?;
    }
    let (pid, status) = server.delete(id).await?;
    Ok(Ended { pid, status })
}
