//! The action `start`: finds or makes the server of a container's group and replies with its address.

use std::{
    env,
    fs::{self, File},
    io::{self, IsTerminal, Read},
    os::unix::{fs::FileExt, net::UnixListener},
    path::Path,
};

use containerd_shim::bootstrap::BootstrapParams;
use containerd_shim_protos::{bootstrap_api::BootstrapResult, protobuf::Message};

use super::{
    BootstrapError, io_error,
    socket::{self, Bound, Own},
};
use crate::{
    bundle::config::Config,
    cli::Invocation,
    network::Entrance,
    sys::{self, Fork},
};

/// containerd's own limit for what it sends.
const MAX_STDIN: u64 = 10 << 20;

/// Where containerd takes events; the name is containerd's.
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// In the bundle: the address that was printed. containerd before 2.0 reads it back after its restart.
pub(crate) const ADDRESS_FILE: &str = "address";

/// How containerd wants the reply.
#[derive(Debug)]
enum Reply {
    /// containerd before 2.3: the address alone, which all of them take (as task API version 2).
    Plain,
    /// containerd 2.3 and later: a protobuf `BootstrapResult`.
    Protobuf,
}

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
    pub(super) own: Option<Own>,
    pub(super) network: Entrance,
    /// Where containerd takes events.
    pub(super) ttrpc_address: String,
}

/// Does what can be known to fail first; then, if the group has no server, becomes two processes.
pub fn start(invocation: &Invocation) -> Result<Started, BootstrapError> {
    let params = read_params(invocation)?;
    let config = Config::load(&invocation.bundle)?;
    let group = config.pod.as_ref().unwrap_or(&invocation.id);
    let socket_directory =
        params.as_ref().and_then(|params| params.socket_dir.as_deref()).filter(|dir| !dir.is_empty());
    let path = socket::path(socket_directory, &invocation.address, invocation.namespace.as_str(), group.as_str())?;
    // The server enters it; one that dies of a wrong one could not tell anybody.
    let network = Entrance::open(&config.network)?;
    let address = format!("unix://{}", path.display());
    // Before there is a server that a failure would leave behind.
    write_address(&invocation.bundle, &address)?;
    let reply = encode(&address, if params.is_some() { Reply::Protobuf } else { Reply::Plain })?;
    let Bound::New(listener) = socket::bind_or_join(&path)? else { return Ok(Started::Reply(reply)) };
    let own = Own::of(&listener);
    match become_server(&invocation.bundle) {
        Ok(Fork::Parent) => Ok(Started::Reply(reply)),
        Ok(Fork::Child) => {
            let ttrpc_address = ttrpc_address(params.as_ref(), invocation);
            Ok(Started::Server(Handover { listener, own, network, ttrpc_address }))
        }
        Err(error) => {
            // The socket has no server and never will.
            let _ = own.map(|own| own.remove());
            Err(error)
        }
    }
}

/// containerd's ttrpc socket: told in the params or the environment, else beside the gRPC one.
fn ttrpc_address(params: Option<&BootstrapParams>, invocation: &Invocation) -> String {
    let told = params.map(|params| params.containerd_ttrpc_address.clone()).or_else(|| env::var(TTRPC_ADDRESS).ok());
    told.filter(|told| !told.is_empty()).unwrap_or_else(|| format!("{}.ttrpc", invocation.address))
}

/// containerd 2.3 and later always sends `BootstrapParams` on stdin; earlier ones send nothing or the runtime options.
fn read_params(invocation: &Invocation) -> Result<Option<BootstrapParams>, BootstrapError> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin.lock().take(MAX_STDIN).read_to_end(&mut bytes).map_err(io_error("stdin"))?;
    Ok(decode_params(&bytes, invocation.id.as_str(), invocation.namespace.as_str()))
}

/// The options, an `Any`, also decode as `BootstrapParams` (type URL as id, value as namespace): only equal ids tell.
fn decode_params(bytes: &[u8], id: &str, namespace: &str) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(bytes).ok()?;
    (params.instance_id == id && params.namespace == namespace).then_some(params)
}

/// The server is a fork of this process, which has one thread and nothing but what it checked: another `exec` would only
/// load and relocate the same program again. In the child: a process group of its own, the bundle as working
/// directory (`log` is there), and none of our streams, since containerd reads stdout until it is closed.
fn become_server(bundle: &Path) -> Result<Fork, BootstrapError> {
    let null = File::options().read(true).write(true).open("/dev/null").map_err(io_error("/dev/null"))?;
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

/// Complete or not at all: containerd may read it at any time.
fn write_address(bundle: &Path, address: &str) -> Result<(), BootstrapError> {
    let (path, temporary) = (bundle.join(ADDRESS_FILE), bundle.join(".address"));
    fs::write(&temporary, address).map_err(io_error(temporary.display().to_string()))?;
    fs::rename(&temporary, &path).map_err(io_error(path.display().to_string()))
}

fn encode(address: &str, reply: Reply) -> Result<Vec<u8>, BootstrapError> {
    match reply {
        Reply::Plain => Ok(address.as_bytes().to_vec()),
        Reply::Protobuf => {
            let result = BootstrapResult {
                version: containerd_shim_protos::TASK_API_VERSION,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                ..BootstrapResult::default()
            };
            result.write_to_bytes().map_err(|error| BootstrapError::Encode(error.to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    use super::*;

    #[test]
    fn only_params_with_our_ids_are_bootstrap_params() {
        let params = BootstrapParams { instance_id: "c1".into(), namespace: "k8s.io".into(), ..Default::default() };
        let bytes = params.write_to_bytes().unwrap();
        assert_eq!(decode_params(&bytes, "c1", "k8s.io"), Some(params));
        assert_eq!(decode_params(&bytes, "c2", "k8s.io"), None);
        let options =
            Any { type_url: "containerd.runc.v1.Options".into(), value: vec![10, 1, 65], ..Default::default() };
        assert_eq!(decode_params(&options.write_to_bytes().unwrap(), "c1", "k8s.io"), None);
        assert_eq!(decode_params(&[], "c1", "k8s.io"), None);
    }

    #[test]
    fn the_reply_is_plain_unless_containerd_sent_params() {
        assert_eq!(encode("unix:///s", Reply::Plain).unwrap(), b"unix:///s");
        let reply = BootstrapResult::parse_from_bytes(&encode("unix:///s", Reply::Protobuf).unwrap()).unwrap();
        assert_eq!((reply.version, reply.address.as_str(), reply.protocol.as_str()), (3, "unix:///s", "ttrpc"));
    }
}
