//! Client of another shim's Task service, and the reply of its action `start`.
//!
//! Shims up to containerd 1.7 serve version 2 of the service, later ones version 3, with messages
//! that are wire compatible. The reply tells the version.

use std::{
    collections::HashMap,
    io,
    time::{Duration, UNIX_EPOCH},
};

use containerd_shim_protos::{
    api::{
        ConnectRequest, ConnectResponse, DeleteRequest, DeleteResponse, Empty, KillRequest,
        ShutdownRequest, StateResponse, Status, WaitRequest, WaitResponse,
    },
    bootstrap_api::{BootstrapParams, BootstrapResult, Extension},
    protobuf::{
        self, Message, MessageField,
        well_known_types::{any::Any, timestamp::Timestamp},
    },
    ttrpc::{
        self, Code, Request, Response,
        asynchronous::{Client, transport::Socket},
        context,
    },
};
use serde::{Deserialize, Serialize};

use super::connect::connect_within;
use crate::{
    engine::exit::{Exit, ExitStatus},
    id::Id,
};

/// Timeout of our own calls, except `Wait`.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Key of the metadata by which shims know containerd's namespace.
pub(super) const NAMESPACE: &str = "containerd-namespace-ttrpc";

pub(super) const SIGKILL: u32 = 9;

/// Address of a shim and the version of its Task service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct ShimAddress {
    pub(crate) address: String,
    pub(crate) version: i32,
}

impl ShimAddress {
    /// Decodes what `start` has printed: a bare address until containerd 1.7, JSON until 2.2, and a
    /// protobuf `BootstrapResult` since 2.3.
    pub(crate) fn parse(stdout: &[u8]) -> Option<Self> {
        if let Ok(text) = str::from_utf8(stdout) {
            let text = text.trim();
            if let Ok(json) = serde_json::from_str(text) {
                return Some(json);
            }
            if text.starts_with("unix://") {
                return Some(Self { address: text.to_owned(), version: 2 });
            }
        }
        let result = BootstrapResult::parse_from_bytes(stdout).ok()?;
        let BootstrapResult { address, version, .. } = result;
        address.starts_with("unix://").then_some(Self { address, version })
    }

    pub(super) fn service(&self) -> &'static str {
        if self.version >= 3 { "containerd.task.v3.Task" } else { "containerd.task.v2.Task" }
    }
}

/// Input of `start` on stdin for shims since containerd 2.3. `options` is a protobuf `Any`, or
/// empty.
pub(crate) fn bootstrap_params(
    id: &str,
    namespace: &Id,
    grpc_address: &str,
    ttrpc_address: &str,
    options: &[u8],
) -> Vec<u8> {
    let extension = |bytes: &[u8]| Extension {
        // Always an `Any`: it was encoded from one.
        value: Any::parse_from_bytes(bytes).ok().into(),
        ..Extension::default()
    };
    let given = Some(options).filter(|options| !options.is_empty());
    let params = BootstrapParams {
        instance_id: id.to_owned(),
        namespace: namespace.to_string(),
        containerd_grpc_address: grpc_address.to_owned(),
        containerd_ttrpc_address: ttrpc_address.to_owned(),
        extensions: given.map(extension).into_iter().collect(),
        ..BootstrapParams::default()
    };
    // Never fails: the message has no required field and is small.
    params.write_to_bytes().unwrap_or_default()
}

/// Exit and pid of a container in the output of `delete`.
pub(crate) fn deleted(stdout: &[u8]) -> Option<(u32, Exit)> {
    DeleteResponse::parse_from_bytes(stdout).ok().map(of_delete)
}

pub(crate) fn of_delete(response: DeleteResponse) -> (u32, Exit) {
    (response.pid, exit(response.exit_status, response.exited_at))
}

fn exit(status: u32, at: MessageField<Timestamp>) -> Exit {
    // A process that never ran has the status 0xffffffff there, of which the low 8 bits count.
    let status = ExitStatus::code(status.cast_signed());
    // Before 1970 for a process that never ran.
    let since = at.as_ref().and_then(|at| u64::try_from(at.seconds).ok().zip(Some(at.nanos)));
    let time = since.map(|(seconds, nanos)| {
        Duration::from_secs(seconds) + Duration::from_nanos(nanos.unsigned_abs().into())
    });
    match time.and_then(|time| UNIX_EPOCH.checked_add(time)) {
        Some(at) => Exit { status, at },
        None => Exit::now(status),
    }
}

/// The exit in the answer of a `Wait`.
pub(crate) fn of_wait(answer: &WaitResponse) -> Exit {
    exit(answer.exit_status, answer.exited_at.clone())
}

/// True if a shim has answered with this code.
pub(crate) fn has_code(error: &ttrpc::Error, code: Code) -> bool {
    matches!(error, ttrpc::Error::RpcStatus(status) if status.code() == code)
}

/// The exit of a container's init, if it has ended.
pub(super) fn of_state(answer: StateResponse) -> Option<Exit> {
    let has_ended = answer.status.enum_value() == Ok(Status::STOPPED);
    has_ended.then(|| exit(answer.exit_status, answer.exited_at))
}

