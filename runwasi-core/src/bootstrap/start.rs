//! The action `start`: finds or makes the server of a container's group and replies with its address.

use std::{
    env,
    fs::{self, File},
    os::unix::{fs::FileExt, net::UnixListener},
    path::Path,
};

use super::{
    BootstrapError,
    invocation::Invocation,
    io_error,
    protocol::{self, StartInput},
    socket::{self, Bound, SocketFile},
};
use crate::{
    bundle::config::SandboxConfig,
    network::Entrance,
    requirements,
    sys::{self, Fork},
};

/// What `start` has become.
pub enum Started {
    /// The process that containerd has started: this goes to its stdout, then it ends.
    Reply(Vec<u8>),
    /// The server, a process of its own.
    Server(Handover),
}

/// From `start` to the server: what has been checked and opened.
pub struct Handover {
    /// Bound and listening: connections wait in its backlog until they are accepted.
    pub(super) listener: UnixListener,
    /// The listener's file, for the server to remove.
    pub(super) own: Option<SocketFile>,
    pub(super) network: Entrance,
    /// Whether containerd manages the sandbox by its Sandbox API.
    pub(super) managed: bool,
    /// Where containerd takes events.
    pub(super) ttrpc_address: String,
}

/// Does what can be known to fail first; then, if the group has no server, becomes two processes.
pub fn start(invocation: &Invocation) -> Result<Started, BootstrapError> {
    let asked = StartInput::read(invocation)?;
    let SandboxConfig { group, network, managed } =
        SandboxConfig::load(&invocation.bundle, &invocation.id)?;
    let path = asked.socket(invocation, &group)?;
    // The server enters it; one that dies of a wrong one could not tell anybody.
    let network = Entrance::open(&network)?;
    requirements::check()?;
    let address = socket::address(&path);
    // Before there is a server that a failure would leave behind.
    protocol::write_address(&invocation.bundle, &address)?;
    let reply = asked.reply(&address)?;
    let Bound::New(listener) = socket::bind_or_join(&path)? else {
        return Ok(Started::Reply(reply));
    };
    let own = SocketFile::of(&listener);
    match become_server(&invocation.bundle) {
        Ok(Fork::Parent) => Ok(Started::Reply(reply)),
        Ok(Fork::Child) => {
            let ttrpc_address = asked.ttrpc_address(invocation);
            Ok(Started::Server(Handover { listener, own, network, managed, ttrpc_address }))
        }
        Err(error) => {
            // The socket has no server and never will.
            let _ = own.map(|own| own.remove());
            Err(error)
        }
    }
}

/// The server is a fork of this process, which has one thread and nothing but what it checked: another `exec` would only
/// load and relocate the same program again. In the child: a process group of its own, the bundle as working
/// directory (`log` is there), and none of our streams, since containerd reads stdout until it is closed.
fn become_server(bundle: &Path) -> Result<Fork, BootstrapError> {
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(io_error("/dev/null"))?;
    let fork = sys::fork().map_err(io_error("fork the server"))?;
    if fork == Fork::Child {
        let detached = rustix::process::setpgid(None, None)
            .and_then(|()| rustix::stdio::dup2_stdin(&null))
            .and_then(|()| rustix::stdio::dup2_stdout(&null))
            .and_then(|()| rustix::stdio::dup2_stderr(&null));
        detached.map_err(|error| io_error("detach the server")(error.into()))?;
        env::set_current_dir(bundle).map_err(io_error(bundle.display().to_string()))?;
        name_server();
    }
    Ok(fork)
}

/// For people, `ps` and the testbed, which tells servers from short-lived calls by it: the action in our command line becomes
/// `serve`, which is as long as `start`. The shim itself does not depend on it, so a failure is not one of the start.
/// `/proc/self/stat` has the place of the arguments in memory (`arg_start`, field 48 of `proc(5)`).
fn name_server() {
    let rename = || -> Option<()> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let arguments: u64 = stat.rsplit_once(") ")?.1.split(' ').nth(48 - 3)?.parse().ok()?;
        let line = fs::read("/proc/self/cmdline").ok()?;
        let action = line.strip_suffix(b"start\0")?.len();
        let memory = File::options().write(true).open("/proc/self/mem").ok()?;
        memory.write_all_at(b"serve", arguments + u64::try_from(action).ok()?).ok()
    };
    let _ = rename();
}
