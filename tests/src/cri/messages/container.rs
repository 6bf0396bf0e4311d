//! The CRI's messages about containers; sent and received by `super::super::Cri`.

use std::collections::HashMap;

use prost::{Enumeration, Message};

use super::ImageSpec;
use super::pod::{NamespaceOption, PodSandboxConfig};

/// What names a container within its pod.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerMetadata {
    /// The container's name.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// What a container is to be.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    /// Its image.
    #[prost(message, optional, tag = "2")]
    pub image: Option<ImageSpec>,
    /// Instead of the image's entrypoint.
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    /// Instead of the image's arguments.
    #[prost(string, repeated, tag = "4")]
    pub args: Vec<String>,
    /// Its volumes.
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    /// Its log, below the pod's `log_directory`.
    #[prost(string, tag = "11")]
    pub log_path: String,
    /// What is Linux' own.
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainerConfig>,
}

/// What of a container's configuration is Linux' own.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerConfig {
    /// Its limits.
    #[prost(message, optional, tag = "1")]
    pub resources: Option<LinuxContainerResources>,
    /// Its namespaces.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxContainerSecurityContext>,
}

/// A container's security, of which only namespaces matter here.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerSecurityContext {
    /// Its namespaces.
    #[prost(message, optional, tag = "3")]
    pub namespace_options: Option<NamespaceOption>,
}

/// A volume: a directory of the host in a container.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// Its place in the container.
    #[prost(string, tag = "1")]
    pub container_path: String,
    /// The directory.
    #[prost(string, tag = "2")]
    pub host_path: String,
    /// True if the container may not write there.
    #[prost(bool, tag = "3")]
    pub readonly: bool,
    /// The way of later mounts.
    #[prost(enumeration = "MountPropagation", tag = "5")]
    pub propagation: i32,
}

/// The way of mounts that are made later below a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum MountPropagation {
    /// None.
    Private = 0,
    /// From the host to the container.
    HostToContainer = 1,
    /// Both ways.
    Bidirectional = 2,
}

/// A request or an answer that is a container's id and nothing else.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Asks for `CreateContainer`.
#[derive(Clone, PartialEq, Message)]
pub struct CreateContainerRequest {
    /// The pod it is for.
    #[prost(string, tag = "1")]
    pub pod_sandbox_id: String,
    /// The container.
    #[prost(message, optional, tag = "2")]
    pub config: Option<ContainerConfig>,
    /// The pod's configuration, as it was given to `RunPodSandbox`.
    #[prost(message, optional, tag = "3")]
    pub sandbox_config: Option<PodSandboxConfig>,
}

/// Asks for `StopContainer`.
#[derive(Clone, PartialEq, Message)]
pub struct StopContainerRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Seconds from the gentle signal to SIGKILL; with 0 SIGKILL comes at once.
    #[prost(int64, tag = "2")]
    pub timeout: i64,
}

/// Asks for `ExecSync`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecSyncRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// The program with its arguments.
    #[prost(string, repeated, tag = "2")]
    pub cmd: Vec<String>,
    /// Seconds until it is killed.
    #[prost(int64, tag = "3")]
    pub timeout: i64,
}

/// The answer to `ExecSync`.
#[derive(Clone, PartialEq, Message)]
pub struct ExecSyncResponse {
    /// Its output.
    #[prost(bytes = "vec", tag = "1")]
    pub stdout: Vec<u8>,
    /// Its errors.
    #[prost(bytes = "vec", tag = "2")]
    pub stderr: Vec<u8>,
    /// Its exit status.
    #[prost(int32, tag = "3")]
    pub exit_code: i32,
}

/// Limits; 0 is what is not said.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerResources {
    /// The period of the quota, in microseconds.
    #[prost(int64, tag = "1")]
    pub cpu_period: i64,
    /// CPU time in a period, in microseconds.
    #[prost(int64, tag = "2")]
    pub cpu_quota: i64,
    /// Bytes of memory.
    #[prost(int64, tag = "4")]
    pub memory_limit_in_bytes: i64,
}

/// Asks for `UpdateContainerResources`.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateContainerResourcesRequest {
    /// The container.
    #[prost(string, tag = "1")]
    pub container_id: String,
    /// Its limits from now on.
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxContainerResources>,
}

/// Where a container is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum ContainerState {
    /// Not started yet.
    Created = 0,
    /// Started and not ended.
    Running = 1,
    /// Ended.
    Exited = 2,
    /// containerd cannot tell.
    Unknown = 3,
}

/// How a container is.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatus {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Where in its life it is.
    #[prost(enumeration = "ContainerState", tag = "3")]
    pub state: i32,
    /// When it was started, in nanoseconds since 1970; 0 before.
    #[prost(int64, tag = "5")]
    pub started_at: i64,
    /// When it ended; 0 before.
    #[prost(int64, tag = "6")]
    pub finished_at: i64,
    /// Its exit status once it has ended.
    #[prost(int32, tag = "7")]
    pub exit_code: i32,
    /// One word for why it ended.
    #[prost(string, tag = "10")]
    pub reason: String,
    /// Its log file.
    #[prost(string, tag = "15")]
    pub log_path: String,
}

/// The answer to `ContainerStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatusResponse {
    /// How it is.
    #[prost(message, optional, tag = "1")]
    pub status: Option<ContainerStatus>,
    /// containerd's own knowledge: under `info` JSON with, among others, `pid`.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// A container in a list.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its pod's id.
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    /// Where in its life it is.
    #[prost(enumeration = "ContainerState", tag = "6")]
    pub state: i32,
}

/// The answer to `ListContainers`.
#[derive(Clone, PartialEq, Message)]
pub struct ListContainersResponse {
    /// All containers; the pods' own are not among them.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<Container>,
}

/// A number that may be missing.
#[derive(Clone, PartialEq, Message)]
pub struct UInt64Value {
    /// The number.
    #[prost(uint64, tag = "1")]
    pub value: u64,
}

/// What a container computed.
#[derive(Clone, PartialEq, Message)]
pub struct CpuUsage {
    /// When it was measured, in nanoseconds since 1970.
    #[prost(int64, tag = "1")]
    pub timestamp: i64,
    /// CPU time since it began.
    #[prost(message, optional, tag = "2")]
    pub usage_core_nano_seconds: Option<UInt64Value>,
}

/// The memory of a container.
#[derive(Clone, PartialEq, Message)]
pub struct MemoryUsage {
    /// Bytes in use that cannot be given up.
    #[prost(message, optional, tag = "2")]
    pub working_set_bytes: Option<UInt64Value>,
}

/// Whose figures they are.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerAttributes {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// What a container uses.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStats {
    /// Whose figures they are.
    #[prost(message, optional, tag = "1")]
    pub attributes: Option<ContainerAttributes>,
    /// Its CPU time.
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<CpuUsage>,
    /// Its memory.
    #[prost(message, optional, tag = "3")]
    pub memory: Option<MemoryUsage>,
}

/// The answer to `ContainerStats`.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatsResponse {
    /// The figures.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<ContainerStats>,
}