/// A call on the wire. A timeout of 0 is none.
pub(super) fn encode<Q: Message>(
    service: &str,
    method: &str,
    request: &Q,
    metadata: HashMap<String, Vec<String>>,
    timeout_nano: i64,
) -> ttrpc::Result<Request> {
    Ok(Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: request.write_to_bytes().map_err(other)?,
        timeout_nano,
        metadata: context::to_pb(metadata),
        ..Request::default()
    })
}

/// The answer of a call.
pub(super) fn decode<A: Message>(response: &Response) -> ttrpc::Result<A> {
    A::parse_from_bytes(&response.payload).map_err(other)
}

fn other(error: protobuf::Error) -> ttrpc::Error {
    ttrpc::Error::Others(error.to_string())
}

/// A connection to a shim. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ShimClient {
    client: Client,
    service: &'static str,
    namespace: String,
}

impl ShimClient {
    /// Connects to a shim that serves a containerd namespace.
    pub(crate) async fn connect(address: &ShimAddress, namespace: &Id) -> ttrpc::Result<Self> {
        let failed = |error: io::Error| {
            ttrpc::Error::Others(format!("connect to {}: {error}", address.address))
        };
        let stream = connect_within(&address.address, TIMEOUT).await.map_err(failed)?;
        let client = Client::new(Socket::from(stream));
        Ok(Self { client, service: address.service(), namespace: namespace.to_string() })
    }

    /// A call with the metadata and the timeout of another one. A timeout of 0 is none.
    pub(crate) async fn forward<Q: Message, A: Message>(
        &self,
        method: &str,
        request: &Q,
        mut metadata: HashMap<String, Vec<String>>,
        timeout_nano: i64,
    ) -> ttrpc::Result<A> {
        metadata.entry(NAMESPACE.to_owned()).or_insert_with(|| vec![self.namespace.clone()]);
        let call = encode(self.service, method, request, metadata, timeout_nano)?;
        decode(&self.client.request(call).await?)
    }

    async fn call<Q: Message, A: Message>(&self, method: &str, request: &Q) -> ttrpc::Result<A> {
        let timeout = i64::try_from(TIMEOUT.as_nanos()).unwrap_or(i64::MAX);
        self.forward(method, request, HashMap::new(), timeout).await
    }

    /// Pid of the shim.
    pub(crate) async fn pid(&self, id: &str) -> ttrpc::Result<u32> {
        let request = ConnectRequest { id: id.to_owned(), ..Default::default() };
        let answer: ConnectResponse = self.call("Connect", &request).await?;
        Ok(answer.shim_pid)
    }

    /// Sends a signal to the init of a container.
    pub(crate) async fn kill(&self, id: &str, signal: u32) -> ttrpc::Result<()> {
        let request = KillRequest { id: id.to_owned(), signal, ..Default::default() };
        let _: Empty = self.call("Kill", &request).await?;
        Ok(())
    }

    /// Waits for the end of a process of a container, without a timeout. `exec` is empty for the
    /// init.
    pub(crate) async fn wait(&self, id: &str, exec: &str) -> ttrpc::Result<Exit> {
        let request =
            WaitRequest { id: id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        let answer: WaitResponse = self.forward("Wait", &request, HashMap::new(), 0).await?;
        Ok(of_wait(&answer))
    }

    /// Deletes a container that has ended. Returns its pid and its exit.
    pub(crate) async fn delete(&self, id: &str) -> ttrpc::Result<(u32, Exit)> {
        let request = DeleteRequest { id: id.to_owned(), ..Default::default() };
        Ok(of_delete(self.call("Delete", &request).await?))
    }

    /// Ends a container in any state and deletes it.
    pub(crate) async fn end(&self, id: &str) -> ttrpc::Result<(u32, Exit)> {
        // An error: it has ended already, or there is no container, which `delete` reports.
        if self.kill(id, SIGKILL).await.is_ok() {
            self.wait(id, "").await?;
        }
        self.delete(id).await
    }

    /// Asks the shim to end, which it does without containers.
    pub(crate) async fn shutdown(&self, id: &str) -> ttrpc::Result<()> {
        let request = ShutdownRequest { id: id.to_owned(), ..Default::default() };
        let _: Empty = self.call("Shutdown", &request).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_all_versions_name_address_and_version() {
        let address = |version| ShimAddress { address: "unix:///run/s/1".to_owned(), version };
        let result = BootstrapResult {
            version: 3,
            address: "unix:///run/s/1".to_owned(),
            protocol: "ttrpc".to_owned(),
            ..Default::default()
        };
        let json = br#"{"version":3,"address":"unix:///run/s/1","protocol":"ttrpc"}"#;
        assert_eq!(ShimAddress::parse(b"unix:///run/s/1\n"), Some(address(2)));
        assert_eq!(ShimAddress::parse(json), Some(address(3)));
        assert_eq!(ShimAddress::parse(&result.write_to_bytes().unwrap()), Some(address(3)));
        for other in [&b""[..], b"vsock://1", b"{}", b"\xff\xff", b"error: no luck"] {
            assert_eq!(ShimAddress::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_version_selects_the_service() {
        for (version, service) in [(2, "containerd.task.v2.Task"), (3, "containerd.task.v3.Task")] {
            let address = ShimAddress { address: String::new(), version };
            assert_eq!(address.service(), service);
        }
    }
}
