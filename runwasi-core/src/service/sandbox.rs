//! containerd's Sandbox API (`containerd.runtime.sandbox.v1.Sandbox`), for managed sandboxes.
//!
//! It is served beside the Task service, since the containers of the sandbox come by the same
//! socket. The names of the states are those that containerd's CRI compares with. They appear in no
//! other place of the contract.

use std::{
    collections::HashMap,
    env::consts::ARCH,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use containerd_shim_protos::{
    protobuf::MessageField,
    sandbox_api::{
        CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest,
        PlatformResponse, SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest,
        SandboxStatusResponse, ShutdownSandboxRequest, ShutdownSandboxResponse,
        StartSandboxRequest, StartSandboxResponse, StopSandboxRequest, StopSandboxResponse,
        WaitSandboxRequest, WaitSandboxResponse,
    },
    sandbox_async::{Sandbox as SandboxApi, create_sandbox},
    ttrpc::{
        self,
        r#async::{Service, TtrpcContext},
    },
    types::platform::Platform,
};
use serde_json::json;
use tracing::Instrument;

use super::{convert, metrics, native_usage, pod, rpc};
use crate::{
    cgroups::version,
    id::Id,
    sandbox::{
        Sandbox,
        lifecycle::{LifecycleStatus, Phase},
        managed::SandboxRequest,
    },
};

/// The service.
pub(crate) fn services(sandbox: &Sandbox) -> HashMap<String, Service> {
    create_sandbox(Arc::new(SandboxService { sandbox: sandbox.clone() }))
}

struct SandboxService {
    sandbox: Sandbox,
}

impl SandboxService {
    fn status(&self, id: &str) -> ttrpc::Result<LifecycleStatus> {
        Ok(self.sandbox.sandbox_status(&sandbox_id(id)?)?)
    }

    /// Details for `crictl inspectp`: JSON under the name that the CRI has for it.
    fn info(&self) -> HashMap<String, String> {
        let info = json!({ "pid": self.sandbox.pid(), "containers": self.sandbox.count() });
        HashMap::from([("info".to_owned(), info.to_string())])
    }
}

fn sandbox_id(id: &str) -> ttrpc::Result<Id> {
    Ok(Id::parse("sandbox id", id)?)
}

/// The architecture by its name in Go, which the platform of an image uses.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        // riscv64 and s390x have the same name in Go.
        other => other,
    }
}

#[async_trait]
impl SandboxApi for SandboxService {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> ttrpc::Result<CreateSandboxResponse> {
        let id = sandbox_id(&request.sandbox_id)?;
        // A path is empty if there is none, as that of a pod in the host's network.
        let path = |path: String| Some(path).filter(|path| !path.is_empty()).map(PathBuf::from);
        let wanted = SandboxRequest {
            bundle: path(request.bundle_path),
            network: path(request.netns_path),
            pod: request.options.as_ref().map_or(Ok(None), pod::config)?,
        };
        self.sandbox
            .create_sandbox(&id, wanted)
            .instrument(rpc("create_sandbox", &request.sandbox_id))
            .await?;
        Ok(CreateSandboxResponse::default())
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> ttrpc::Result<StartSandboxResponse> {
        let status = self.sandbox.start_sandbox(&sandbox_id(&request.sandbox_id)?)?;
        let created_at = convert::timestamp(status.created);
        Ok(StartSandboxResponse { pid: self.sandbox.pid(), created_at, ..Default::default() })
    }

    async fn platform(
        &self,
        _: &TtrpcContext,
        request: PlatformRequest,
    ) -> ttrpc::Result<PlatformResponse> {
        self.status(&request.sandbox_id)?;
        let platform = Platform {
            os: "linux".to_owned(),
            architecture: architecture().to_owned(),
            ..Default::default()
        };
        Ok(PlatformResponse { platform: MessageField::some(platform), ..Default::default() })
    }

    async fn stop_sandbox(
        &self,
        _: &TtrpcContext,
        request: StopSandboxRequest,
    ) -> ttrpc::Result<StopSandboxResponse> {
        let id = sandbox_id(&request.sandbox_id)?;
        let time = Duration::from_secs(request.timeout_secs.into());
        self.sandbox
            .stop_sandbox(&id, time)
            .instrument(rpc("stop_sandbox", &request.sandbox_id))
            .await?;
        Ok(StopSandboxResponse::default())
    }

    async fn wait_sandbox(
        &self,
        _: &TtrpcContext,
        request: WaitSandboxRequest,
    ) -> ttrpc::Result<WaitSandboxResponse> {
        let at = self.sandbox.wait_sandbox(&sandbox_id(&request.sandbox_id)?).await?;
        Ok(WaitSandboxResponse {
            // A sandbox without a process of its own has no other status.
            exit_status: 0,
            exited_at: convert::timestamp(at),
            ..Default::default()
        })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> ttrpc::Result<SandboxStatusResponse> {
        let status = self.status(&request.sandbox_id)?;
        // The CRI has two states only, for all of ours.
        let (state, exited_at) = match status.phase {
            Phase::Creating | Phase::Created | Phase::Stopping => {
                ("SANDBOX_NOTREADY", MessageField::none())
            }
            Phase::Ready => ("SANDBOX_READY", MessageField::none()),
            Phase::Stopped { at } => ("SANDBOX_NOTREADY", convert::timestamp(at)),
        };
        let info = if request.verbose { self.info() } else { HashMap::new() };
        Ok(SandboxStatusResponse {
            info,
            sandbox_id: request.sandbox_id,
            pid: self.sandbox.pid(),
            state: state.to_owned(),
            created_at: convert::timestamp(status.created),
            exited_at,
            ..Default::default()
        })
    }

    async fn ping_sandbox(
        &self,
        _: &TtrpcContext,
        request: PingRequest,
    ) -> ttrpc::Result<PingResponse> {
        // A ping succeeds if the sandbox exists, in any phase.
        self.status(&request.sandbox_id)?;
        Ok(PingResponse::default())
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> ttrpc::Result<ShutdownSandboxResponse> {
        self.sandbox.shutdown_sandbox(&sandbox_id(&request.sandbox_id)?)?;
        Ok(ShutdownSandboxResponse::default())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> ttrpc::Result<SandboxMetricsResponse> {
        self.status(&request.sandbox_id)?;
        let usage = native_usage::usage_of_all(&self.sandbox).await;
        let data = metrics::metrics(version::host_cgroups(), &usage)?;
        let mut response = SandboxMetricsResponse::default();
        // Inserted by default and filled in place: the type of a metric has no name outside its
        // crate.
        let metric = response.metrics.mut_or_insert_default();
        metric.timestamp = convert::timestamp(SystemTime::now());
        metric.id = request.sandbox_id;
        metric.data = MessageField::some(data);
        Ok(response)
    }
}
