//! The manager API: a thin shim asks the daemon for sandboxes, by ttrpc on a unix socket.
//!
//! ```text
//! thin shim ── client ── manager.sock, daemons/<pid>.sock ── server ──▶ Daemon
//!                    messages (protobuf), protocol number in each
//! ```
//!
//! The service is `runwasi.manager.v1.Manager`. Errors are ttrpc statuses with a readable text.

use std::time::Duration;

pub mod client;
mod connections;
pub mod messages;
pub mod reports;
pub(crate) mod server;

/// The service's name on the wire.
pub const SERVICE: &str = "runwasi.manager.v1.Manager";

/// The protocol of this version. A daemon refuses requests of another protocol.
// A change that both sides survive leaves it as it is: during a takeover, shims and daemons of two
// versions talk to each other. An unknown field is skipped and a missing one is empty, so a field
// may come, or go with its tag reserved. A method may come: clients recognize a daemon that does
// not know it ([`client::ClientError::Unknown`]). It may go if no client has ever called it.
pub const PROTOCOL: u32 = 1;

/// Time limit for the reply to `Reload`.
// It takes the start of a daemon and its takeover.
pub(crate) const RELOAD_PATIENCE: Duration = Duration::from_secs(60);

/// Methods of the API, by their names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Create a sandbox, or join a container to one: [`messages::CreateRequest`],
    /// [`messages::SandboxReply`].
    Create,
    /// End and forget one container: [`messages::DeleteRequest`], [`messages::DeleteReply`].
    Delete,
    /// List all sandboxes: [`messages::Plain`], [`messages::ListReply`].
    List,
    /// Identify the daemon: [`messages::Plain`], [`messages::VersionReply`].
    Version,
    /// Take no new sandboxes any more: [`messages::RetireRequest`], [`messages::VersionReply`].
    Retire,
    /// Ask for a successor with the settings of now, which retires this daemon:
    /// [`messages::Plain`], [`messages::VersionReply`].
    Reload,
    /// Series of this daemon: [`messages::MetricsRequest`], [`messages::MetricsReply`].
    Metrics,
    /// Describe the daemon: [`reports::StatusRequest`], [`reports::StatusReply`].
    Status,
    /// Describe sandboxes and containers, a page at a time: [`reports::ContainersRequest`],
    /// [`reports::ContainersReply`].
    Containers,
    /// Wait for events: [`reports::EventsRequest`], [`reports::EventsReply`].
    Events,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 10] = [
        Self::Create,
        Self::Delete,
        Self::List,
        Self::Version,
        Self::Retire,
        Self::Reload,
        Self::Metrics,
        Self::Status,
        Self::Containers,
        Self::Events,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Delete => "Delete",
            Self::List => "List",
            Self::Version => "Version",
            Self::Retire => "Retire",
            Self::Reload => "Reload",
            Self::Metrics => "Metrics",
            Self::Status => "Status",
            Self::Containers => "Containers",
            Self::Events => "Events",
        }
    }
}
