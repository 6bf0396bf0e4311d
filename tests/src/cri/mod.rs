//! containerd's CRI plugin as the kubelet asks it, over gRPC, each call with a deadline; held by `pods`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use prost::Message;

use crate::command::DEADLINE;
use crate::grpc::Client;
use crate::poll::poll_until;
use messages::{
    Container, ContainerConfig, ContainerId, ContainerStats, ContainerStatsResponse,
    ContainerStatusResponse, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ImageSpec,
    ImageStatusRequest, ImageStatusResponse, LinuxContainerResources, ListContainersResponse,
    ListPodSandboxResponse, ListRequest, Nothing, PodId, PodSandbox, PodSandboxConfig,
    PodSandboxStatusResponse, PullImageRequest, PullImageResponse, RunPodSandboxRequest,
    StatusRequest, StopContainerRequest, UpdateContainerResourcesRequest, VersionRequest,
    VersionResponse,
};

pub mod messages;

const RUNTIME: &str = "runtime.v1.RuntimeService";
const IMAGES: &str = "runtime.v1.ImageService";

/// A client.
#[derive(Debug)]
pub struct Cri {
    client: Client,
}

impl Cri {
    /// A client of the containerd at this gRPC socket.
    pub fn new(socket: &Path) -> Result<Self> {
        Ok(Self { client: Client::new(socket, None)? })
    }

    /// The same client with another deadline for each call.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { client: self.client.with_patience(patience) }
    }

    /// `Version`.
    pub fn version(&self) -> Result<VersionResponse> {
        self.call(RUNTIME, "Version", VersionRequest {})
    }

    /// Waits until it answers: containerd's socket does before its CRI plugin has looked at what there is.
    pub fn becomes_ready(&self) -> Result<VersionResponse> {
        let answer = poll_until("the CRI", DEADLINE, || match self.version() {
            Err(error) if format!("{error:#}").contains("not initialized") => None,
            answer => Some(answer),
        });
        answer?
    }

    /// `ImageStatus`: whether the CRI knows an image of this name.
    pub fn has_image(&self, name: &str) -> Result<bool> {
        let image = Some(ImageSpec::from(name));
        let answer: ImageStatusResponse =
            self.call(IMAGES, "ImageStatus", ImageStatusRequest { image })?;
        Ok(answer.image.is_some())
    }

    /// `ImageStatus`: the id of an image.
    pub fn image_id(&self, name: &str) -> Result<String> {
        let image = Some(ImageSpec::from(name));
        let answer: ImageStatusResponse =
            self.call(IMAGES, "ImageStatus", ImageStatusRequest { image })?;
        Ok(answer.image.with_context(|| format!("no image {name}"))?.id)
    }

    /// `PullImage`; gives the image's id.
    pub fn pull(&self, name: &str) -> Result<String> {
        let image = Some(ImageSpec::from(name));
        let answer: PullImageResponse =
            self.call(IMAGES, "PullImage", PullImageRequest { image })?;
        Ok(answer.image_ref)
    }

    /// `RunPodSandbox`; gives the pod's id.
    pub fn run_pod(&self, config: &PodSandboxConfig, handler: &str) -> Result<String> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: handler.to_owned(),
        };
        let answer: PodId = self.call(RUNTIME, "RunPodSandbox", request)?;
        Ok(answer.id)
    }

    /// `StopPodSandbox`.
    pub fn stop_pod(&self, pod: &str) -> Result<()> {
        let Nothing {} = self.call(RUNTIME, "StopPodSandbox", PodId { id: pod.to_owned() })?;
        Ok(())
    }

    /// `RemovePodSandbox`.
    pub fn remove_pod(&self, pod: &str) -> Result<()> {
        let Nothing {} = self.call(RUNTIME, "RemovePodSandbox", PodId { id: pod.to_owned() })?;
        Ok(())
    }

    /// `PodSandboxStatus`, with what containerd knows besides.
    pub fn pod_status(&self, pod: &str) -> Result<PodSandboxStatusResponse> {
        self.call(RUNTIME, "PodSandboxStatus", StatusRequest { id: pod.to_owned(), verbose: true })
    }

    /// `ListPodSandbox`: all of them.
    pub fn pods(&self) -> Result<Vec<PodSandbox>> {
        let answer: ListPodSandboxResponse =
            self.call(RUNTIME, "ListPodSandbox", ListRequest {})?;
        Ok(answer.items)
    }

    /// `CreateContainer`; gives the container's id.
    pub fn create(
        &self,
        pod: &str,
        config: ContainerConfig,
        of: &PodSandboxConfig,
    ) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(of.clone()),
        };
        let answer: ContainerId = self.call(RUNTIME, "CreateContainer", request)?;
        Ok(answer.id)
    }

    /// `StartContainer`.
    pub fn start(&self, container: &str) -> Result<()> {
        let Nothing {} =
            self.call(RUNTIME, "StartContainer", ContainerId { id: container.to_owned() })?;
        Ok(())
    }

    /// `StopContainer`; `timeout` is the seconds from the gentle signal to SIGKILL.
    pub fn stop(&self, container: &str, timeout: i64) -> Result<()> {
        let request = StopContainerRequest { container_id: container.to_owned(), timeout };
        let Nothing {} = self.call(RUNTIME, "StopContainer", request)?;
        Ok(())
    }

    /// `RemoveContainer`.
    pub fn remove(&self, container: &str) -> Result<()> {
        let Nothing {} =
            self.call(RUNTIME, "RemoveContainer", ContainerId { id: container.to_owned() })?;
        Ok(())
    }

    /// `ContainerStatus`, with what containerd knows besides.
    pub fn status(&self, container: &str) -> Result<ContainerStatusResponse> {
        self.call(
            RUNTIME,
            "ContainerStatus",
            StatusRequest { id: container.to_owned(), verbose: true },
        )
    }

    /// `ExecSync`: runs a program beside a container's own to its end, as a probe does. After
    /// `timeout` seconds it is killed, which is an error.
    pub fn exec(&self, container: &str, words: &[&str], timeout: i64) -> Result<ExecSyncResponse> {
        let cmd = words.iter().map(|word| (*word).to_owned()).collect();
        let request = ExecSyncRequest { container_id: container.to_owned(), cmd, timeout };
        self.call(RUNTIME, "ExecSync", request)
    }

    /// `ListContainers`: those of all pods.
    pub fn containers(&self) -> Result<Vec<Container>> {
        let answer: ListContainersResponse =
            self.call(RUNTIME, "ListContainers", ListRequest {})?;
        Ok(answer.containers)
    }

    /// `UpdateContainerResources`.
    pub fn update(&self, container: &str, limits: LinuxContainerResources) -> Result<()> {
        let request = UpdateContainerResourcesRequest {
            container_id: container.to_owned(),
            linux: Some(limits),
        };
        let Nothing {} = self.call(RUNTIME, "UpdateContainerResources", request)?;
        Ok(())
    }

    /// `ContainerStats`.
    pub fn stats(&self, container: &str) -> Result<ContainerStats> {
        let request = ContainerId { id: container.to_owned() };
        let answer: ContainerStatsResponse = self.call(RUNTIME, "ContainerStats", request)?;
        answer.stats.context("no stats")
    }

    fn call<Q, A>(&self, service: &str, method: &str, request: Q) -> Result<A>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.client.call(service, method, request)
    }
}
