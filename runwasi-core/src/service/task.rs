//! containerd's Task service, versions 2 and 3.
//!
//! The messages of both are wire compatible, so one implementation is registered under both names.
//! containerd before 2.0 asks for v2, later releases for the version that `start` has told them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use containerd_shim_protos::{
    api::{
        CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
        CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
        PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
        StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
        UpdateTaskRequest, WaitRequest, WaitResponse,
    },
    protobuf::MessageField,
    shim_async::{Task, create_task},
    ttrpc::{
        self, Code,
        r#async::{Service, TtrpcContext},
    },
};
use tracing::Instrument;

use super::{
    convert, metrics,
    native::{self, Native},
    rpc,
    status::error,
};
use crate::{
    bundle::resources::ResourcesConfig,
    cgroups::version,
    container::Container,
    engine::signal::Signal,
    id::Id,
    sandbox::{Member, Sandbox, create::Creation, error::SandboxError},
    traces::context::SpanContext,
};

/// The name that containerd before 2.0 asks for.
pub(crate) const TASK_V2: &str = "containerd.task.v2.Task";

/// The service, under the name of version 3.
pub(crate) fn services(sandbox: &Sandbox) -> HashMap<String, Service> {
    create_task(Arc::new(TaskService { sandbox: sandbox.clone() }))
}

struct TaskService {
    sandbox: Sandbox,
}

/// The container that a call is for.
enum Callee {
    /// The engine runs it.
    Guest(Arc<Container>),
    /// Its delegate answers.
    Native(Native),
}

impl TaskService {
    /// The container of a call. It is looked up once for each call.
    fn find(&self, id: &str) -> ttrpc::Result<Callee> {
        match self.sandbox.find(id) {
            Some(Member::Guest(guest)) => Ok(Callee::Guest(guest)),
            Some(Member::Native(native)) => Ok(Callee::Native(Native::new(&self.sandbox, native))),
            None => Err(SandboxError::NotFound { id: container_id(id)? }.into()),
        }
    }
}

fn container_id(id: &str) -> ttrpc::Result<Id> {
    Ok(Id::parse("container id", id)?)
}

/// Time for the `poststop` hooks of a `Delete`: two thirds of what the caller waits for the answer.
/// No limit for a caller without a timeout.
// The rest is for the unmounting before and the answer after. Hooks that took all of it would be
// left running without a caller.
fn time_for_hooks(context: &TtrpcContext) -> Option<Duration> {
    let timeout = u64::try_from(context.timeout_nano).ok().filter(|timeout| *timeout > 0)?;
    Some(Duration::from_nanos(timeout) * 2 / 3)
}

fn unsupported<T>(what: &str, why: &str) -> ttrpc::Result<T> {
    Err(error(Code::UNIMPLEMENTED, format!("{what} is not supported: {why}")))
}

#[async_trait]
impl Task for TaskService {
    async fn state(
        &self,
        context: &TtrpcContext,
        request: StateRequest,
    ) -> ttrpc::Result<StateResponse> {
        match self.find(&request.id)? {
            Callee::Native(native) => native.state(context, &request).await,
            Callee::Guest(guest) => {
                let process = self.sandbox.state(&guest, &request.exec_id)?;
                Ok(convert::state_response(&guest, &process))
            }
        }
    }

    async fn create(
        &self,
        context: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let span = rpc("create", &request.id);
        let parent = SpanContext::of_metadata(&context.metadata);
        let wanted = convert::create_request(&request, parent)?;
        match self.sandbox.create(wanted).instrument(span.clone()).await? {
            Creation::Done(pid) => Ok(CreateTaskResponse { pid, ..Default::default() }),
            Creation::Native(plan) => {
                native::create(&self.sandbox, *plan, context, request).instrument(span).await
            }
        }
    }

    async fn start(
        &self,
        context: &TtrpcContext,
        request: StartRequest,
    ) -> ttrpc::Result<StartResponse> {
        let span = rpc("start", &request.id);
        match self.find(&request.id)? {
            Callee::Native(native) => native.start(context, &request).await,
            Callee::Guest(guest) => {
                let started = self.sandbox.start(&guest, &request.exec_id);
                let pid = started.instrument(span).await?;
                Ok(StartResponse { pid, ..Default::default() })
            }
        }
    }

    async fn delete(
        &self,
        context: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        let span = rpc("delete", &request.id);
        match self.find(&request.id)? {
            Callee::Native(native) => native.delete(context, request).await,
            Callee::Guest(guest) => {
                let patience = time_for_hooks(context);
                let deleted = self.sandbox.delete(&guest, &request.exec_id, patience);
                let (pid, exit) = deleted.instrument(span).await?;
                Ok(convert::delete_response(pid, exit))
            }
        }
    }

    async fn pids(
        &self,
        context: &TtrpcContext,
        request: PidsRequest,
    ) -> ttrpc::Result<PidsResponse> {
        let guest = match self.find(&request.id)? {
            Callee::Native(native) => return native.pids(context, &request).await,
            Callee::Guest(guest) => guest,
        };
        // The init is listed even if it is stopped: containerd takes an empty answer for a leaked
        // shim and forgets the exit status.
        let listed = guest
            .processes()
            .filter(|process| process.info().exec.is_none() || process.is_running());
        let processes = listed
            .map(|process| convert::process_info(process.info()))
            .collect::<Result<_, _>>()?;
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, context: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        let span = rpc("pause", &request.id);
        match self.find(&request.id)? {
            Callee::Native(native) => native.forward("Pause", context, &request).await,
            Callee::Guest(guest) => {
                self.sandbox.pause(&guest).instrument(span).await?;
                Ok(Empty::default())
            }
        }
    }

