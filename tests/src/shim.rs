//! The ttrpc socket of a shim: the calls containerd makes, each with a deadline; used by `shim_driver`'s tests.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty,
    ExecProcessRequest, KillRequest, Mount, ShutdownRequest, StartRequest, StartResponse,
    StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::ttrpc::proto::{KeyValue, Request, Status};
use containerd_shim_protos::ttrpc::{self, Client};
use serde_json::json;

/// For calls that should take milliseconds.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The task service every containerd up to 2.0 asks for.
pub const TASK_V2: &str = "containerd.task.v2.Task";
/// The task service newer containerds ask for.
pub const TASK_V3: &str = "containerd.task.v3.Task";
/// The service by which containerd manages a sandbox.
pub const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// A connection to a shim's socket.
#[derive(Clone)]
pub struct TaskClient {
    client: Client,
    service: &'static str,
}

impl TaskClient {
    /// Connects to `unix://…`.
    pub fn connect(address: &str) -> Result<Self> {
        let client =
            Client::connect(address).with_context(|| format!("cannot connect to {address:?}"))?;
        Ok(Self { client, service: TASK_V2 })
    }

    /// The same connection, asking for another service name.
    pub fn speaking(&self, service: &'static str) -> Self {
        Self { client: self.client.clone(), service }
    }

    /// One call; a missed deadline is an error like any other and names the method.
    pub fn call<A: Message>(
        &self,
        method: &str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<A, ttrpc::Error> {
        self.call_with(method, request, &[], limit)
    }

    /// The same with metadata, such as that of traces.
    pub fn call_with<A: Message>(
        &self,
        method: &str,
        request: &impl Message,
        metadata: &[(&str, &str)],
        limit: Duration,
    ) -> Result<A, ttrpc::Error> {
        let mut message = Request::new();
        message.metadata = metadata.iter().map(|(key, value)| pair(key, value)).collect();
        message.service = self.service.to_owned();
        message.method = method.to_owned();
        message.timeout_nano = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        message.payload =
            request.write_to_bytes().map_err(|error| ttrpc::Error::Others(error.to_string()))?;
        let answer = self.client.request(message)?;
        A::parse_from_bytes(&answer.payload)
            .map_err(|error| ttrpc::Error::Others(error.to_string()))
    }

    /// `Create` without stdio; `rootfs` is what the shim mounts at the bundle's rootfs.
    pub fn create(
        &self,
        id: &str,
        bundle: &Path,
        rootfs: &[Mount],
    ) -> Result<CreateTaskResponse, ttrpc::Error> {
        let mut request = CreateTaskRequest::new();
        request.id = id.to_owned();
        request.bundle = bundle.to_string_lossy().into_owned();
        request.rootfs = rootfs.to_vec();
        self.call("Create", &request, LIMIT)
    }

    /// `Create` with a root file system that is there already, and runtime options.
    pub fn create_with_options(
        &self,
        id: &str,
        bundle: &Path,
        options: Option<Any>,
    ) -> Result<CreateTaskResponse, ttrpc::Error> {
        let mut request = CreateTaskRequest::new();
        request.id = id.to_owned();
        request.bundle = bundle.to_string_lossy().into_owned();
        request.options = options.into();
        self.call("Create", &request, LIMIT)
    }

    /// `Create` with a root file system that is there already, and stdout at a path.
    pub fn create_with_output(
        &self,
        id: &str,
        bundle: &Path,
        stdout: &Path,
    ) -> Result<CreateTaskResponse, ttrpc::Error> {
        let mut request = CreateTaskRequest::new();
        request.id = id.to_owned();
        request.bundle = bundle.to_string_lossy().into_owned();
        request.stdout = stdout.to_string_lossy().into_owned();
        self.call("Create", &request, LIMIT)
    }

    /// `Start` of the init process.
    pub fn start(&self, id: &str) -> Result<StartResponse, ttrpc::Error> {
        let mut request = StartRequest::new();
        request.id = id.to_owned();
        self.call("Start", &request, LIMIT)
    }

    /// `Wait` for the init process.
    pub fn wait(&self, id: &str) -> Result<WaitResponse, ttrpc::Error> {
        let mut request = WaitRequest::new();
        request.id = id.to_owned();
        self.call("Wait", &request, LIMIT)
    }

    /// `Kill` of the init process.
    pub fn kill(&self, id: &str, signal: u32) -> Result<Empty, ttrpc::Error> {
        let mut request = KillRequest::new();
        request.id = id.to_owned();
        request.signal = signal;
        self.call("Kill", &request, LIMIT)
    }

    /// `Delete` of the init process.
    pub fn delete(&self, id: &str) -> Result<DeleteResponse, ttrpc::Error> {
        let mut request = DeleteRequest::new();
        request.id = id.to_owned();
        self.call("Delete", &request, LIMIT)
    }

    /// `Exec`: adds a process with these arguments.
    pub fn exec(&self, id: &str, exec: &str, args: &[&str]) -> Result<Empty, ttrpc::Error> {
        let process = json!({ "cwd": "/", "args": args, "user": { "uid": 0, "gid": 0 } });
        let mut request = ExecProcessRequest::new();
        request.id = id.to_owned();
        request.exec_id = exec.to_owned();
        let spec = Any { value: process.to_string().into_bytes(), ..Any::new() };
        request.spec = MessageField::some(spec);
        self.call("Exec", &request, LIMIT)
    }

    /// `State`; of the init process if `exec` is empty.
    pub fn state(&self, id: &str, exec: &str) -> Result<StateResponse, ttrpc::Error> {
        let mut request = StateRequest::new();
        request.id = id.to_owned();
        request.exec_id = exec.to_owned();
        self.call("State", &request, LIMIT)
    }

    /// `Shutdown`, which containerd sends after each container's removal. The shim may be gone before it can answer.
    pub fn shutdown(&self, id: &str) {
        let mut request = ShutdownRequest::new();
        request.id = id.to_owned();
        drop(self.call::<Empty>("Shutdown", &request, LIMIT));
    }
}

fn pair(key: &str, value: &str) -> KeyValue {
    let mut pair = KeyValue::new();
    pair.key = key.to_owned();
    pair.value = value.to_owned();
    pair
}

/// What a shim said when it refused, or the transport's error.
pub fn reason(error: &ttrpc::Error) -> String {
    match error {
        ttrpc::Error::RpcStatus(Status { message, .. }) => message.clone(),
        other => other.to_string(),
    }
}

/// A bind mount as containerd hands one over for the rootfs.
pub fn bind(source: &Path) -> Mount {
    let mut mount = Mount::new();
    mount.type_ = "bind".to_owned();
    mount.source = source.to_string_lossy().into_owned();
    mount.options = vec!["rbind".to_owned(), "rw".to_owned()];
    mount
}
