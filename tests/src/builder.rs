//! What is unusual about a fixture's containerd; called by tests and benches, read by `containerd`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Result;

use crate::containerd::Containerd;
use crate::daemon::{Settings, State};
use crate::restrictions::Restrictions;
use crate::runtime::Runtime;
use crate::version::Version;

/// How a containerd is to be; see [`Containerd::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    pub(crate) containerd: Option<PathBuf>,
    pub(crate) version: Version,
    pub(crate) kept: Vec<String>,
    pub(crate) extra: String,
    pub(crate) env: Vec<(String, OsString)>,
    pub(crate) node: Node,
    pub(crate) restrictions: Restrictions,
}

/// Whom the thin shims of a fixture find at the manager socket.
#[derive(Debug, Default)]
pub(crate) enum Node {
    /// Nobody; never the machine's own daemon.
    #[default]
    Nobody,
    /// A daemon of the fixture's own.
    Own(Settings),
    /// Another fixture's.
    Of(State),
}

impl Builder {
    /// Another containerd program than the one in `PATH`; its `ctr` must lie beside it.
    pub fn program(mut self, containerd: impl Into<PathBuf>) -> Self {
        self.containerd = Some(containerd.into());
        self
    }

    /// A containerd of another version than the machine's.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// Keeps a plugin that is disabled otherwise, for instance `io.containerd.grpc.v1.cri`.
    pub fn keep_plugin(mut self, id: &str) -> Self {
        self.kept.push(id.to_owned());
        self
    }

    /// More lines for the configuration file.
    pub fn config(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self
    }

    /// An environment variable for containerd, and so for its shims.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Restricts it, and so its shims.
    pub fn restricted(mut self, restrictions: Restrictions) -> Self {
        self.restrictions = restrictions;
        self
    }

    /// Starts a node daemon of the fixture's own before containerd.
    pub fn daemon(mut self, settings: Settings) -> Self {
        self.node = Node::Own(settings);
        self
    }

    /// The same with a daemon as usual, and only if this runtime needs one.
    pub fn daemon_for(self, runtime: Runtime) -> Self {
        if runtime.needs_daemon() { self.daemon(Settings::of(runtime)) } else { self }
    }

    /// Lets the thin shims ask the node daemon of another fixture, which must outlive this one.
    pub fn daemon_of(mut self, fixture: &Containerd) -> Self {
        self.node = Node::Of(fixture.node().clone());
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Result<Containerd> {
        Containerd::with(self)
    }
}
