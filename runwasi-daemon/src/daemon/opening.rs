//! From a request to the open resources of a new sandbox: checks, network, socket, record.
//!
//! All of it blocks. What was opened goes again, unless the daemon takes it to serve it.

use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use runwasi_core::{
    Id,
    bootstrap::{
        BootstrapError, protocol,
        socket::{self, Bound, SocketFile},
    },
    bundle::{
        allowed_roots::{self, BundleError},
        config::SandboxConfig,
    },
    network::{Namespaces, Network},
    sys,
};

use super::error::DaemonError;
use crate::{
    manager::messages::CreateRequest,
    state_dir::{Owner, Record, StateDirectory},
};

/// Longest wait until an ending sandbox of this daemon has left its socket to the next one of the
/// same name. Half the time of a start: it leaves beside a daemon that starts and has a lock
/// meanwhile.
const SUCCESSION: Duration = Duration::from_secs(5);
/// Time between two tries to bind.
const SUCCESSION_POLL: Duration = Duration::from_millis(5);

/// Validated request of a `Create`.
pub(super) struct Wanted {
    origin: Origin,
    pub(super) socket: PathBuf,
    namespaces: Namespaces,
}

/// Facts of a sandbox that its request gives.
pub(super) struct Origin {
    pub(super) namespace: Id,
    pub(super) group: Id,
    pub(super) grpc_address: String,
    pub(super) ttrpc_address: String,
    /// True if containerd manages the sandbox by its Sandbox API.
    pub(super) managed: bool,
}

/// Resources of a new sandbox.
pub(super) struct Parts {
    pub(super) origin: Origin,
    pub(super) listener: UnixListener,
    pub(super) own: Option<SocketFile>,
    pub(super) network: Network,
    pub(super) record: Record,
}

/// Resources of a sandbox that is not served yet. Removes its socket and record when it is dropped,
/// unless [`Opened::keep`] has taken them.
// Dropped if the client has disconnected, the daemon drains, or the record was not written.
pub(super) struct Opened {
    parts: Option<Parts>,
    state: StateDirectory,
}

impl Wanted {
    /// Validates a request and writes the address of the sandbox into the bundle. Blocks.
    pub(super) fn check(request: &CreateRequest, roots: &[PathBuf]) -> Result<Self, DaemonError> {
        let namespace = Id::parse("namespace", &request.namespace)?;
        let id = Id::parse("container id", &request.id)?;
        let group = Id::parse("sandbox id", &request.group)?;
        let bundle = allowed_roots::check(Path::new(&request.bundle), roots)?;
        let own = SandboxConfig::load(&bundle, &id).map_err(BootstrapError::from)?;
        // The bundle decides: a container must not get into the sandbox of another pod.
        if own.group != group {
            let reason = format!("it belongs to the sandbox {}, not to {group}", own.group);
            return Err(BundleError { bundle, reason }.into());
        }
        let namespaces = Namespaces::open(&own.namespaces)?;
        let directory =
            Some(request.socket_directory.as_str()).filter(|directory| !directory.is_empty());
        let socket = socket::path(
            directory,
            &request.containerd_address,
            namespace.as_str(),
            group.as_str(),
        )?;
        // After all checks: a refused request leaves nothing in the bundle.
        protocol::write_address(&bundle, &socket::address(&socket))?;
        let origin = Origin {
            namespace,
            group,
            grpc_address: request.containerd_address.clone(),
            ttrpc_address: request.ttrpc_address.clone(),
            managed: own.managed,
        };
        Ok(Self { origin, socket, namespaces })
    }
}

impl Opened {
    pub(super) fn keep(mut self) -> Result<Parts, DaemonError> {
        // Never an error: only this call and the drop take the parts.
        self.parts.take().ok_or(DaemonError::Leaving)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // With the listener: its file is removed while it is open.
        let Some(Parts { own, record, listener: _listener, .. }) = self.parts.take() else {
            return;
        };
        // Blocks the thread that drops it, which is rare and short enough for any thread.
        let removed = self.state.remove(&record).map_err(DaemonError::from);
        if let Err(error) = removed.and_then(|()| Ok(own.map_or(Ok(()), |own| own.remove())?)) {
            tracing::error!(%error, "something of a sandbox that nobody wants stays behind");
        }
    }
}

/// Enters the network, binds the socket and writes the record. Blocks.
pub(super) fn open(
    wanted: Wanted,
    state: &StateDirectory,
    owner: Owner,
) -> Result<Opened, DaemonError> {
    let Wanted { origin, socket, namespaces } = wanted;
    // Before the socket is bound: a network that cannot be entered leaves no file behind. A managed
    // sandbox gets its process with its network.
    let network =
        if origin.managed { Network::of_process() } else { Network::with_process(namespaces)? };
    let listener = bind(&socket)?;
    let own = SocketFile::of(&listener);
    let made = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let record = Record {
        owner,
        socket,
        namespace: origin.namespace.to_string(),
        group: origin.group.to_string(),
        made,
    };
    // After `bind`: only the owner of the socket may write the record, which has the same name.
    let written = state.write(&record);
    let parts = Parts { origin, listener, own, network, record };
    // Built before the error is returned, so that its drop removes the socket. Without a record the
    // thin shims would not find the sandbox after a takeover.
    let opened = Opened { parts: Some(parts), state: state.clone() };
    written?;
    Ok(opened)
}

/// Binds the socket of a new sandbox.
fn bind(socket: &Path) -> Result<UnixListener, DaemonError> {
    let deadline = Instant::now() + SUCCESSION;
    loop {
        if let Bound::New(listener) = socket::bind_or_join(socket)? {
            return Ok(listener);
        }
        let peer = socket::peer(socket);
        // Of this daemon: the sandbox is ending and removes its socket soon. Another process is not
        // waited for, since its sandbox may go on for ever.
        let is_own = peer == Some(std::process::id());
        if !is_own || Instant::now() >= deadline {
            let owner = peer.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            return Err(DaemonError::Squatted { socket: socket.to_owned(), owner });
        }
        sys::pause(SUCCESSION_POLL);
    }
}
