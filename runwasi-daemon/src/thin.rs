//! The thin shim: asks the daemon for a sandbox and hands its socket to containerd. The whole of `containerd-shim-wasmtimed-v1`.
//!
//! It goes to the owner of a sandbox that is there, by its record, else to the manager socket. `delete` also works when
//! the daemon is gone: then there is nobody but it to do the work.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use runwasi_core::{
    bootstrap::{
        BootstrapError,
        delete::{self, Ended},
        protocol::{self, StartInput},
        socket,
    },
    bundle::config,
    cli::{About, Action, Invocation, run},
    settings::SettingsError,
    sys,
};

use crate::{
    config::client_socket,
    manager::{
        PROTOCOL,
        client::{Client, ClientError},
        messages::{CreateRequest, DeleteRequest},
    },
    state_dir::{RecordError, StateDirectory},
};

/// For an answer to `start`, which takes milliseconds; containerd gives a shim's start no limit, users do.
const START_PATIENCE: Duration = Duration::from_secs(9);
/// For an answer to `delete`, for which containerd has 5 s.
const DELETE_PATIENCE: Duration = Duration::from_secs(4);
/// How long a daemon may be between two lives: one that is replaced says so and answers no more.
const HANDOVER: Duration = Duration::from_secs(1);
const HANDOVER_POLL: Duration = Duration::from_millis(20);

/// Why the thin shim failed.
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

/// The `main` of a thin shim.
pub fn main(about: About) -> ExitCode {
    run(about, |action, invocation| match action {
        Action::Start => start(invocation),
        Action::Delete => delete(invocation),
    })
}

fn start(invocation: &Invocation) -> Result<Vec<u8>, ThinError> {
    let asked = StartInput::read(invocation)?;
    let group = config::group(&invocation.bundle, &invocation.id).map_err(BootstrapError::from)?;
    let manager = manager_socket()?;
    let request = CreateRequest {
        protocol: PROTOCOL,
        namespace: invocation.namespace.to_string(),
        id: invocation.id.to_string(),
        bundle: invocation.bundle.display().to_string(),
        group: group.to_string(),
        containerd_address: invocation.address.clone(),
        ttrpc_address: asked.ttrpc_address(invocation),
        socket_directory: asked.socket_directory().unwrap_or_default().to_owned(),
        debug: invocation.debug,
        options: asked.options().to_vec(),
    };
    let sandbox = create(&manager, &asked.socket(invocation, &group)?, &request)?;
    Ok(asked.reply(&sandbox)?)
}

fn create(manager: &Path, socket: &Path, request: &CreateRequest) -> Result<String, ThinError> {
    let deadline = Instant::now() + HANDOVER;
    loop {
        let created =
            client(manager, socket, START_PATIENCE).and_then(|client| client.create(request));
        match created {
            Ok(reply) => return Ok(reply.address),
            // It is being replaced, or had too many clients. Asking twice makes no second sandbox.
            Err(ClientError::Refused { passing: true, .. } | ClientError::Broken { .. })
                if Instant::now() < deadline =>
            {
                sys::pause(HANDOVER_POLL);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// The daemon that owns the sandbox behind `socket`, else the one that takes new ones.
fn client(manager: &Path, socket: &Path, patience: Duration) -> Result<Client, ClientError> {
    let state = StateDirectory::of(manager);
    let recorded = state
        .read(socket)
        .filter(|record| record.owner.is_alive())
        .map(|record| record.owner.manager);
    // Should its record be lost, the socket itself says whose it is.
    let listening = || socket::peer(socket).map(|pid| state.daemon_socket(pid));
    let owner =
        recorded.or_else(listening).and_then(|owner| Client::connect(&owner, patience).ok());
    owner.map_or_else(|| Client::connect(manager, patience), Ok)
}

fn delete(invocation: &Invocation) -> Result<Vec<u8>, ThinError> {
    let socket = protocol::read_address(&invocation.bundle);
    let mut ended = None;
    if let Some(socket) = &socket {
        // Asked only while somebody serves the sandbox: the manager socket may be systemd's, and asking would start a daemon.
        if socket::is_alive(socket) {
            ended = match ask_to_delete(invocation, socket) {
                // It has died, or left, under our hands: nobody serves the sandbox any more.
                Err(_) if !socket::is_alive(socket) => None,
                answer => answer?,
            };
        }
        clean_up(socket)?;
    }
    Ok(delete::finish(&invocation.bundle, ended)?)
}

fn ask_to_delete(invocation: &Invocation, socket: &Path) -> Result<Option<Ended>, ThinError> {
    let manager = manager_socket()?;
    let request = DeleteRequest {
        protocol: PROTOCOL,
        namespace: invocation.namespace.to_string(),
        id: invocation.id.to_string(),
        socket: socket.display().to_string(),
        containerd_address: invocation.address.clone(),
    };
    let reply = client(&manager, socket, DELETE_PATIENCE)?.delete(&request)?;
    Ok(reply.found.then_some(Ended { pid: reply.pid, status: reply.exit_status }))
}

/// What a killed daemon has left of the sandbox.
fn clean_up(socket: &Path) -> Result<(), ThinError> {
    let state = StateDirectory::of(&manager_socket()?);
    // Read before the look at the socket: should a new sandbox take the place meanwhile, its record is another one.
    let record = state.read(socket);
    if socket::is_alive(socket) {
        return Ok(());
    }
    socket::remove_if_dead(socket)?;
    // Whether or not its owner is still there: a killed process closes its sockets before it is gone.
    Ok(record.map_or(Ok(()), |record| state.remove(&record))?)
}

fn manager_socket() -> Result<PathBuf, SettingsError> {
    client_socket(&|name| env::var_os(name))
}
