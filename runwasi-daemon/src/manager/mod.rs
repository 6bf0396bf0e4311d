//! The manager API: a thin shim asks the daemon for sandboxes, by ttrpc on a unix socket.
//!
//! ```text
//! thin shim ── client ── manager.sock, daemons/<pid>.sock ── server ──▶ Daemon
//!                    messages (protobuf), protocol number in each
//! ```
//!
//! The service is `runwasi.manager.v1.Manager`. Errors are ttrpc statuses with a readable text.

pub mod client;
mod connections;
pub mod messages;
pub(crate) mod server;

/// The service's name on the wire.
pub const SERVICE: &str = "runwasi.manager.v1.Manager";

/// The protocol of this version. A daemon refuses requests of another protocol.
pub const PROTOCOL: u32 = 1;

/// Methods of the API, by their names on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Create a sandbox, or join a container to one: [`messages::CreateRequest`],
    /// [`messages::SandboxReply`].
    Create,
    /// Find an existing sandbox: [`messages::ConnectRequest`], [`messages::SandboxReply`].
    Connect,
    /// End and forget one container: [`messages::DeleteRequest`], [`messages::DeleteReply`].
    Delete,
    /// List all sandboxes: [`messages::Plain`], [`messages::ListReply`].
    List,
    /// Identify the daemon: [`messages::Plain`], [`messages::VersionReply`].
    Version,
    /// Take no new sandboxes any more: [`messages::Plain`], [`messages::VersionReply`].
    Retire,
    /// Ask for a successor with the settings of now, which retires this daemon:
    /// [`messages::Plain`], [`messages::VersionReply`].
    Reload,
}

impl Method {
    /// All methods.
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::Connect,
        Self::Delete,
        Self::List,
        Self::Version,
        Self::Retire,
        Self::Reload,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "Create",
            Self::Connect => "Connect",
            Self::Delete => "Delete",
            Self::List => "List",
            Self::Version => "Version",
            Self::Retire => "Retire",
            Self::Reload => "Reload",
        }
    }
}
