//! The manager API, both ends: the thin shim asks the daemon for sandboxes over ttrpc on a unix socket.
//!
//! ```text
//! thin shim ── client ── manager.sock, daemons/<pid>.sock ── server ──▶ Daemon
//!                    messages (protobuf), protocol number in each
//! ```
//!
//! The service is `runwasi.manager.v1.Manager`; errors are ttrpc statuses with a text for people.

pub mod client;
mod connections;
pub mod messages;
pub(crate) mod server;

/// The service's name on the wire.
pub const SERVICE: &str = "runwasi.manager.v1.Manager";

/// The protocol that this version speaks. A daemon refuses requests of another one.
pub const PROTOCOL: u32 = 1;

/// What can be asked, by its name on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Make a sandbox, or join a container to one: [`messages::CreateRequest`], [`messages::SandboxReply`].
    Create,
    /// Find a sandbox: [`messages::ConnectRequest`], [`messages::SandboxReply`].
    Connect,
    /// End and forget one container: [`messages::DeleteRequest`], [`messages::DeleteReply`].
    Delete,
    /// All sandboxes: [`messages::Plain`], [`messages::ListReply`].
    List,
    /// Who serves: [`messages::Plain`], [`messages::VersionReply`].
    Version,
    /// Leave new sandboxes to a successor: [`messages::Plain`], [`messages::VersionReply`].
    Retire,
    /// Have a successor started with the settings of now, which retires this one: [`messages::Plain`], [`messages::VersionReply`].
    Reload,
}

impl Method {
    /// All of them.
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
