//! Action `start`: finds or creates the server of a container's group and replies with its address.

use std::{env, fs::File, os::unix::net::UnixListener, path::Path};

use super::{
    BootstrapError,
    invocation::Invocation,
    io_error,
    protocol::{self, StartInput},
    socket::{self, Bound, SocketFile},
};
use crate::{
    bundle::config::SandboxConfig,
    id::Id,
    network::Namespaces,
    requirements,
    sys::{self, Fork},
    task_limits,
};

/// Role of this process after [`start`].
pub enum Started {
    /// The process that containerd has started. It prints this reply and ends.
    Reply(Vec<u8>),
    /// The server, a process of its own.
    Server(Handover),
}

/// Resources that `start` has checked and opened for the server.
pub struct Handover {
    /// Bound and listening. Connections wait in its backlog until they are accepted.
    pub(super) listener: UnixListener,
    /// The listener's file, for the server to remove.
    pub(super) own: Option<SocketFile>,
    pub(super) namespaces: Namespaces,
    /// Id of the sandbox.
    pub(super) group: Id,
    /// True if containerd manages the sandbox by its Sandbox API.
    pub(super) managed: bool,
    /// Address at which containerd takes events.
    pub(super) ttrpc_address: String,
}

/// First does everything that can fail in a foreseeable way. Then forks a server if the group has
/// no other.
pub fn start(invocation: &Invocation) -> Result<Started, BootstrapError> {
    let input = StartInput::read(invocation)?;
    let SandboxConfig { group, namespaces, managed } =
        SandboxConfig::load(&invocation.bundle, &invocation.id)?;
    let path = input.socket(invocation, &group)?;
    // The server starts a process in the namespaces. They are opened here, since a server that
    // fails on a wrong one could not report it to containerd.
    let namespaces = Namespaces::open(&namespaces)?;
    requirements::check()?;
    let address = socket::address(&path);
    // Before there is a server, which a failure would leave behind.
    protocol::write_address(&invocation.bundle, &address)?;
    let reply = input.reply(&address)?;
    let Bound::New(listener) = socket::bind_or_join(&path)? else {
        return Ok(Started::Reply(reply));
    };
    let own = SocketFile::of(&listener);
    match become_server(&invocation.bundle) {
        Ok(Fork::Parent) => Ok(Started::Reply(reply)),
        Ok(Fork::Child) => {
            let ttrpc_address = input.ttrpc_address(invocation);
            Ok(Started::Server(Handover {
                listener,
                own,
                namespaces,
                group,
                managed,
                ttrpc_address,
            }))
        }
        Err(error) => {
            // The socket has no server and never will. The caller gets the error of the fork, and
            // the next `start` replaces a socket that could not be removed.
            let _ = own.map(|own| own.remove());
            Err(error)
        }
    }
}

/// Forks the server: in a process group of its own, with the bundle as working directory and
/// without our streams. Its arguments stay those of `start`; the server then gives
/// itself a name.
fn become_server(bundle: &Path) -> Result<Fork, BootstrapError> {
    // Opened before the fork: an error is still an error of the start.
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(io_error("/dev/null"))?;
    // Without an `exec`, which would only load and relocate the same program again: this process
    // has one thread and holds nothing but the results of its checks.
    let fork = sys::fork().map_err(task_limits::named).map_err(io_error("fork the server"))?;
    if fork == Fork::Child {
        // Our streams are replaced, since containerd reads stdout until it is closed.
        let detached = rustix::process::setpgid(None, None)
            .and_then(|()| rustix::stdio::dup2_stdin(&null))
            .and_then(|()| rustix::stdio::dup2_stdout(&null))
            .and_then(|()| rustix::stdio::dup2_stderr(&null));
        detached.map_err(|error| io_error("detach the server")(error.into()))?;
        // The FIFO `log` is in the bundle.
        env::set_current_dir(bundle).map_err(io_error(bundle.display().to_string()))?;
    }
    Ok(fork)
}
