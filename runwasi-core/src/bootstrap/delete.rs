//! The action `delete`: removes what is left of a container and says how it ended. Works with the server dead, is idempotent,
//! and is bounded: containerd gives it 5 s.

use std::{fs, path::Path, time::Duration};

use containerd_shim_protos::protobuf::Message;
use tokio::time::timeout;

use super::{BootstrapError, invocation::Invocation, io_error, protocol, socket};
use crate::{
    bundle::hooks,
    cgroups,
    container::prepare::PID_FILE,
    containerd::task_client::{CallError, TaskClient},
    engine::exit::{Exit, ExitStatus},
    rootfs, runtime,
    service::convert,
};

/// For everything that is asked of a server that still lives.
const PATIENCE: Duration = Duration::from_secs(3);

/// For a `poststop` hook: containerd's patience is over soon after.
const HOOK_PATIENCE: Duration = Duration::from_secs(1);

const SIGKILL: u32 = 9;

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The pid that was reported for it; 0 if it never got that far.
    pub pid: u32,
    /// Its exit status.
    pub status: u32,
}

/// Cleans up; the answer is a protobuf `DeleteResponse` for stdout.
pub fn delete(invocation: &Invocation) -> Result<Vec<u8>, BootstrapError> {
    let mut ended = None;
    if let Some(path) = protocol::read_address(&invocation.bundle) {
        if socket::is_alive(&path) {
            ended = end_container(&path, invocation)?;
            // One that was killed this moment still listened.
            socket::remove_if_dead(&path)?;
        } else {
            socket::remove_if_dead(&path)?;
        }
    }
    finish(&invocation.bundle, ended)
}

/// What needs no server: unmounts what may be left, and makes the answer; 137 if nothing better is known.
pub fn finish(bundle: &Path, ended: Option<Ended>) -> Result<Vec<u8>, BootstrapError> {
    rootfs::unmount_leftovers(bundle);
    cgroups::remove(bundle);
    hooks::stopped(bundle, Some(HOOK_PATIENCE));
    let Ended { pid, status } =
        ended.unwrap_or_else(|| Ended { pid: read_pid(bundle), status: ExitStatus::KILLED.get() });
    let mut response = convert::delete_response(pid, Exit::now(ExitStatus::KILLED));
    response.exit_status = status;
    response.write_to_bytes().map_err(|error| BootstrapError::Encode(error.to_string()))
}

fn read_pid(bundle: &Path) -> u32 {
    fs::read_to_string(bundle.join(PID_FILE))
        .ok()
        .and_then(|pid| pid.trim().parse().ok())
        .unwrap_or(0)
}

/// The server lives: perhaps for the rest of the pod, perhaps it has lost its containerd. Only this container ends.
fn end_container(path: &Path, invocation: &Invocation) -> Result<Option<Ended>, BootstrapError> {
    let control = runtime::control().map_err(io_error("control runtime"))?;
    let ended =
        control.block_on(async { timeout(PATIENCE, end(path, invocation.id.as_str())).await });
    control.shutdown_background();
    Ok(ended.ok().and_then(Result::ok))
}

async fn end(path: &Path, id: &str) -> Result<Ended, CallError> {
    let server = TaskClient::connect(&path.display().to_string(), PATIENCE).await?;
    let ended = end_task(&server, id).await;
    // Also when the task is not there: a server that nobody uses must not stay. It leaves only if it is empty.
    let _ = server.shutdown(id).await;
    ended
}

async fn end_task(server: &TaskClient, id: &str) -> Result<Ended, CallError> {
    // Not found means: deleted in the ordinary way, nothing to do.
    server.state(id).await?;
    if server.kill(id, SIGKILL).await.is_ok() {
        server.wait(id).await?;
    }
    let (pid, status) = server.delete(id).await?;
    Ok(Ended { pid, status })
}
