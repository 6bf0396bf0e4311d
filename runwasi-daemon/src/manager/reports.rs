//! Messages for operators: the daemon's status, its containers and its events.
//!
//! They came after the first version of the protocol. A daemon without them answers that it does
//! not know the method. Times are milliseconds since 1970, 0 if there is none.

use prost::Message;

use super::messages::Request;

/// Asks for the status of the daemon.
#[derive(Clone, PartialEq, Message)]
pub struct StatusRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// True if the daemon shall wait for a turn of the workers of guests first.
    #[prost(bool, tag = "2")]
    pub probe: bool,
}

/// The daemon that answers.
#[derive(Clone, PartialEq, Message)]
pub struct StatusReply {
    /// Its version.
    #[prost(string, tag = "1")]
    pub version: String,
    /// Its engine and the engine's version.
    #[prost(string, tag = "2")]
    pub engine: String,
    /// Its pid.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// Its state: [`DaemonState`].
    #[prost(enumeration = "DaemonState", tag = "4")]
    pub state: i32,
    /// Time of its start.
    #[prost(uint64, tag = "5")]
    pub started: u64,
    /// Sandboxes that are served, without those that are ending.
    #[prost(uint32, tag = "6")]
    pub sandboxes: u32,
    /// Sandboxes that are ending.
    #[prost(uint32, tag = "7")]
    pub ending: u32,
    /// Containers of all sandboxes.
    #[prost(uint32, tag = "8")]
    pub containers: u32,
    /// Guests that there is room for.
    #[prost(uint32, tag = "9")]
    pub slots: u32,
    /// True if a guard can start a successor, as a reload needs.
    #[prost(bool, tag = "10")]
    pub guarded: bool,
    /// True if the manager socket is that of a service manager, which starts a daemon at a
    /// connection.
    #[prost(bool, tag = "11")]
    pub activated: bool,
    /// The settings in force, as a file.
    #[prost(string, tag = "12")]
    pub settings: String,
    /// Microseconds until a worker of guests had a turn, if the request has asked for it.
    #[prost(uint64, optional, tag = "13")]
    pub turn: Option<u64>,
}

/// State of a daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum DaemonState {
    /// Of a later version.
    Unknown = 0,
    /// It takes new sandboxes.
    Serving = 1,
    /// It serves its sandboxes to their end.
    Retired = 2,
    /// It ends its sandboxes.
    Stopping = 3,
}

/// Asks for sandboxes and their containers, a page at a time.
#[derive(Clone, PartialEq, Message)]
pub struct ContainersRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// The last sandbox of the page before, empty for the first page: its namespace …
    #[prost(string, tag = "2")]
    pub after_namespace: String,
    /// … and its group.
    #[prost(string, tag = "3")]
    pub after_group: String,
}

/// A page of sandboxes.
#[derive(Clone, PartialEq, Message)]
pub struct ContainersReply {
    /// Sorted by namespace and group.
    #[prost(message, repeated, tag = "1")]
    pub sandboxes: Vec<SandboxReport>,
    /// True if there is another page.
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// One sandbox.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxReport {
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
    /// Time of its creation.
    #[prost(uint64, tag = "5")]
    pub created: u64,
    /// True if containerd manages it by its Sandbox API.
    #[prost(bool, tag = "6")]
    pub managed: bool,
    /// Sorted by id.
    #[prost(message, repeated, tag = "7")]
    pub containers: Vec<ContainerReport>,
}

/// One container.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerReport {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `wasm`, or `native` for one that a delegate runs.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// `creating`, `created`, `starting`, `running`, `paused` or `stopped`; empty if a delegate
    /// knows it.
    #[prost(string, tag = "3")]
    pub state: String,
    /// Its bundle directory.
    #[prost(string, tag = "4")]
    pub bundle: String,
    /// The pid that containerd is told for its init.
    #[prost(uint32, tag = "5")]
    pub pid: u32,
    /// Time of its creation.
    #[prost(uint64, tag = "6")]
    pub created: u64,
    /// Time of its start.
    #[prost(uint64, tag = "7")]
    pub started: u64,
    /// Time of its end.
    #[prost(uint64, tag = "8")]
    pub exited: u64,
    /// Its exit status.
    #[prost(uint32, optional, tag = "9")]
    pub status: Option<u32>,
    /// Its execs.
    #[prost(message, repeated, tag = "10")]
    pub execs: Vec<ExecReport>,
    /// Number of further execs, for which the message has no room.
    #[prost(uint32, tag = "14")]
    pub more_execs: u32,
    /// Its usage. Absent if a delegate knows it.
    #[prost(message, optional, tag = "11")]
    pub usage: Option<UsageReport>,
    /// Path of the artifact. Empty if the engine has not noted it.
    #[prost(string, tag = "12")]
    pub artifact: String,
    /// Digest of the artifact. Empty if it is not known.
    #[prost(string, tag = "13")]
    pub digest: String,
}

