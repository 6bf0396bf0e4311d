//! The client of another shim's Task service without Tokio, for the action `delete`. The thin shim
//! has no other use for an asynchronous client, which is a sixth of its size.

use std::{
    collections::HashMap,
    io,
    os::fd::IntoRawFd,
    path::Path,
    time::{Duration, Instant},
};

use containerd_shim_protos::{
    api::{
        DeleteRequest, Empty, KillRequest, ShutdownRequest, StateRequest, WaitRequest, WaitResponse,
    },
    protobuf::Message,
    ttrpc,
};

use super::shim_client::{NAMESPACE, SIGKILL, ShimAddress, decode, encode, of_delete, of_state};
use crate::{bootstrap::socket::connect_within, engine::exit::Exit, id::Id};

/// A connection to a shim whose calls end at a deadline.
pub(crate) struct BlockingShimClient {
    client: ttrpc::Client,
    service: &'static str,
    namespace: String,
    deadline: Instant,
}

impl BlockingShimClient {
    /// Connects to a shim that serves a containerd namespace.
    pub(crate) fn connect(
        address: &ShimAddress,
        namespace: &Id,
        deadline: Instant,
    ) -> ttrpc::Result<Self> {
        let path = address.address.strip_prefix("unix://").unwrap_or(&address.address);
        let failed = |error: io::Error| ttrpc::Error::Socket(error.to_string());
        let stream = connect_within(Path::new(path), left(deadline)).map_err(failed)?;
        // ttrpc takes ownership of the descriptor and closes it.
        let client = ttrpc::Client::new(stream.into_raw_fd())?;
        let service = address.service();
        Ok(Self { client, service, namespace: namespace.to_string(), deadline })
    }

    /// The exit of a container's init, if it has ended.
    pub(crate) fn exit(&self, id: &str) -> ttrpc::Result<Option<Exit>> {
        let request = StateRequest { id: id.to_owned(), ..Default::default() };
        Ok(of_state(self.call("State", &request)?))
    }

    /// Ends a container in any state and deletes it. Returns its pid and its exit.
    pub(crate) fn end(&self, id: &str) -> ttrpc::Result<(u32, Exit)> {
        let request = KillRequest { id: id.to_owned(), signal: SIGKILL, ..Default::default() };
        // An error: it has ended already, or there is no container, which `Delete` reports.
        if self.call::<_, Empty>("Kill", &request).is_ok() {
            let request = WaitRequest { id: id.to_owned(), ..Default::default() };
            let _: WaitResponse = self.call("Wait", &request)?;
        }
        let request = DeleteRequest { id: id.to_owned(), ..Default::default() };
        Ok(of_delete(self.call("Delete", &request)?))
    }

    /// Asks the shim to end, which it does without containers.
    pub(crate) fn shutdown(&self, id: &str) -> ttrpc::Result<()> {
        let request = ShutdownRequest { id: id.to_owned(), ..Default::default() };
        let _: Empty = self.call("Shutdown", &request)?;
        Ok(())
    }

    fn call<Q: Message, A: Message>(&self, method: &str, request: &Q) -> ttrpc::Result<A> {
        let metadata = HashMap::from([(NAMESPACE.to_owned(), vec![self.namespace.clone()])]);
        // At least one: 0 is no timeout.
        let timeout = i64::try_from(left(self.deadline).as_nanos()).unwrap_or(i64::MAX).max(1);
        let call = encode(self.service, method, request, metadata, timeout)?;
        decode(&self.client.request(call)?)
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
