//! The thin shim: asks the daemon for a sandbox and prints the
//! address of its socket for containerd.
//!
//! For an existing sandbox it asks the owner that the record names, else the daemon at the manager
//! socket. `delete` also works without a daemon: the thin shim then cleans up itself.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use runwasi_core::{
    bootstrap::{
        BootstrapError,
        delete::{self, Deadline, Ended},
        protocol::{self, StartInput},
        socket,
    },
    bundle::config,
    cli::{Action, Invocation, run},
    settings::SettingsError,
    sys,
};

use crate::{
    config::client_socket,
    identity::Identity,
    manager::{
        PROTOCOL,
        client::{Client, ClientError},
        messages::{CreateRequest, DeleteRequest},
    },
    state_dir::{RecordError, StateDirectory},
};

/// Time limit for the reply to `start`, which takes milliseconds.
// containerd gives the start of a shim no limit, but its clients do.
pub(crate) const START_PATIENCE: Duration = Duration::from_secs(9);
/// How long a refused or cut off request is repeated, from the first refusal on.
// A daemon that is being replaced refuses new sandboxes. Its successor has the manager socket by
// then, or in a moment.
const HANDOVER: Duration = Duration::from_secs(1);
/// Time between two requests.
const HANDOVER_POLL: Duration = Duration::from_millis(20);

