//! What containerd says to `start` and how it wants the reply.

use std::{
    env, fs,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use containerd_shim::bootstrap::BootstrapParams;
use containerd_shim_protos::{bootstrap_api::BootstrapResult, protobuf::Message};
use serde::Deserialize;

use super::{BootstrapError, invocation::Invocation, io_error, socket};
use crate::id::Id;

/// containerd's own limit for what it sends.
const MAX_STDIN: u64 = 10 << 20;

/// Where containerd takes events; the name is containerd's.
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// In the bundle: the address that was printed. containerd before 2.0 reads it back after its restart.
pub(crate) const ADDRESS_FILE: &str = "address";

/// In the bundle: the same with version and protocol, as containerd 2 keeps it.
const BOOTSTRAP_FILE: &str = "bootstrap.json";

/// What was on stdin of `start`.
#[derive(Debug)]
pub struct StartInput {
    /// From containerd 2.3 and later.
    params: Option<BootstrapParams>,
    /// From earlier ones: the runtime options, a protobuf `Any`, or nothing.
    options: Vec<u8>,
}

impl StartInput {
    /// Reads stdin to its end.
    pub fn read(invocation: &Invocation) -> Result<Self, BootstrapError> {
        let stdin = io::stdin();
        let mut bytes = Vec::new();
        if !stdin.is_terminal() {
            stdin.lock().take(MAX_STDIN).read_to_end(&mut bytes).map_err(io_error("stdin"))?;
        }
        match decode_params(&bytes, invocation.id.as_str(), invocation.namespace.as_str()) {
            Some(params) => Ok(Self { params: Some(params), options: Vec::new() }),
            None => Ok(Self { params: None, options: bytes }),
        }
    }

    /// Where the socket of the container's group is to be.
    pub fn socket(&self, invocation: &Invocation, group: &Id) -> Result<PathBuf, BootstrapError> {
        socket::path(
            self.socket_directory(),
            &invocation.address,
            invocation.namespace.as_str(),
            group.as_str(),
        )
    }

    /// Where containerd wants sockets to lie, if it says so.
    pub fn socket_directory(&self) -> Option<&str> {
        let directory = self.params.as_ref().and_then(|params| params.socket_dir.as_deref());
        directory.filter(|directory| !directory.is_empty())
    }

    /// The runtime options as they came, an encoded `Any`; empty if there are none.
    pub fn options(&self) -> &[u8] {
        &self.options
    }

    /// containerd's ttrpc socket: told in the params or the environment, else beside the gRPC one.
    pub fn ttrpc_address(&self, invocation: &Invocation) -> String {
        let told = self.params.as_ref().map(|params| params.containerd_ttrpc_address.clone());
        let told = told.or_else(|| env::var(TTRPC_ADDRESS).ok()).filter(|told| !told.is_empty());
        told.unwrap_or_else(|| format!("{}.ttrpc", invocation.address))
    }

    /// The reply for stdout: a protobuf `BootstrapResult` for who sent params; the address alone for others, who all take
    /// it (as task API version 2).
    pub fn reply(&self, address: &str) -> Result<Vec<u8>, BootstrapError> {
        if self.params.is_none() {
            return Ok(address.as_bytes().to_vec());
        }
        let result = BootstrapResult {
            version: containerd_shim_protos::TASK_API_VERSION,
            address: address.to_owned(),
            protocol: "ttrpc".to_owned(),
            ..BootstrapResult::default()
        };
        result.write_to_bytes().map_err(|error| BootstrapError::Encode(error.to_string()))
    }
}

/// The options, an `Any`, also decode as `BootstrapParams` (type URL as id, value as namespace): only equal ids tell.
fn decode_params(bytes: &[u8], id: &str, namespace: &str) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(bytes).ok()?;
    (params.instance_id == id && params.namespace == namespace).then_some(params)
}

/// Writes the address into the bundle, complete or not at all: containerd may read it at any time.
pub fn write_address(bundle: &Path, address: &str) -> Result<(), BootstrapError> {
    let (path, temporary) = (bundle.join(ADDRESS_FILE), bundle.join(".address"));
    fs::write(&temporary, address).map_err(io_error(temporary.display().to_string()))?;
    fs::rename(&temporary, &path).map_err(io_error(path.display().to_string()))
}

/// The socket that was written into the bundle: by `start`; else by containerd 2 itself, which runs no `start` for a container of a
/// managed sandbox.
pub fn read_address(bundle: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Bootstrap {
        address: String,
    }

    let written = fs::read_to_string(bundle.join(ADDRESS_FILE));
    let address = written.or_else(|_| {
        let text = fs::read_to_string(bundle.join(BOOTSTRAP_FILE))?;
        serde_json::from_str(&text).map(|Bootstrap { address }| address).map_err(io::Error::from)
    });
    Some(PathBuf::from(address.ok()?.trim().strip_prefix("unix://")?))
}

#[cfg(test)]
mod tests {
    use containerd_shim_protos::protobuf::well_known_types::any::Any;

    use super::*;

    #[test]
    fn only_params_with_our_ids_are_bootstrap_params() {
        let params = BootstrapParams {
            instance_id: "c1".into(),
            namespace: "k8s.io".into(),
            ..Default::default()
        };
        let bytes = params.write_to_bytes().unwrap();
        assert_eq!(decode_params(&bytes, "c1", "k8s.io"), Some(params));
        assert_eq!(decode_params(&bytes, "c2", "k8s.io"), None);
        let options = Any {
            type_url: "containerd.runc.v1.Options".into(),
            value: vec![10, 1, 65],
            ..Default::default()
        };
        assert_eq!(decode_params(&options.write_to_bytes().unwrap(), "c1", "k8s.io"), None);
        assert_eq!(decode_params(&[], "c1", "k8s.io"), None);
    }

    #[test]
    fn the_address_is_what_start_or_containerd_has_written() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(read_address(bundle.path()), None);
        let bootstrap =
            r#"{"version":2,"address":"unix:///run/containerd/s/1","protocol":"ttrpc"}"#;
        fs::write(bundle.path().join(BOOTSTRAP_FILE), bootstrap).unwrap();
        assert_eq!(read_address(bundle.path()), Some("/run/containerd/s/1".into()));
        write_address(bundle.path(), "unix:///run/containerd/s/2").unwrap();
        assert_eq!(read_address(bundle.path()), Some("/run/containerd/s/2".into()));
    }

    #[test]
    fn the_reply_is_plain_unless_containerd_sent_params() {
        let plain = StartInput { params: None, options: Vec::new() };
        assert_eq!(plain.reply("unix:///s").unwrap(), b"unix:///s");
        let asked = StartInput { params: Some(BootstrapParams::default()), options: Vec::new() };
        let reply = BootstrapResult::parse_from_bytes(&asked.reply("unix:///s").unwrap()).unwrap();
        assert_eq!(
            (reply.version, reply.address.as_str(), reply.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }
}
