//! containerd's side of the Task service.

use std::{path::Path, time::Duration};

use containerd_shim_protos::{
    api::{
        CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest, ExecProcessRequest,
        KillRequest, PauseRequest, PidsRequest, ResumeRequest, ShutdownRequest, StartRequest,
        StateRequest, StatsRequest, WaitRequest,
    },
    protobuf::{MessageField, well_known_types::any::Any},
    shim_async::TaskClient as TaskStub,
    ttrpc::{self, asynchronous::Client, context},
    types::mount::Mount,
};

use crate::stdio::paths::StdioPaths;

/// A connection to a sandbox's socket. Cheap to clone.
#[derive(Clone)]
pub struct TaskClient {
    task: TaskStub,
    timeout: Duration,
}

/// Which process a call is about: `"container"` for its init, `("container", "exec")` for another.
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
        Self { container, exec: "" }
    }
}

impl<'a> From<&'a String> for Target<'a> {
    fn from(container: &'a String) -> Self {
        Self { container, exec: "" }
    }
}

impl<'a> From<(&'a str, &'a str)> for Target<'a> {
    fn from((container, exec): (&'a str, &'a str)) -> Self {
        Self { container, exec }
    }
}

/// What a call answered with an error: ttrpc's code and text.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CallError {
    /// The status code by name, e.g. `NOT_FOUND`; `TRANSPORT` when there was no answer.
    pub code: String,
    /// The text.
    pub message: String,
}

/// The answer of `State`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskState {
    /// By name: `CREATED`, `RUNNING`, `PAUSED`, `STOPPED`.
    pub status: String,
    /// The pid that is reported.
    pub pid: u32,
    /// 0 until it is stopped.
    pub exit_status: u32,
}

impl From<ttrpc::Error> for CallError {
    fn from(error: ttrpc::Error) -> Self {
        match error {
            ttrpc::Error::RpcStatus(status) => {
                Self { code: format!("{:?}", status.code()), message: status.message().to_owned() }
            }
            other => Self { code: "TRANSPORT".into(), message: other.to_string() },
        }
    }
}

/// `unix://…`, as ttrpc wants it.
pub(crate) fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("unix://{address}") }
}

impl TaskClient {
    /// Connects to the socket at `address` (a path, with or without `unix://`). Calls other than `wait` give up after `timeout`.
    pub async fn connect(address: &str, timeout: Duration) -> Result<Self, CallError> {
        let client = Client::connect(&with_scheme(address)).await?;
        Ok(Self { task: TaskStub::new(client), timeout })
    }

    fn context(&self) -> context::Context {
        context::with_duration(self.timeout)
    }

    /// `Create`, with `mounts` as `(type, source, options)`; the answer is the pid.
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

    /// `Exec`, with the process's specification as JSON.
    pub async fn exec(
        &self,
        id: &str,
        exec: &str,
        spec: &str,
        stdio: &StdioPaths,
    ) -> Result<(), CallError> {
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

    /// `Start`; the answer is the pid.
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
        let status = state
            .status
            .enum_value()
            .map_or_else(|n| n.to_string(), |status| format!("{status:?}"));
        Ok(TaskState { status, pid: state.pid, exit_status: state.exit_status })
    }

    /// `Wait`, for as long as it takes; the answer is the exit status.
    pub async fn wait(&self, process: impl Into<Target<'_>>) -> Result<u32, CallError> {
        let (id, exec_id) = process.into().owned();
        let request = WaitRequest { id, exec_id, ..Default::default() };
        Ok(self.task.wait(context::with_timeout(0), &request).await?.exit_status)
    }

    /// `Kill`.
    pub async fn kill(&self, process: impl Into<Target<'_>>, signal: u32) -> Result<(), CallError> {
        let (id, exec_id) = process.into().owned();
        let request = KillRequest { id, exec_id, signal, ..Default::default() };
        self.task.kill(self.context(), &request).await?;
        Ok(())
    }

    /// `Kill` of all processes.
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

    /// `CloseIO` of stdin.
    pub async fn close_stdin(&self, process: impl Into<Target<'_>>) -> Result<(), CallError> {
        let (id, exec_id) = process.into().owned();
        let request = CloseIORequest { id, exec_id, stdin: true, ..Default::default() };
        self.task.close_io(self.context(), &request).await?;
        Ok(())
    }

    /// `Delete`; the answer is pid and exit status.
    pub async fn delete(&self, process: impl Into<Target<'_>>) -> Result<(u32, u32), CallError> {
        let (id, exec_id) = process.into().owned();
        let request = DeleteRequest { id, exec_id, ..Default::default() };
        let answer = self.task.delete(self.context(), &request).await?;
        Ok((answer.pid, answer.exit_status))
    }

    /// `Connect`; the answer is the shim's and the task's pid.
    pub async fn connect_task(&self, id: &str) -> Result<(u32, u32), CallError> {
        let request = ConnectRequest { id: id.to_owned(), ..Default::default() };
        let answer = self.task.connect(self.context(), &request).await?;
        Ok((answer.shim_pid, answer.task_pid))
    }

    /// `Pids`.
    pub async fn pids(&self, id: &str) -> Result<Vec<u32>, CallError> {
        let answer = self
            .task
            .pids(self.context(), &PidsRequest { id: id.to_owned(), ..Default::default() })
            .await?;
        Ok(answer.processes.iter().map(|process| process.pid).collect())
    }

    /// `Stats`: the name of the metrics message.
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