/// Failure of the thin shim.
#[derive(Debug, thiserror::Error)]
enum ThinError {
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error(transparent)]
    Config(#[from] SettingsError),
    #[error(transparent)]
    Daemon(#[from] ClientError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// The `main` of a thin shim's program.
pub fn main(identity: &Identity) -> ExitCode {
    run(identity.about(), |action, invocation| match action {
        Action::Start => start(identity, invocation),
        Action::Delete => delete(identity, invocation),
    })
}

fn start(identity: &Identity, invocation: &Invocation) -> Result<Vec<u8>, ThinError> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let began = u64::try_from(began).unwrap_or_default();
    let input = StartInput::read(invocation)?;
    let group = config::group(&invocation.bundle, &invocation.id).map_err(BootstrapError::from)?;
    let manager = Manager::of(identity)?;
    let request = CreateRequest {
        protocol: PROTOCOL,
        namespace: invocation.namespace.to_string(),
        id: invocation.id.to_string(),
        bundle: invocation.bundle.display().to_string(),
        group: group.to_string(),
        containerd_address: invocation.address.clone(),
        ttrpc_address: input.ttrpc_address(invocation),
        socket_directory: input.socket_directory().unwrap_or_default().to_owned(),
        began,
    };
    let sandbox = create(&manager, &input.socket(invocation, &group)?, &request)?;
    Ok(input.reply(&sandbox)?)
}

/// Requests the sandbox and returns its address.
fn create(manager: &Manager, socket: &Path, request: &CreateRequest) -> Result<String, ThinError> {
    let mut patience = Patience::start(Instant::now());
    loop {
        let left = patience.left(Instant::now());
        match manager.client(socket, left).and_then(|client| client.create(request)) {
            Ok(reply) => return Ok(reply.address),
            // The daemon is being replaced, or has closed this connection to make room for others.
            // A repeated request makes no second sandbox: it joins the first one.
            Err(ClientError::Refused { passing: true, .. } | ClientError::Broken { .. })
                if patience.repeats(Instant::now()) =>
            {
                sys::pause(HANDOVER_POLL);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Time limit for a request with its repetitions.
struct Patience {
    end: Instant,
    /// Time of the first refusal.
    refused: Option<Instant>,
}

impl Patience {
    fn start(now: Instant) -> Self {
        Self { end: now + START_PATIENCE, refused: None }
    }

    /// Time for the next request.
    fn left(&self, now: Instant) -> Duration {
        self.end.saturating_duration_since(now)
    }

    /// True if a request that was refused just now is to be repeated.
    // A busy daemon may take seconds to refuse the first one. Its successor is no later for that.
    fn repeats(&mut self, now: Instant) -> bool {
        let refused = *self.refused.get_or_insert(now);
        now < self.end.min(refused + HANDOVER)
    }
}

/// The daemon that takes new sandboxes.
struct Manager {
    socket: PathBuf,
    program: &'static str,
}

impl Manager {
    fn of(identity: &Identity) -> Result<Self, SettingsError> {
        let socket = client_socket(identity, &|name| env::var_os(name))?;
        Ok(Self { socket, program: identity.program })
    }

    /// Connects to the owner of the sandbox at `socket`, else to this daemon.
    fn client(&self, socket: &Path, patience: Duration) -> Result<Client, ClientError> {
        let state = StateDirectory::of(&self.socket);
        let recorded = state
            .read(socket)
            .filter(|record| record.owner.is_alive())
            .map(|record| record.owner.manager);
        // For a lost record: the kernel knows the process that listens on the socket.
        let listening = || socket::peer(socket).map(|pid| state.daemon_socket(pid));
        let end = Instant::now() + patience;
        let connect = |socket: &Path| {
            Client::connect(socket, self.program, end.saturating_duration_since(Instant::now()))
        };
        // An owner without an answer is ending, so an error falls back to the manager socket.
        let owner = recorded.or_else(listening).and_then(|owner| connect(&owner).ok());
        owner.map_or_else(|| connect(&self.socket), Ok)
    }
}

fn delete(identity: &Identity, invocation: &Invocation) -> Result<Vec<u8>, ThinError> {
    let deadline = Deadline::start();
    let socket = protocol::read_address(&invocation.bundle);
    let mut ended = None;
    if let Some(socket) = &socket {
        // Only if a process serves the sandbox: the manager socket may be systemd's, and a
        // connection to it would start a daemon.
        if socket::is_alive(socket) {
            ended = match ask_to_delete(identity, invocation, socket, deadline) {
                // The daemon has ended during the call. The cleanup below needs no daemon.
                Err(_) if !socket::is_alive(socket) => None,
                answer => answer?,
            };
        }
        clean_up(identity, socket)?;
    }
    Ok(delete::finish(invocation, ended, deadline)?)
}

fn ask_to_delete(
    identity: &Identity,
    invocation: &Invocation,
    socket: &Path,
    deadline: Deadline,
) -> Result<Option<Ended>, ThinError> {
    let manager = Manager::of(identity)?;
    let request = DeleteRequest {
        protocol: PROTOCOL,
        namespace: invocation.namespace.to_string(),
        id: invocation.id.to_string(),
        socket: socket.display().to_string(),
        containerd_address: invocation.address.clone(),
    };
    let reply = manager.client(socket, deadline.for_server())?.delete(&request)?;
    Ok(reply.found.then_some(Ended { pid: reply.pid, status: reply.exit_status }))
}

/// Removes the socket and the record of a sandbox that a killed daemon has left.
fn clean_up(identity: &Identity, socket: &Path) -> Result<(), ThinError> {
    let state = StateDirectory::of(&Manager::of(identity)?.socket);
    // Read before the check of the socket: if a new sandbox takes this name in between, its record
    // is another one, which `remove` keeps.
    let record = state.read(socket);
    if socket::is_alive(socket) {
        return Ok(());
    }
    socket::remove_if_dead(socket)?;
    // Without a check of the owner: a killed process closes its sockets before its pid disappears,
    // so the owner may still seem alive.
    Ok(record.map_or(Ok(()), |record| state.remove(&record))?)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::state_dir::{Owner, Record};

    #[test]
    fn full_queues_of_connections_share_one_time_limit() {
        let directory = tempfile::tempdir().unwrap();
        let manager = Manager { socket: directory.path().join("m/manager.sock"), program: "test" };
        let state = StateDirectory::of(&manager.socket);
        state.create().unwrap();
        let owner = Owner::this(&state).unwrap();
        let sandbox = directory.path().join("sandbox");
        let record = Record {
            owner: owner.clone(),
            socket: sandbox.clone(),
            namespace: "default".into(),
            group: "g".into(),
            made: 1,
        };
        state.write(&record).unwrap();
        let mut held: Vec<OwnedFd> = Vec::new();
        for path in [&owner.manager, &manager.socket] {
            held.push(socket::listener(path).unwrap().into());
            while let Ok(stream) = socket::connect_within(path, Duration::ZERO) {
                held.push(stream.into());
            }
        }
        let patience = Duration::from_secs(1);
        let begun = Instant::now();
        let client = manager.client(&sandbox, patience);
        assert!(matches!(client, Err(ClientError::Broken { .. })));
        assert!(begun.elapsed() < patience * 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn late_refusal_is_repeated_as_an_early_one() {
        let start = Instant::now();
        for late in [Duration::ZERO, Duration::from_secs(5)] {
            let mut patience = Patience::start(start);
            let first = start + late;
            assert!(patience.repeats(first));
            assert!(patience.repeats(first + HANDOVER / 2));
            assert!(!patience.repeats(first + HANDOVER));
        }
    }

    #[test]
    fn all_requests_together_stay_within_the_limit_of_a_start() {
        let start = Instant::now();
        let mut patience = Patience::start(start);
        let late = START_PATIENCE - HANDOVER_POLL;
        assert!(patience.repeats(start + late));
        assert_eq!(patience.left(start + late), HANDOVER_POLL);
        assert!(!patience.repeats(start + START_PATIENCE));
        assert_eq!(patience.left(start + 2 * START_PATIENCE), Duration::ZERO);
    }
}
