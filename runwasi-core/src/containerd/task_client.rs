//! Client of a shim's Task service, as containerd calls it.

use std::{io, path::Path, time::Duration};

use containerd_shim_protos::{
    api::{
        CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest, ExecProcessRequest,
        KillRequest, PauseRequest, PidsRequest, ResumeRequest, ShutdownRequest, StartRequest,
        StateRequest, StatsRequest, WaitRequest,
    },
    protobuf::{MessageField, well_known_types::any::Any},
    shim_async::TaskClient as TaskStub,
    ttrpc::{
        self,
        asynchronous::{Client, transport::Socket},
        context,
    },
    types::mount::Mount,
};

use super::connect::connect_within;
use crate::stdio::paths::StdioPaths;

/// A connection to a sandbox's socket. Cheap to clone.
#[derive(Clone)]
pub struct TaskClient {
    task: TaskStub,
    timeout: Duration,
}

/// Process that a call refers to: `"container"` for its init, `("container", "exec")` for an exec.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    container: &'a str,
    exec: &'a str,
}

impl Target<'_> {
    fn owned(self) -> (String, String) {
        (self.container.to_owned(), self.exec.to_owned())
    }
}

impl<'a> From<&'a str> for Target<'a> {
    fn from(container: &'a str) -> Self {
        // The protocol names the init process by an empty exec id.
        Self { container, exec: "" }
    }
}

impl<'a> From<&'a String> for Target<'a> {
    fn from(container: &'a String) -> Self {
        // The init process, as above.
        Self { container, exec: "" }
    }
}

impl<'a> From<(&'a str, &'a str)> for Target<'a> {
    fn from((container, exec): (&'a str, &'a str)) -> Self {
        Self { container, exec }
    }
}

/// Code of a call without an answer.
const TRANSPORT: &str = "TRANSPORT";

/// Error of a call: ttrpc's code and text.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// Name of the status code, e.g. `NOT_FOUND`; `TRANSPORT` if there was no answer.
    pub code: String,
    /// The text.
    pub message: String,
}

/// The answer of `State`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// Name of the status: `CREATED`, `RUNNING`, `PAUSED`, `STOPPED`.
    pub status: String,
    /// Reported pid.
    pub pid: u32,
    /// Exit status; 0 until the process is stopped.
    pub exit_status: u32,
}

impl From<ttrpc::Error> for CallError {
    fn from(error: ttrpc::Error) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => {
                Self { code: format!("{:?}", status.code()), message: status.message().to_owned() }
            }
            other => Self { code: TRANSPORT.to_owned(), message: other.to_string() },
        }
    }
}

/// The address as a `unix://` URL.
pub(crate) fn with_scheme(address: &str) -> String {
    // ttrpc accepts only URLs. containerd passes plain paths as well.
    if address.contains("://") { address.to_owned() } else { format!("unix://{address}") }
}

impl TaskClient {
    /// Connects to the socket at `address` (a path, with or without `unix://`). This and all calls
    /// except `wait` fail after `timeout`.
    pub async fn connect(address: &str, timeout: Duration) -> Result<Self, CallError> {
        let unreachable = |error: io::Error| CallError {
            code: TRANSPORT.to_owned(),
            message: format!("{address}: {error}"),
        };
        let stream = connect_within(address, timeout).await.map_err(unreachable)?;
        let client = Client::new(Socket::from(stream));
        Ok(Self { task: TaskStub::new(client), timeout })
    }

    fn context(&self) -> context::Context {
        context::with_duration(self.timeout)
    }

    /// `Create`, with `mounts` as `(type, source, options)`. Returns the pid.
    pub async fn create(
        &self,
        id: &str,
        bundle: &Path,
        stdio: &StdioPaths,
        mounts: &[(&str, &str, &[&str])],
    ) -> Result<u32, CallError> {
        let mounts = mounts.iter().map(|(kind, source, options)| Mount {
            type_: (*kind).to_owned(),
            source: (*source).to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            ..Default::default()
        });
        let request = CreateTaskRequest {
            id: id.to_owned(),
            bundle: bundle.display().to_string(),
            rootfs: mounts.collect(),
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            ..Default::default()
        };
        Ok(self.task.create(self.context(), &request).await?.pid)
    }

