//! Protocol of `start`: its input on stdin, its reply on stdout, and the address in the bundle.

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

/// Limit of the input in bytes, which is containerd's own limit for sending.
const MAX_STDIN: u64 = 10 << 20;

/// containerd's variable for the address of its ttrpc socket, where it takes events.
const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";

/// File in the bundle with the printed address. containerd before 2.0 reads it after its restart.
pub(crate) const ADDRESS_FILE: &str = "address";

/// File in the bundle with the address, the version and the protocol, as containerd 2 writes it.
const BOOTSTRAP_FILE: &str = "bootstrap.json";

/// Input of `start` on stdin.
#[derive(Debug)]
pub struct StartInput {
    /// Sent by containerd 2.3 and later. Earlier releases send the runtime options, a protobuf
    /// `Any`, or nothing.
    params: Option<BootstrapParams>,
}

impl StartInput {
    /// Reads stdin to its end.
    pub fn read(invocation: &Invocation) -> Result<Self, BootstrapError> {
        let stdin = io::stdin();
        let mut bytes = Vec::new();
        // Not from a terminal: a call by hand would wait for the end of the input.
        if !stdin.is_terminal() {
            stdin.lock().take(MAX_STDIN).read_to_end(&mut bytes).map_err(io_error("stdin"))?;
        }
        Ok(Self::decode(&bytes, invocation))
    }

    /// Decodes the bytes of stdin.
    pub(crate) fn decode(bytes: &[u8], invocation: &Invocation) -> Self {
        // The runtime options are not kept: containerd sends them again with each `Create`.
        let params = decode_params(bytes, invocation.id.as_str(), invocation.namespace.as_str());
        Self { params }
    }

    /// Path of the socket of the container's group.
    pub fn socket(&self, invocation: &Invocation, group: &Id) -> Result<PathBuf, BootstrapError> {
        socket::path(
            self.socket_directory(),
            &invocation.address,
            invocation.namespace.as_str(),
            group.as_str(),
        )
    }

    /// Directory for sockets, if containerd names one.
    pub fn socket_directory(&self) -> Option<&str> {
        let directory = self.params.as_ref().and_then(|params| params.socket_dir.as_deref());
        // An empty string names no directory.
        directory.filter(|directory| !directory.is_empty())
    }

    /// Address of containerd's ttrpc socket: from the params or the environment, else beside the
    /// gRPC socket.
    pub fn ttrpc_address(&self, invocation: &Invocation) -> String {
        let told = self.params.as_ref().map(|params| params.containerd_ttrpc_address.clone());
        let told = told.or_else(|| env::var(TTRPC_ADDRESS).ok()).filter(|told| !told.is_empty());
        told.unwrap_or_else(|| format!("{}.ttrpc", invocation.address))
    }

    /// The reply for stdout: a protobuf `BootstrapResult` after params, else the bare address.
    pub fn reply(&self, address: &str) -> Result<Vec<u8>, BootstrapError> {
        // Every containerd that sends no params takes a bare address, as task API version 2.
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

/// Decodes the params of this invocation; no result if `bytes` are runtime options.
fn decode_params(bytes: &[u8], id: &str, namespace: &str) -> Option<BootstrapParams> {
    let params = BootstrapParams::parse_from_bytes(bytes).ok()?;
    // The options, an `Any`, also decode as params (type URL as id, value as namespace). Only the
    // comparison of the ids tells them apart.
    (params.instance_id == id && params.namespace == namespace).then_some(params)
}

/// Writes the address into the bundle, completely or not at all.
// By a rename, since containerd may read the file at any time.
pub fn write_address(bundle: &Path, address: &str) -> Result<(), BootstrapError> {
    let path = bundle.join(ADDRESS_FILE);
    let temporary = bundle.join(".address");
    fs::write(&temporary, address).map_err(io_error(temporary.display().to_string()))?;
    fs::rename(&temporary, &path).map_err(io_error(path.display().to_string()))
}

/// Path of the socket as `start` or containerd has written it into the bundle.
pub fn read_address(bundle: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Bootstrap {
        address: String,
    }

    let written = fs::read_to_string(bundle.join(ADDRESS_FILE));
    // containerd 2 runs no `start` for a container of a managed sandbox, but writes its own file.
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
        let plain = StartInput { params: None };
        assert_eq!(plain.reply("unix:///s").unwrap(), b"unix:///s");
        let asked = StartInput { params: Some(BootstrapParams::default()) };
        let reply = BootstrapResult::parse_from_bytes(&asked.reply("unix:///s").unwrap()).unwrap();
        assert_eq!(
            (reply.version, reply.address.as_str(), reply.protocol.as_str()),
            (3, "unix:///s", "ttrpc")
        );
    }
}
