//! A shim driven as containerd drives it, by its command line and its ttrpc socket; called by tests for what `ctr` cannot ask for.
//!
//! [`Player`] plays containerd without being one: what a shim asks of it is answered by [`Sink`] alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, KillRequest, Mount, ShutdownRequest,
    StartRequest, StartResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::{Request, Status};
use containerd_shim_protos::ttrpc::{self, Client};

use crate::bundle::Bundle;
use crate::command::{Command, Output};
use crate::proc::Shim;
use crate::runtime::Runtime;
use crate::sink::Sink;
use crate::traces::{self, Traces};

/// For calls that should take milliseconds.
pub const LIMIT: Duration = Duration::from_secs(10);
/// The task service every containerd up to 2.0 asks for.
pub const TASK_V2: &str = "containerd.task.v2.Task";
/// The task service newer containerds ask for.
pub const TASK_V3: &str = "containerd.task.v3.Task";

/// containerd's part of the conversation with one shim program, in a directory of its own.
#[derive(Debug)]
pub struct Player {
    traces: Traces,
    program: PathBuf,
    // None when it plays a containerd that is away.
    sink: Option<Sink>,
}

/// A connection to a shim's socket.
#[derive(Clone)]
pub struct TaskClient {
    client: Client,
    service: &'static str,
}

impl Player {
    /// Prepares to drive the shim of `runtime`.
    pub fn new(runtime: Runtime) -> Result<Self> {
        let mut player = Self::away(runtime)?;
        player.sink = Some(Sink::listen(&player.events_address())?);
        Ok(player)
    }

    /// The same with nobody at the address where events go.
    pub fn away(runtime: Runtime) -> Result<Self> {
        let program = match runtime.program_file() {
            Some(file) => file
                .canonicalize()
                .with_context(|| format!("{} is missing: `make build` makes it", file.display()))?,
            None => Path::new("/usr/bin").join(runtime.shim()),
        };
        Ok(Self {
            traces: Traces::new()?,
            program,
            sink: None,
        })
    }

    /// The containerd namespace of this player.
    pub fn namespace(&self) -> &str {
        self.traces.namespace()
    }

    /// The shim's program file.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// A directory for what a test needs besides bundles; removed with the player.
    pub fn dir(&self) -> &Path {
        self.traces.dir()
    }

    /// A bundle for container `id` that runs `args`.
    pub fn bundle(&self, id: &str, args: &[&str]) -> Result<Bundle> {
        let cgroup = format!("/{}/{id}", self.namespace());
        Bundle::create(self.dir().join("b").join(id), args, &cgroup)
    }

    /// The shim's `start` for container `id`, with the bundle as working directory.
    pub fn start(&self, id: &str, bundle: &Path) -> Result<Output> {
        self.command(id, bundle).args(["start"]).run()
    }

    /// The shim's `delete` for container `id`.
    pub fn delete(&self, id: &str, bundle: &Path) -> Result<Output> {
        let bundle_arg = bundle.to_string_lossy().into_owned();
        self.command(id, bundle).args(["-bundle", &bundle_arg, "delete"]).run()
    }

    /// Starts a shim and connects to the address it printed.
    pub fn connect(&self, id: &str, bundle: &Path) -> Result<TaskClient> {
        let started = self.start(id, bundle)?.ok()?;
        TaskClient::connect(started.out().trim())
    }

    /// Shims of this player that run now.
    pub fn shims(&self) -> Vec<Shim> {
        self.traces.shims()
    }

    /// The socket file of a group.
    pub fn socket(&self, group: &str) -> PathBuf {
        self.traces.socket(group)
    }

    /// Shims, socket files and mounts that exist now, one a line.
    pub fn leftovers(&self) -> Vec<String> {
        self.traces.left()
    }

    /// Waits until shims, socket files and mounts are gone.
    pub fn becomes_clean(&self) -> Result<()> {
        traces::becomes_clean(|| self.leftovers())
    }

    /// Event topics heard so far, in order.
    pub fn topics(&self) -> Vec<String> {
        self.sink.as_ref().map(Sink::topics).unwrap_or_default()
    }

    /// What containerd does after a container's end or failed creation: shut the shim down, run its `delete`.
    pub fn finish(&self, client: &TaskClient, id: &str, bundle: &Path) -> Result<DeleteResponse> {
        client.shutdown(id);
        let answer = self.delete(id, bundle)?.ok()?;
        DeleteResponse::parse_from_bytes(&answer.stdout).with_context(|| format!("not a DeleteResponse: {answer}"))
    }

    fn events_address(&self) -> PathBuf {
        self.dir().join("c.sock.ttrpc")
    }

    /// The shim's program with the flags containerd gives it, to add a subcommand to.
    pub fn command(&self, id: &str, bundle: &Path) -> Command {
        self.traces.name(id);
        let address = self.traces.address().to_string_lossy().into_owned();
        let place = ["-namespace", self.namespace(), "-address", &address];
        Command::new(&self.program)
            .args(place)
            .args(["-publish-binary", "/bin/true", "-id", id])
            .env("TTRPC_ADDRESS", self.events_address())
            .current_dir(bundle)
            // Far above what a start takes and below what a user would call hung.
            .deadline(LIMIT)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let mut faults = match self.becomes_clean() {
            Ok(()) => Vec::new(),
            Err(_) => self.leftovers(),
        };
        faults.extend(self.traces.sweep());
        self.traces.report(&faults);
    }
}

impl TaskClient {
    /// Connects to `unix://…`.
    pub fn connect(address: &str) -> Result<Self> {
        let client = Client::connect(address).with_context(|| format!("cannot connect to {address:?}"))?;
        Ok(Self {
            client,
            service: TASK_V2,
        })
    }

    /// The same connection, asking for another service name.
    pub fn speaking(&self, service: &'static str) -> Self {
        Self {
            client: self.client.clone(),
            service,
        }
    }

    /// One call; a missed deadline is an error like any other and names the method.
    pub fn call<A: Message>(&self, method: &str, request: &impl Message, limit: Duration) -> Result<A, ttrpc::Error> {
        let mut message = Request::new();
        message.service = self.service.to_owned();
        message.method = method.to_owned();
        message.timeout_nano = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        message.payload = request
            .write_to_bytes()
            .map_err(|error| ttrpc::Error::Others(error.to_string()))?;
        let answer = self.client.request(message)?;
        A::parse_from_bytes(&answer.payload).map_err(|error| ttrpc::Error::Others(error.to_string()))
    }

    /// `Create` without stdio; `rootfs` is what the shim mounts at the bundle's rootfs.
    pub fn create(&self, id: &str, bundle: &Path, rootfs: &[Mount]) -> Result<CreateTaskResponse, ttrpc::Error> {
        let mut request = CreateTaskRequest::new();
        request.id = id.to_owned();
        request.bundle = bundle.to_string_lossy().into_owned();
        request.rootfs = rootfs.to_vec();
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

    /// `Shutdown`, which containerd sends after each container's removal. The shim may be gone before it can answer.
    pub fn shutdown(&self, id: &str) {
        let mut request = ShutdownRequest::new();
        request.id = id.to_owned();
        drop(self.call::<Empty>("Shutdown", &request, LIMIT));
    }
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
