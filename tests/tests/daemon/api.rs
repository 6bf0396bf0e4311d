//! The manager API as a stranger speaks it: single calls with any bytes; used by the cases about bad input.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use containerd_shim_protos::protobuf::Message as _;
use containerd_shim_protos::ttrpc::proto::Request;
use containerd_shim_protos::ttrpc::{Client, Error};
use prost::Message;
use runwasi_tests::ShimDriver;
use runwasi_tests::shim::{LIMIT, reason};

/// The service's name on the wire.
const SERVICE: &str = "runwasi.manager.v1.Manager";
/// The protocol the daemon speaks.
pub(crate) const PROTOCOL: u32 = 1;

/// What the thin shim asks for a sandbox.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Create {
    #[prost(uint32, tag = "1")]
    pub(crate) protocol: u32,
    #[prost(string, tag = "2")]
    pub(crate) namespace: String,
    #[prost(string, tag = "3")]
    pub(crate) id: String,
    #[prost(string, tag = "4")]
    pub(crate) bundle: String,
    #[prost(string, tag = "5")]
    pub(crate) group: String,
    #[prost(string, tag = "6")]
    pub(crate) containerd_address: String,
    #[prost(string, tag = "7")]
    pub(crate) ttrpc_address: String,
}

impl Create {
    /// A right request for container `id` with this bundle.
    pub(crate) fn of(p: &ShimDriver, id: &str, bundle: &Path) -> Self {
        Self {
            protocol: PROTOCOL,
            namespace: p.namespace().to_owned(),
            id: id.to_owned(),
            bundle: bundle.to_string_lossy().into_owned(),
            group: id.to_owned(),
            containerd_address: p.dir().join("c.sock").to_string_lossy().into_owned(),
            ttrpc_address: p.dir().join("c.sock.ttrpc").to_string_lossy().into_owned(),
        }
    }
}

/// One call of the manager API over a connection of its own.
pub(crate) fn call(p: &ShimDriver, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, Error> {
    let client = Client::connect(&format!("unix://{}", p.node().socket().display()))?;
    let mut request = Request::new();
    request.service = SERVICE.to_owned();
    request.method = method.to_owned();
    request.timeout_nano = i64::try_from(LIMIT.as_nanos()).unwrap_or(i64::MAX);
    request.payload = payload;
    Ok(client.request(request)?.payload)
}

/// A call as bytes, for a connection that waits for nothing.
pub(crate) fn frame(method: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let mut request = Request::new();
    request.service = SERVICE.to_owned();
    request.method = method.to_owned();
    request.payload = payload.to_vec();
    let body = request.write_to_bytes()?;
    // Length, stream 1, a request, no flags.
    let length = u32::try_from(body.len())?.to_be_bytes();
    Ok([&length[..], &[0, 0, 0, 1, 1, 0], &body].concat())
}

/// What the daemon says when it refuses this; an answer, a hang and a closed connection are errors.
pub(crate) fn refusal(p: &ShimDriver, method: &str, payload: Vec<u8>) -> Result<String> {
    match call(p, method, payload) {
        Err(error @ Error::RpcStatus(_)) => {
            let said = reason(&error);
            // `ctr` prints this to people.
            ensure!(!said.contains("Status {"), "not the message alone: {said}");
            Ok(said)
        }
        other => bail!("{method} is not refused: {other:?}"),
    }
}
