//! The action `start`: finds or makes the server of a container's group and replies with its address.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{self, IsTerminal, Read},
    os::{
        fd::OwnedFd,
        unix::{fs::OpenOptionsExt, net::UnixListener, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
};

use containerd_shim::bootstrap::BootstrapParams;
use containerd_shim_protos::{bootstrap_api::BootstrapResult, protobuf::Message};

use super::{
    BootstrapError, io_error,
    socket::{self, Bound, Own},
};
use crate::{
    bundle::config::{Config, Network},
    cli::Invocation,
};

/// containerd's own limit for what it sends.
const MAX_STDIN: u64 = 10 << 20;

/// Where containerd takes events; the name is containerd's.
pub(super) const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// From `start` to `serve`: the network of `config.json`. The bundle may be gone when the server comes up.
pub(super) const NETWORK: &str = "RUNWASI_NETWORK";

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

/// Does what can be known to fail first, then spawns the server if there is none; the answer is what goes to stdout.
pub fn start(invocation: &Invocation) -> Result<Vec<u8>, BootstrapError> {
    let params = read_params(invocation)?;
    let config = Config::load(&invocation.bundle)?;
    let group = config.pod.as_ref().unwrap_or(&invocation.id);
    let socket_directory =
        params.as_ref().and_then(|params| params.socket_dir.as_deref()).filter(|dir| !dir.is_empty());
    let path = socket::path(socket_directory, &invocation.address, invocation.namespace.as_str(), group.as_str())?;
    check_network(&config.network)?;
    let address = format!("unix://{}", path.display());
    // Before there is a server that a failure would leave behind.
    write_address(&invocation.bundle, &address)?;
    if let Bound::New(listener) = socket::bind_or_join(&path)? {
        let own = Own::of(&listener);
        let spawned = spawn_server(invocation, params.as_ref(), &config.network, listener);
        if let (Err(_), Some(own)) = (&spawned, own) {
            // The socket has no server and never will.
            let _ = own.remove();
        }
        spawned?;
    }
    encode(&address, if params.is_some() { Reply::Protobuf } else { Reply::Plain })
}

/// The server enters the namespace; a server that dies of a wrong one could not tell anybody.
fn check_network(network: &Network) -> Result<(), BootstrapError> {
    let Network::Path(path) = network else { return Ok(()) };
    let what = || io_error(format!("linux.namespaces[network].path {}", path.display()));
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(what())?;
    let file_system = rustix::fs::fstatfs(&opened).map_err(|error| what()(error.into()))?;
    if file_system.f_type != libc::NSFS_MAGIC {
        return Err(what()(io::Error::new(io::ErrorKind::InvalidInput, "is not a namespace")));
    }
    Ok(())
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

/// The server is this program again, in a process group of its own, with the listening socket as stdin. It must not keep
/// our stdout: containerd reads until it is closed.
fn spawn_server(
    invocation: &Invocation,
    params: Option<&BootstrapParams>,
    network: &Network,
    listener: UnixListener,
) -> Result<(), BootstrapError> {
    let program = env::current_exe().map_err(io_error("own executable"))?;
    let mut command = Command::new(program);
    command.args(["-namespace", invocation.namespace.as_str()]).args(["-id", invocation.id.as_str()]);
    command.args(["-address", &invocation.address]).arg("-bundle").arg(&invocation.bundle);
    if invocation.debug {
        command.arg("-debug");
    }
    if let Some(params) = params {
        command.env(TTRPC_ADDRESS, &params.containerd_ttrpc_address);
    }
    command.env(NETWORK, network.to_word());
    command.arg("serve").current_dir(&invocation.bundle).process_group(0);
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop).map_err(io_error("spawn the server"))
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
