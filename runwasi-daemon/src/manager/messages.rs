//! The messages of the manager API, protobuf on the wire. Field 1 of every request is the protocol number, so that a daemon
//! of any version can refuse what it does not understand.

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
    /// What it is grouped by: the pod's id, or its own.
    #[prost(string, tag = "5")]
    pub group: String,
    /// containerd's gRPC socket; part of the name of the sandbox's socket.
    #[prost(string, tag = "6")]
    pub containerd_address: String,
    /// Where containerd takes events.
    #[prost(string, tag = "7")]
    pub ttrpc_address: String,
    /// Where the sandbox's socket is to lie; empty for the usual place.
    #[prost(string, tag = "8")]
    pub socket_directory: String,
    /// Whether containerd logs at debug level.
    #[prost(bool, tag = "9")]
    pub debug: bool,
    /// The runtime options as containerd gave them: an encoded `google.protobuf.Any`, or nothing.
    #[prost(bytes = "vec", tag = "10")]
    pub options: Vec<u8>,
}

/// Where a sandbox is served.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxReply {
    /// `unix://…`, for containerd.
    #[prost(string, tag = "1")]
    pub address: String,
    /// The pid that containerd is told for its tasks.
    #[prost(uint32, tag = "2")]
    pub pid: u32,
}

/// Asks for a sandbox that exists.
#[derive(Clone, PartialEq, Message)]
pub struct ConnectRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// containerd's namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Its group: the pod's id, or the container's.
    #[prost(string, tag = "3")]
    pub group: String,
    /// containerd's gRPC socket.
    #[prost(string, tag = "4")]
    pub containerd_address: String,
}

/// Asks to end a container, whatever its state, and to forget it.
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
    /// The socket of its sandbox, if it is known: a path.
    #[prost(string, tag = "4")]
    pub socket: String,
    /// containerd's gRPC socket.
    #[prost(string, tag = "5")]
    pub containerd_address: String,
}

/// How a deleted container had ended.
#[derive(Clone, PartialEq, Message)]
pub struct DeleteReply {
    /// Whether there was such a container; the rest is 0 if not.
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

/// All sandboxes of a daemon.
#[derive(Clone, PartialEq, Message)]
pub struct ListReply {
    /// In the order of their names.
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
    /// The pid that containerd is told.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// The path of its socket.
    #[prost(string, tag = "4")]
    pub socket: String,
    /// How many containers it has.
    #[prost(uint32, tag = "5")]
    pub containers: u32,
}

/// Who serves.
#[derive(Clone, PartialEq, Message)]
pub struct VersionReply {
    /// Its version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The protocol it speaks.
    #[prost(uint32, tag = "2")]
    pub protocol: u32,
    /// Its pid.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
}

/// A request of this API.
pub trait Request: Message + Default {
    /// The protocol it was made for.
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

requests!(CreateRequest, ConnectRequest, DeleteRequest, Plain);