/// Usage of a container, and its limits in force.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct UsageReport {
    /// CPU time in nanoseconds.
    #[prost(uint64, tag = "1")]
    pub cpu: u64,
    /// Weight, in the unit of `cpu.shares`.
    #[prost(uint64, tag = "2")]
    pub shares: u64,
    /// CPU time in microseconds that each period allows.
    #[prost(uint64, optional, tag = "3")]
    pub quota: Option<u64>,
    /// Length of a period in microseconds.
    #[prost(uint64, optional, tag = "4")]
    pub period: Option<u64>,
    /// Periods with CPU time.
    #[prost(uint64, tag = "5")]
    pub periods: u64,
    /// Number of times that the quota was used up.
    #[prost(uint64, tag = "6")]
    pub throttled: u64,
    /// Time throttled, in nanoseconds.
    #[prost(uint64, tag = "7")]
    pub throttled_time: u64,
    /// Memory in bytes, without what does not count against the limit.
    #[prost(uint64, tag = "8")]
    pub memory: u64,
    /// Memory of the host for it that does not count against the limit.
    #[prost(uint64, tag = "9")]
    pub uncharged: u64,
    /// Highest memory.
    #[prost(uint64, tag = "10")]
    pub peak: u64,
    /// Limit of the memory.
    #[prost(uint64, optional, tag = "11")]
    pub limit: Option<u64>,
    /// Growths beyond the limit.
    #[prost(uint64, tag = "12")]
    pub failures: u64,
    /// Processes that such a growth has ended.
    #[prost(uint64, tag = "13")]
    pub kills: u64,
    /// Running processes.
    #[prost(uint64, tag = "14")]
    pub processes: u64,
    /// Requests until now. Absent without a server.
    #[prost(uint64, optional, tag = "15")]
    pub requests: Option<u64>,
}

/// An exec of a container.
#[derive(Clone, PartialEq, Message)]
pub struct ExecReport {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its state.
    #[prost(string, tag = "2")]
    pub state: String,
    /// Its exit status.
    #[prost(uint32, optional, tag = "3")]
    pub status: Option<u32>,
}

/// Asks for events. The reply waits for the next one.
#[derive(Clone, PartialEq, Message)]
pub struct EventsRequest {
    /// [`super::PROTOCOL`].
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    /// Number of the first event that is wanted; [`EventsRequest::NOW`] for the next one.
    #[prost(uint64, tag = "2")]
    pub from: u64,
    /// Longest wait in milliseconds.
    #[prost(uint32, tag = "3")]
    pub wait: u32,
}

impl EventsRequest {
    /// No event that has happened already.
    pub const NOW: u64 = u64::MAX;
}

/// Events in their order.
#[derive(Clone, PartialEq, Message)]
pub struct EventsReply {
    /// Empty if none has happened during the wait.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<EventEntry>,
    /// Number of the event that comes next: `from` of the next request.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// Number of events that are no longer kept.
    #[prost(uint64, tag = "3")]
    pub lost: u64,
}

/// One event.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct EventEntry {
    /// Its time.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// Its kind: `create`, `start`, `exit`, …
    #[prost(string, tag = "2")]
    pub kind: String,
    /// containerd's namespace. Empty for an event of the daemon.
    #[prost(string, tag = "3")]
    pub namespace: String,
    /// The sandbox's group.
    #[prost(string, tag = "4")]
    pub sandbox: String,
    /// The container's id. Empty for an event of a sandbox.
    #[prost(string, tag = "5")]
    pub container: String,
    /// The id of an exec. Empty for the init.
    #[prost(string, tag = "6")]
    pub exec: String,
    /// Exit status of a process that has ended.
    #[prost(uint32, optional, tag = "7")]
    pub status: Option<u32>,
    /// Further text.
    #[prost(string, tag = "8")]
    pub text: String,
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

requests!(StatusRequest, ContainersRequest, EventsRequest);