    async fn resume(&self, context: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        let span = rpc("resume", &request.id);
        match self.find(&request.id)? {
            Callee::Native(native) => native.forward("Resume", context, &request).await,
            Callee::Guest(guest) => {
                self.sandbox.resume(&guest).instrument(span).await?;
                Ok(Empty::default())
            }
        }
    }

    async fn checkpoint(
        &self,
        context: &TtrpcContext,
        request: CheckpointTaskRequest,
    ) -> ttrpc::Result<Empty> {
        if let Some(Member::Native(native)) = self.sandbox.find(&request.id) {
            let native = Native::new(&self.sandbox, native);
            return native.forward("Checkpoint", context, &request).await;
        }
        unsupported("checkpoint", "a guest's state cannot be written down")
    }

    async fn kill(&self, context: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let guest = match self.find(&request.id)? {
            Callee::Native(native) => return native.forward("Kill", context, &request).await,
            Callee::Guest(guest) => guest,
        };
        let invalid = || {
            error(
                Code::INVALID_ARGUMENT,
                format!("signal {} is not between 0 and 64", request.signal),
            )
        };
        let signal = match request.signal {
            0 => None,
            number => Some(Signal::new(number).ok_or_else(invalid)?),
        };
        // An exec has no processes besides itself, so `all` counts for the init only.
        match (request.all, request.exec_id.as_str()) {
            (true, "") => self.sandbox.kill_all(&guest, signal).await?,
            (_, exec) => self.sandbox.kill(&guest, exec, signal).await?,
        }
        Ok(Empty::default())
    }

    async fn exec(
        &self,
        context: &TtrpcContext,
        request: ExecProcessRequest,
    ) -> ttrpc::Result<Empty> {
        let span = rpc("exec", &request.id);
        match self.find(&request.id)? {
            Callee::Native(native) => native.exec(context, &request).await,
            Callee::Guest(guest) => {
                let parent = SpanContext::of_metadata(&context.metadata);
                let wanted = convert::exec_request(request, parent)?;
                self.sandbox.exec(&guest, wanted).instrument(span).await?;
                Ok(Empty::default())
            }
        }
    }

    async fn resize_pty(
        &self,
        context: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        match self.find(&request.id)? {
            Callee::Native(native) => native.forward("ResizePty", context, &request).await,
            Callee::Guest(guest) => {
                let size = convert::size(&request)?;
                self.sandbox.resize(&guest, &request.exec_id, size)?;
                Ok(Empty::default())
            }
        }
    }

    async fn close_io(
        &self,
        context: &TtrpcContext,
        request: CloseIORequest,
    ) -> ttrpc::Result<Empty> {
        match self.find(&request.id)? {
            Callee::Native(native) => native.forward("CloseIO", context, &request).await,
            Callee::Guest(guest) => {
                if request.stdin {
                    self.sandbox.close_stdin(&guest, &request.exec_id).await?;
                }
                Ok(Empty::default())
            }
        }
    }

    async fn update(
        &self,
        context: &TtrpcContext,
        request: UpdateTaskRequest,
    ) -> ttrpc::Result<Empty> {
        let guest = match self.find(&request.id)? {
            Callee::Native(native) => return native.forward("Update", context, &request).await,
            Callee::Guest(guest) => guest,
        };
        // The type is that of the OCI spec's `LinuxResources`. Only the value counts, as in
        // containerd's own shims.
        let json = request.resources.into_option().map(|any| any.value).unwrap_or_default();
        self.sandbox.update(&guest, ResourcesConfig::parse(&json)?).await?;
        Ok(Empty::default())
    }

    async fn wait(
        &self,
        context: &TtrpcContext,
        request: WaitRequest,
    ) -> ttrpc::Result<WaitResponse> {
        let guest = match self.find(&request.id)? {
            Callee::Native(native) => return native.wait(context, &request).await,
            Callee::Guest(guest) => guest,
        };
        let exit = self.sandbox.wait(&guest, &request.exec_id).await?;
        Ok(WaitResponse {
            exit_status: exit.status.get(),
            exited_at: convert::timestamp(exit.at),
            ..Default::default()
        })
    }

    async fn stats(
        &self,
        context: &TtrpcContext,
        request: StatsRequest,
    ) -> ttrpc::Result<StatsResponse> {
        match self.find(&request.id)? {
            Callee::Native(native) => native.forward("Stats", context, &request).await,
            Callee::Guest(guest) => {
                let stats = metrics::metrics(version::host_cgroups(), &guest.usage())?;
                Ok(StatsResponse { stats: MessageField::some(stats), ..Default::default() })
            }
        }
    }

    async fn connect(
        &self,
        context: &TtrpcContext,
        request: ConnectRequest,
    ) -> ttrpc::Result<ConnectResponse> {
        if let Some(Member::Native(native)) = self.sandbox.find(&request.id) {
            let native = Native::new(&self.sandbox, native);
            return native.forward("Connect", context, &request).await;
        }
        // Only the form of the id is checked: containerd asks with that of any container of the
        // sandbox, also before its creation.
        container_id(&request.id)?;
        let shim_pid = std::process::id();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(ConnectResponse {
            shim_pid,
            task_pid: self.sandbox.pid(),
            version,
            ..Default::default()
        })
    }

    async fn shutdown(&self, _: &TtrpcContext, request: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.sandbox.shutdown(&request.id).instrument(rpc("shutdown", &request.id)).await;
        Ok(Empty::default())
    }
}
