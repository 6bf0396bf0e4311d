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
    engine::signal::Signal,
    id::Id,
    sandbox::{Sandbox, create::Creation},
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

fn container(id: &str) -> ttrpc::Result<Id> {
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
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.state(context, &request).await;
        }
        Ok(convert::state_response(
            &self.sandbox.state(&container(&request.id)?, &request.exec_id)?,
        ))
    }

    async fn create(
        &self,
        context: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> ttrpc::Result<CreateTaskResponse> {
        let span = rpc("create", &request.id);
        let parent = SpanContext::of_metadata(&context.metadata);
        let wanted = convert::create_request(request.clone(), parent)?;
        match self.sandbox.create(wanted).instrument(span).await? {
            Creation::Done(pid) => Ok(CreateTaskResponse { pid, ..Default::default() }),
            Creation::Native(place) => {
                native::create(&self.sandbox, *place, context, request).await
            }
        }
    }

    async fn start(
        &self,
        context: &TtrpcContext,
        request: StartRequest,
    ) -> ttrpc::Result<StartResponse> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.start(context, &request).await;
        }
        let span = rpc("start", &request.id);
        let pid =
            self.sandbox.start(&container(&request.id)?, &request.exec_id).instrument(span).await?;
        Ok(StartResponse { pid, ..Default::default() })
    }

    async fn delete(
        &self,
        context: &TtrpcContext,
        request: DeleteRequest,
    ) -> ttrpc::Result<DeleteResponse> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.delete(context, &request).await;
        }
        let span = rpc("delete", &request.id);
        let (pid, exit) = self
            .sandbox
            .delete(&container(&request.id)?, &request.exec_id, time_for_hooks(context))
            .instrument(span)
            .await?;
        Ok(convert::delete_response(pid, exit))
    }

    async fn pids(
        &self,
        context: &TtrpcContext,
        request: PidsRequest,
    ) -> ttrpc::Result<PidsResponse> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.pids(context, &request).await;
        }
        // The init is listed even if it is stopped: containerd takes an empty answer for a leaked
        // shim and forgets the exit status.
        let processes = self.sandbox.processes(&container(&request.id)?)?;
        let infos = processes
            .iter()
            .filter(|process| process.info().exec.is_none() || process.is_running());
        let processes =
            infos.map(|process| convert::process_info(process.info())).collect::<Result<_, _>>()?;
        Ok(PidsResponse { processes, ..Default::default() })
    }

    async fn pause(&self, context: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Pause", context, &request).await;
        }
        self.sandbox.pause(&container(&request.id)?).instrument(rpc("pause", &request.id)).await?;
        Ok(Empty::default())
    }

    async fn resume(&self, context: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Resume", context, &request).await;
        }
        self.sandbox
            .resume(&container(&request.id)?)
            .instrument(rpc("resume", &request.id))
            .await?;
        Ok(Empty::default())
    }

    async fn checkpoint(
        &self,
        context: &TtrpcContext,
        request: CheckpointTaskRequest,
    ) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Checkpoint", context, &request).await;
        }
        unsupported("checkpoint", "a guest's state cannot be written down")
    }

    async fn kill(&self, context: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Kill", context, &request).await;
        }
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
        let id = container(&request.id)?;
        // An exec has no processes besides itself, so `all` counts for the init only.
        match (request.all, request.exec_id.as_str()) {
            (true, "") => self.sandbox.kill_all(&id, signal).await?,
            (_, exec) => self.sandbox.kill(&id, exec, signal).await?,
        }
        Ok(Empty::default())
    }

    async fn exec(
        &self,
        context: &TtrpcContext,
        request: ExecProcessRequest,
    ) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.exec(context, &request).await;
        }
        let span = rpc("exec", &request.id);
        let id = container(&request.id)?;
        self.sandbox.exec(&id, convert::exec_request(request)?).instrument(span).await?;
        Ok(Empty::default())
    }

    async fn resize_pty(
        &self,
        context: &TtrpcContext,
        request: ResizePtyRequest,
    ) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("ResizePty", context, &request).await;
        }
        let size = convert::size(&request)?;
        self.sandbox.resize(&container(&request.id)?, &request.exec_id, size)?;
        Ok(Empty::default())
    }

    async fn close_io(
        &self,
        context: &TtrpcContext,
        request: CloseIORequest,
    ) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("CloseIO", context, &request).await;
        }
        let id = container(&request.id)?;
        if request.stdin {
            self.sandbox.close_stdin(&id, &request.exec_id).await?;
        }
        Ok(Empty::default())
    }

    async fn update(
        &self,
        context: &TtrpcContext,
        request: UpdateTaskRequest,
    ) -> ttrpc::Result<Empty> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Update", context, &request).await;
        }
        // The type is that of the OCI spec's `LinuxResources`. Only the value counts, as in
        // containerd's own shims.
        let json = request.resources.into_option().map(|any| any.value).unwrap_or_default();
        self.sandbox.update(&container(&request.id)?, ResourcesConfig::parse(&json)?).await?;
        Ok(Empty::default())
    }

    async fn wait(
        &self,
        context: &TtrpcContext,
        request: WaitRequest,
    ) -> ttrpc::Result<WaitResponse> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.wait(context, &request).await;
        }
        let exit = self.sandbox.wait(&container(&request.id)?, &request.exec_id).await?;
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
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Stats", context, &request).await;
        }
        let usage = self.sandbox.usage(&container(&request.id)?)?;
        let stats = metrics::metrics(version::host_cgroups(), &usage)?;
        Ok(StatsResponse { stats: MessageField::some(stats), ..Default::default() })
    }

    async fn connect(
        &self,
        context: &TtrpcContext,
        request: ConnectRequest,
    ) -> ttrpc::Result<ConnectResponse> {
        if let Some(native) = Native::find(&self.sandbox, &request.id) {
            return native.forward("Connect", context, &request).await;
        }
        // Only the form of the id is checked: containerd asks with that of any container of the
        // sandbox, also before its creation.
        container(&request.id)?;
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