    /// `Exec`, with the specification of the process as JSON.
    pub async fn exec(
        &self,
        id: &str,
        exec: &str,
        spec: &str,
        stdio: &StdioPaths,
    ) -> Result<(), CallError> {
        // The name under which containerd registers the OCI runtime's `Process`.
        let spec = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: spec.as_bytes().to_vec(),
            ..Any::default()
        };
        let request = ExecProcessRequest {
            id: id.to_owned(),
            exec_id: exec.to_owned(),
            spec: MessageField::some(spec),
            terminal: stdio.terminal,
            stdin: stdio.stdin.clone(),
            stdout: stdio.stdout.clone(),
            stderr: stdio.stderr.clone(),
            ..Default::default()
        };
        self.task.exec(self.context(), &request).await?;
        Ok(())
    }

    /// `Start`. Returns the pid.
    pub async fn start(&self, process: impl Into<Target<'_>>) -> Result<u32, CallError> {
        let (id, exec_id) = process.into().owned();
        let request = StartRequest { id, exec_id, ..Default::default() };
        Ok(self.task.start(self.context(), &request).await?.pid)
    }

    /// `State`.
    pub async fn state(&self, process: impl Into<Target<'_>>) -> Result<TaskState, CallError> {
        let (id, exec_id) = process.into().owned();
        let request = StateRequest { id, exec_id, ..Default::default() };
        let state = self.task.state(self.context(), &request).await?;
        // A status that this version of the API does not define is reported by its number.
        let status = state
            .status
            .enum_value()
            .map_or_else(|n| n.to_string(), |status| format!("{status:?}"));
        Ok(TaskState { status, pid: state.pid, exit_status: state.exit_status })
    }

    /// `Wait`, without a timeout. Returns the exit status.
    pub async fn wait(&self, process: impl Into<Target<'_>>) -> Result<u32, CallError> {
        let (id, exec_id) = process.into().owned();
        let request = WaitRequest { id, exec_id, ..Default::default() };
        // 0 is no timeout: a container may run for months.
        Ok(self.task.wait(context::with_timeout(0), &request).await?.exit_status)
    }

    /// `Kill`.
    pub async fn kill(&self, process: impl Into<Target<'_>>, signal: u32) -> Result<(), CallError> {
        let (id, exec_id) = process.into().owned();
        let request = KillRequest { id, exec_id, signal, ..Default::default() };
        self.task.kill(self.context(), &request).await?;
        Ok(())
    }

    /// `Kill` of all processes of the container.
    pub async fn kill_all(&self, id: &str, signal: u32) -> Result<(), CallError> {
        let request = KillRequest { id: id.to_owned(), signal, all: true, ..Default::default() };
        self.task.kill(self.context(), &request).await?;
        Ok(())
    }

    /// `Pause`.
    pub async fn pause(&self, id: &str) -> Result<(), CallError> {
        self.task
            .pause(self.context(), &PauseRequest { id: id.to_owned(), ..Default::default() })
            .await?;
        Ok(())
    }

    /// `Resume`.
    pub async fn resume(&self, id: &str) -> Result<(), CallError> {
        self.task
            .resume(self.context(), &ResumeRequest { id: id.to_owned(), ..Default::default() })
            .await?;
        Ok(())
    }

    /// `CloseIO` for stdin.
    pub async fn close_stdin(&self, process: impl Into<Target<'_>>) -> Result<(), CallError> {
        let (id, exec_id) = process.into().owned();
        let request = CloseIORequest { id, exec_id, stdin: true, ..Default::default() };
        self.task.close_io(self.context(), &request).await?;
        Ok(())
    }

    /// `Delete`. Returns pid and exit status.
    pub async fn delete(&self, process: impl Into<Target<'_>>) -> Result<(u32, u32), CallError> {
        let (id, exec_id) = process.into().owned();
        let request = DeleteRequest { id, exec_id, ..Default::default() };
        let answer = self.task.delete(self.context(), &request).await?;
        Ok((answer.pid, answer.exit_status))
    }

    /// `Connect`. Returns the pids of the shim and of the task.
    pub async fn connect_task(&self, id: &str) -> Result<(u32, u32), CallError> {
        let request = ConnectRequest { id: id.to_owned(), ..Default::default() };
        let answer = self.task.connect(self.context(), &request).await?;
        Ok((answer.shim_pid, answer.task_pid))
    }

    /// `Pids`. Returns the pids without their details.
    pub async fn pids(&self, id: &str) -> Result<Vec<u32>, CallError> {
        let answer = self
            .task
            .pids(self.context(), &PidsRequest { id: id.to_owned(), ..Default::default() })
            .await?;
        Ok(answer.processes.iter().map(|process| process.pid).collect())
    }

    /// `Stats`. Returns the type of the metrics message.
    pub async fn stats(&self, id: &str) -> Result<String, CallError> {
        let answer = self
            .task
            .stats(self.context(), &StatsRequest { id: id.to_owned(), ..Default::default() })
            .await?;
        Ok(answer.stats.type_url.clone())
    }

    /// `Shutdown`.
    pub async fn shutdown(&self, id: &str) -> Result<(), CallError> {
        let request = ShutdownRequest { id: id.to_owned(), ..Default::default() };
        self.task.shutdown(self.context(), &request).await?;
        Ok(())
    }
}
