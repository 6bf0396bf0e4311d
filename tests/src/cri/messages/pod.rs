//! The CRI's messages about pods; sent and received by `super::super::Cri`.

use std::collections::{BTreeMap, HashMap};

use prost::{Enumeration, Message};

/// What names a pod.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxMetadata {
    /// The pod's name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What tells two pods of one name apart.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// The Kubernetes namespace, nothing to do with containerd's.
    #[prost(string, tag = "3")]
    pub namespace: String,
}

/// Whose namespace of a kind a pod has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum NamespaceMode {
    /// One for all containers of the pod.
    Pod = 0,
    /// One for each container.
    Container = 1,
    /// The host's.
    Node = 2,
    /// Another container's.
    Target = 3,
}

/// Which namespaces a pod has of its own.
#[derive(Clone, PartialEq, Message)]
pub struct NamespaceOption {
    /// The network's.
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub network: i32,
    /// That of process ids.
    #[prost(enumeration = "NamespaceMode", tag = "2")]
    pub pid: i32,
    /// The one of System V's and POSIX' means between processes.
    #[prost(enumeration = "NamespaceMode", tag = "3")]
    pub ipc: i32,
    /// The container of the mode `Target`.
    #[prost(string, tag = "4")]
    pub target_id: String,
    /// The user namespace; without it the host's.
    #[prost(message, optional, tag = "5")]
    pub userns_options: Option<UserNamespace>,
}

/// A user namespace.
#[derive(Clone, PartialEq, Message)]
pub struct UserNamespace {
    /// The pod's, or the host's.
    #[prost(enumeration = "NamespaceMode", tag = "1")]
    pub mode: i32,
    /// Users in it and on the host.
    #[prost(message, repeated, tag = "2")]
    pub uids: Vec<IdMapping>,
    /// The same of groups.
    #[prost(message, repeated, tag = "3")]
    pub gids: Vec<IdMapping>,
}

/// A range of ids.
#[derive(Clone, PartialEq, Message)]
pub struct IdMapping {
    /// The first on the host.
    #[prost(uint32, tag = "1")]
    pub host_id: u32,
    /// The first in the namespace.
    #[prost(uint32, tag = "2")]
    pub container_id: u32,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub length: u32,
}

/// A pod's security, of which only namespaces matter here.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandboxSecurityContext {
    /// Its namespaces.
    #[prost(message, optional, tag = "1")]
    pub namespace_options: Option<NamespaceOption>,
}

/// What of a pod's configuration is Linux' own.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxPodSandboxConfig {
    /// The cgroup that those of its containers lie in.
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    /// Its security.
    #[prost(message, optional, tag = "2")]
    pub security_context: Option<LinuxSandboxSecurityContext>,
    /// Parameters of the kernel.
    #[prost(btree_map = "string, string", tag = "3")]
    pub sysctls: BTreeMap<String, String>,
}

/// What a pod's `/etc/resolv.conf` has.
#[derive(Clone, PartialEq, Message)]
pub struct DnsConfig {
    /// Addresses of name servers.
    #[prost(string, repeated, tag = "1")]
    pub servers: Vec<String>,
    /// Search domains.
    #[prost(string, repeated, tag = "2")]
    pub searches: Vec<String>,
    /// Options.
    #[prost(string, repeated, tag = "3")]
    pub options: Vec<String>,
}

/// What a pod is to be.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxConfig {
    /// Its name.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Its host name; the kubelet always gives one.
    #[prost(string, tag = "2")]
    pub hostname: String,
    /// Where the logs of its containers go.
    #[prost(string, tag = "3")]
    pub log_directory: String,
    /// Its name servers; without them the host's.
    #[prost(message, optional, tag = "4")]
    pub dns_config: Option<DnsConfig>,
    /// For the runtime, if containerd's `pod_annotations` has them.
    #[prost(btree_map = "string, string", tag = "7")]
    pub annotations: BTreeMap<String, String>,
    /// What is Linux' own.
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxPodSandboxConfig>,
}

/// Asks for `RunPodSandbox`.
#[derive(Clone, PartialEq, Message)]
pub struct RunPodSandboxRequest {
    /// The pod.
    #[prost(message, optional, tag = "1")]
    pub config: Option<PodSandboxConfig>,
    /// The name of a runtime in containerd's configuration.
    #[prost(string, tag = "2")]
    pub runtime_handler: String,
}

/// A request or an answer that is a pod's id and nothing else.
#[derive(Clone, PartialEq, Message)]
pub struct PodId {
    /// The id.
    #[prost(string, tag = "1")]
    pub id: String,
}

/// Whether a pod can take containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum PodState {
    /// It can.
    Ready = 0,
    /// It is stopped.
    NotReady = 1,
}

/// A pod's place in its network.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxNetworkStatus {
    /// The address; empty in the host's network.
    #[prost(string, tag = "1")]
    pub ip: String,
}

/// How a pod is.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxStatus {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whether it is ready.
    #[prost(enumeration = "PodState", tag = "3")]
    pub state: i32,
    /// Its address.
    #[prost(message, optional, tag = "5")]
    pub network: Option<PodSandboxNetworkStatus>,
}

/// The answer to `PodSandboxStatus`.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandboxStatusResponse {
    /// How it is.
    #[prost(message, optional, tag = "1")]
    pub status: Option<PodSandboxStatus>,
    /// containerd's own knowledge: under `info` JSON with, among others, `pid`.
    #[prost(map = "string, string", tag = "2")]
    pub info: HashMap<String, String>,
}

/// A pod in a list.
#[derive(Clone, PartialEq, Message)]
pub struct PodSandbox {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// What names it.
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<PodSandboxMetadata>,
    /// Whether it is ready.
    #[prost(enumeration = "PodState", tag = "3")]
    pub state: i32,
    /// The runtime handler it runs with.
    #[prost(string, tag = "7")]
    pub runtime_handler: String,
}

/// The answer to `ListPodSandbox`.
#[derive(Clone, PartialEq, Message)]
pub struct ListPodSandboxResponse {
    /// All pods.
    #[prost(message, repeated, tag = "1")]
    pub items: Vec<PodSandbox>,
}
