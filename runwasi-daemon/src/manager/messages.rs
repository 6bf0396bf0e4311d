//! Messages of the manager API, protobuf on the wire.
//!
//! Field 1 of every request is the protocol number. By it a daemon of any version can refuse a
//! request of another protocol.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;

/// Asks for the sandbox of a container that containerd is about to create.
#[derive(Clone, PartialEq, Message)]
pub struct CreateRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// containerd's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The container's id.
    #[prost(string, tag = "3")]
    pub id: String,
    /// Its bundle directory, absolute.
    #[prost(string, tag = "4")]
    pub bundle: String,
    /// Its group: the id of the pod, or its own.
    #[prost(string, tag = "5")]
    pub group: String,
    /// containerd's gRPC socket; part of the name of the sandbox's socket.
    #[prost(string, tag = "6")]
    pub containerd_address: String,
    /// containerd's ttrpc socket, where it takes events.
    #[prost(string, tag = "7")]
    pub ttrpc_address: String,
    /// Directory for the sandbox's socket. Empty for the default directory.
    #[prost(string, tag = "8")]
    pub socket_directory: String,
    // Reserved: tags 9 and 10, which earlier thin shims send and no daemon has ever read.
    /// Time at which the thin shim began, in nanoseconds since 1970. 0 if it is unknown.
    #[prost(fixed64, tag = "11")]
    pub began: u64,
}

impl CreateRequest {
    /// Time at which the thin shim began.
    pub fn began(&self) -> Option<SystemTime> {
        (self.began > 0).then(|| UNIX_EPOCH + Duration::from_nanos(self.began))
    }

    /// Time since the thin shim began. Nothing if the clock has been set meanwhile, or by more than
    /// a minute.
    pub fn age(&self) -> Option<Duration> {
        let age = self.began()?.elapsed().ok()?;
        Some(age).filter(|age| *age < Duration::from_secs(60))
    }
}

/// Address and pid of a sandbox.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxReply {
    /// Address of its socket for containerd: `unix://…`.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The pid that containerd gets for its tasks.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// Asks to end a container in any state and to forget it.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// containerd's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// The container's id.
    #[prost(string, tag = "3")]
    pub id: String,
    /// Path of the socket of its sandbox. Empty if it is unknown.
    #[prost(string, tag = "4")]
    pub socket: String,
    /// containerd's gRPC socket.
    #[prost(string, tag = "5")]
    pub containerd_address: String,
}

/// Exit of a deleted container.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteReply {
    /// True if the container existed. Otherwise the other fields are 0.
    #[prost(bool, tag = "1")]
    pub found: bool,
    /// The pid that was reported for it.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// Its exit status.
    #[prost(uint32, tag = "3")]
    pub exit_status: u32,
}

/// A request without arguments.
#[derive(Clone, PartialEq, Message)]
pub struct Plain {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
}

/// Asks a daemon to take no new sandboxes any more.
#[derive(Clone, PartialEq, Message)]
pub struct RetireRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// True if the daemon has no successor: what it alone serves, it serves to its end.
    #[prost(bool, tag = "2")]
    pub drained: bool,
}

/// All sandboxes of a daemon.
#[derive(Clone, PartialEq, Message)]
pub struct ListReply {
    /// Sorted by namespace and group.
    #[prost(message, repeated, tag = "1")]
    pub sandboxes: Vec<SandboxEntry>,
}

/// One sandbox.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxEntry {
    /// containerd's namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The pod's id, or the container's.
    #[prost(string, tag = "2")]
    pub group: String,
    /// The pid that containerd gets for its tasks.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// Path of its socket.
    #[prost(string, tag = "4")]
    pub socket: String,
    /// Number of its containers.
    #[prost(uint32, tag = "5")]
    pub containers: u32,
}

/// Identity of the daemon that answers.
#[derive(Clone, PartialEq, Message)]
pub struct VersionReply {
    /// Its version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Its protocol.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    /// Its pid.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// Asks for the series of the daemon that answers.
#[derive(Clone, PartialEq, Message)]
pub struct MetricsRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// True for the text of OpenMetrics, false for that of Prometheus.
    #[prost(bool, tag = "2")]
    pub open_metrics: bool,
}

/// Series of a daemon.
#[derive(Clone, PartialEq, Message)]
pub struct MetricsReply {
    /// The text.
    #[prost(string, tag = "1")]
    pub text: String,
    /// Its pid.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
    /// True if it takes no new sandboxes any more.
    #[prost(bool, tag = "3")]
    pub retired: bool,
}

/// A request of this API.
pub trait Request: Message + Default {
    /// The protocol of its client.
    fn protocol(&self) -> u32;
}

macro_rules! requests {
    ($($name:ident),*) => {
        $(impl Request for $name {
            fn protocol(&self) -> u32 {
                self.protocol
            }
        })*
    };
}

requests!(CreateRequest, DeleteRequest, MetricsRequest, Plain, RetireRequest);
